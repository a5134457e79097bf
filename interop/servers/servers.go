// Package servers starts the POP3 servers that the library is tested against, each in a directory
// of its own and on loopback only.
//
// All but Dovecot run as root inside a layer that install.sh has put their package into (a mount
// namespace in which /usr, /etc, /var and /run are overlays), so that the machine stays as it is.
// With POP3_INTEROP_SYSTEM=1 they are taken from the machine itself, which must be a throw-away
// container: their users and their configuration are written to its /etc and /var.
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
	Addr    string // in the clear, with STLS where the server has it
	TLSAddr string // implicit TLS
	Traits

	// Token makes a token for XOAUTH2 and OAUTHBEARER with padding of that many octets; nil: not understood.
	Token func(user string, padding int) string
	// ClientCertificate makes one for EXTERNAL; nil: not understood.
	ClientCertificate func(user string) tls.Certificate

	tls     func() *tls.Config
	deliver func(user string, count int, message mailstore.Message)
	users   int
}

// TLSConfig is what a client needs to trust the server.
func (s *Server) TLSConfig() *tls.Config { return s.tls() }

// Password is the password of a user, for every way to log in.
func (s *Server) Password(user string) string { return "secret" + strings.TrimPrefix(user, "u") }

// NewUser delivers messages to a user whom nobody has asked for before.
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

// Names are the servers that Start knows.
func Names() []string {
	return []string{"dovecot-maildir", "dovecot-mbox", "dovecot-mdbox", "courier", "cyrus", "mailutils", "popa3d", "solid-pop3d", "twisted"}
}

// Start runs a server, or skips the test where it is not installed. The environment variable
// POP3_REQUIRE, a comma-separated list of names (of "dovecot" for all of Dovecot's formats, of
// "all" for everything), turns the skip into a failure.
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
