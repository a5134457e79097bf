// Package servers starts the POP3 servers that the library is tested against, each in its own directory and on loopback
// only.
//
// All servers except Dovecot run as root inside a layer into which install.sh has installed their package: a mount
// namespace in which /usr, /etc, /var and /run are overlays, so that the machine is not changed. With
// POP3_INTEROP_SYSTEM=1 the servers installed on the machine itself are used, which must be a disposable container:
// their users and their configuration are written to its /etc and /var.
package servers

import (
	"crypto/tls"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/dovecot"
	"github.com/seed-5b1d5243/pop3/internal/mailstore"
)

// Users is the number of users of every server: u1, u2 and so on, with empty mailboxes.
const Users = 60

// Server is a running server. It ends with the test.
type Server struct {
	Name    string
	Addr    string // without TLS; STLS is available if the server supports it
	TLSAddr string // implicit TLS
	Traits

	// Token makes a token for XOAUTH2 and OAUTHBEARER with padding of that many bytes. If nil, they are not supported.
	Token func(user string, padding int) string
	// ClientCertificate makes a certificate for EXTERNAL. If nil, that is not supported.
	ClientCertificate func(user string) tls.Certificate

	tls     func() *tls.Config
	deliver func(user string, count int, message mailstore.Message)
	users   int
}

// TLSConfig returns a client configuration that trusts the server's certificate.
func (s *Server) TLSConfig() *tls.Config { return s.tls() }

// Password returns the password of a user, for every login method.
func (s *Server) Password(user string) string { return "secret" + strings.TrimPrefix(user, "u") }

// NewUser delivers messages to a user that has not been used before.
func (s *Server) NewUser(t testing.TB, messages ...string) string {
	t.Helper()
	return s.NewUserFunc(t, len(messages), mailstore.Texts(messages))
}

// NewUserFunc delivers count messages, each written by a call of message, to a new user.
func (s *Server) NewUserFunc(t testing.TB, count int, message mailstore.Message) string {
	t.Helper()
	if s.users == Users {
		t.Fatal("no user is left")
	}
	s.users++
	user := "u" + strconv.Itoa(s.users)
	s.deliver(user, count, message)
	return user
}

// Names are the servers that Start supports.
func Names() []string {
	return []string{"dovecot-maildir", "dovecot-mbox", "dovecot-mdbox", "courier", "cyrus", "mailutils", "popa3d", "solid-pop3d", "twisted"}
}

// Start runs a server, or skips the test if it is not installed. The environment variable POP3_REQUIRE turns the skip
// into a failure. It is a comma-separated list of names, of "dovecot" for all of Dovecot's formats, or of "all".
func Start(t testing.TB, name string) *Server {
	t.Helper()
	if format, ok := strings.CutPrefix(name, "dovecot-"); ok {
		return startDovecot(t, name, format)
	}
	return startLayered(t, name)
}

func startDovecot(t testing.TB, name, format string) *Server {
	d := dovecot.Start(t, dovecot.Options{Format: format, Users: Users, External: true})
	return &Server{
		Name: name, Addr: d.Addr, TLSAddr: d.TLSAddr, Traits: traits[name],
		Token: d.PaddedToken, ClientCertificate: d.ClientCertificate,
		tls: d.TLSConfig, deliver: d.DeliverFunc,
	}
}
