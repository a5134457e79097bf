// Package dovecot runs a private Dovecot POP3 server for tests, as root or as an ordinary user.
package dovecot

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/daemon"
	"github.com/seed-5b1d5243/pop3/internal/mailstore"
)

// Options configures the server. The zero value selects the defaults.
type Options struct {
	Format      string // of the mailboxes: maildir (the default), mbox, sdbox or mdbox
	Users       int    // the users are u1 … uN; 0 means 5
	Sessions    int    // concurrent sessions, if more than 1000
	LockSession bool   // pop3_lock_session: a second login waits about 11 seconds, then gets [IN-USE]
	External    bool   // SASL EXTERNAL by client certificate, over TLS
	Settings    string // further lines of dovecot.conf
}

// Server is a running Dovecot. It ends with the test.
type Server struct {
	Addr    string // without TLS; STLS is available
	TLSAddr string // implicit TLS

	t         testing.TB
	dir       string
	format    string
	uid, gid  int // owner of the mail
	authority *daemon.Authority
	process   *daemon.Process
	delivered int // messages so far
}

// tokenKey signs the tokens for XOAUTH2 and OAUTHBEARER.
const tokenKey = "a key that only tests know, 32 bytes or more"

// Start runs a server whose mailboxes are empty. If Dovecot 2.3 is not installed the test is skipped, or fails if the
// environment variable POP3_REQUIRE lists "dovecot".
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	program := find(t)
	dir := daemon.Dir(t)
	port, tlsPort := daemon.Port(t), daemon.Port(t)
	s := &Server{
		Addr: daemon.Addr(port), TLSAddr: daemon.Addr(tlsPort),
		t: t, dir: dir, format: opts.Format,
		uid: os.Getuid(), gid: os.Getgid(),
		authority: daemon.NewAuthority(t, dir),
	}
	if s.format == "" {
		s.format = "maildir"
	}
	if s.uid == 0 { // Dovecot never opens mail as root
		mail, err := user.Lookup("mail")
		if err != nil {
			t.Fatal(err)
		}
		s.uid, _ = strconv.Atoi(mail.Uid)
		s.gid, _ = strconv.Atoi(mail.Gid)
	}
	if opts.Users == 0 {
		opts.Users = 5
	}

	var users strings.Builder
	for i := range opts.Users {
		name := "u" + strconv.Itoa(i+1)
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", name, s.Password(name))
	}
	s.write("users", users.String())
	s.write("keys/default/HS256/default", base64.StdEncoding.EncodeToString([]byte(tokenKey)))
	s.write("oauth2.conf", "introspection_mode = local\n"+
		"local_validation_key_dict = fs:posix:prefix="+dir+"/keys/\n"+
		"username_attribute = sub\n"+
		"username_format = %u\n")
	s.write("dovecot.conf", s.config(opts, port, tlsPort))
	s.mkdir("mail")
	s.own("mail")
	s.process = daemon.Start(t, dir, []string{s.Addr, s.TLSAddr}, program, "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	return s
}

// find returns the path of a Dovecot that this package knows how to configure.
func find(t testing.TB) string {
	t.Helper()
	const missing = "Dovecot is not installed: apt-get install dovecot-pop3d"
	program, err := exec.LookPath("dovecot")
	if err != nil {
		program = "/usr/sbin/dovecot" // not in the PATH of an ordinary user
	}
	version, err := exec.Command(program, "--version").Output()
	if err != nil {
		daemon.Skip(t, "dovecot", missing)
	}
	if !strings.HasPrefix(string(version), "2.3.") {
		daemon.Skip(t, "dovecot", "Dovecot 2.3 is needed, this is "+string(version))
	}
	if modules, _ := filepath.Glob("/usr/lib*/dovecot/pop3"); len(modules) == 0 {
		daemon.Skip(t, "dovecot", missing)
	}
	return program
}

// Password returns the password of a user.
func (s *Server) Password(user string) string { return "secret" + strings.TrimPrefix(user, "u") }

// TLSConfig returns a client configuration that trusts the server's certificate.
func (s *Server) TLSConfig() *tls.Config { return s.authority.TLSConfig() }

// ClientCertificate makes a certificate with which user logs in by EXTERNAL, see [Options].
func (s *Server) ClientCertificate(user string) tls.Certificate {
	return s.authority.ClientCertificate(s.t, user)
}

// Token makes a JSON Web Token with which user logs in by XOAUTH2 or OAUTHBEARER, valid for a day.
func (s *Server) Token(user string) string {
	return s.PaddedToken(user, 0)
}

// PaddedToken makes a token with an ignored claim of that many bytes.
func (s *Server) PaddedToken(user string, octets int) string {
	encode := base64.RawURLEncoding.EncodeToString
	now := time.Now().Unix()
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"nbf":%d,"exp":%d,"padding":%q}`,
		user, now-60, now-60, now+86400, strings.Repeat("x", octets))
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(tokenKey))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// Stop asks the server to end and waits until it is gone. Open sessions are dropped.
func (s *Server) Stop() { s.process.Stop() }

// Kill ends the server and all sessions at once.
func (s *Server) Kill() { s.process.Kill() }

// Log returns the server's log.
func (s *Server) Log() string {
	log, _ := os.ReadFile(filepath.Join(s.dir, "dovecot.log"))
	return string(log)
}

func (s *Server) write(name, content string) {
	s.t.Helper()
	s.mkdir(filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) mkdir(name string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// own makes the owner of the mail the owner of a tree.
func (s *Server) own(name string) {
	s.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	if err := mailstore.Own(filepath.Join(s.dir, name), s.uid, s.gid); err != nil {
		s.t.Fatal(err)
	}
}
