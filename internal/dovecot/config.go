package dovecot

import (
	_ "embed"
	"os"
	"os/user"
	"strconv"
	"strings"
)

//go:embed dovecot.conf
var template string

// config fills the template in.
func (s *Server) config(opts Options, port, tlsPort int) string {
	internal, group, login, chroot := "dovecot", "dovecot", "dovenull", ""
	if os.Getuid() != 0 {
		// All processes run as the same user, who may not chroot.
		internal, group, login, chroot = userName(), groupName(), userName(), "chroot ="
	}
	location := map[string]string{
		"maildir": "maildir:%h/Maildir",
		"mbox":    "mbox:%h/mbox:INBOX=%h/inbox",
		"sdbox":   "sdbox:%h/sdbox",
		"mdbox":   "mdbox:%h/mdbox",
	}[s.format]
	if location == "" {
		s.t.Fatalf("Dovecot knows no format %q", s.format)
	}
	mechanisms := "plain login cram-md5 digest-md5 apop scram-sha-1 scram-sha-256 xoauth2 oauthbearer"
	external := ""
	if opts.External {
		mechanisms += " external"
		external = "ssl_ca = <" + s.dir + "/ca.pem\n" +
			"ssl_verify_client_cert = yes\n" +
			"ssl_require_crl = no\n" +
			"auth_ssl_username_from_cert = yes\n" +
			"passdb {\n  driver = static\n  mechanisms = external\n  args = nopassword=y\n}\n"
	}
	yes := map[bool]string{true: "yes", false: "no"}
	// A process for each session, until that would be too many processes.
	sessions, perProcess := max(1000, 2*opts.Sessions), 1
	if sessions > 2000 {
		perProcess = 100
	}
	return strings.NewReplacer(
		"@dir@", s.dir, "@port@", strconv.Itoa(port), "@tls_port@", strconv.Itoa(tlsPort),
		"@internal_user@", internal, "@internal_group@", group, "@login_user@", login, "@chroot@", chroot,
		"@uid@", strconv.Itoa(s.uid), "@gid@", strconv.Itoa(s.gid),
		"@location@", location, "@mechanisms@", mechanisms, "@external@", external,
		"@lock_session@", yes[opts.LockSession],
		"@sessions@", strconv.Itoa(sessions+10), // plus the login processes
		"@processes@", strconv.Itoa(sessions/perProcess),
		"@per_process@", strconv.Itoa(perProcess),
		"@settings@", opts.Settings,
	).Replace(template)
}

func userName() string {
	u, err := user.Current()
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return u.Username
}

func groupName() string {
	g, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		return strconv.Itoa(os.Getgid())
	}
	return g.Name
}
