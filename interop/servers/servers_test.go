package servers_test

import (
	"crypto/tls"
	"net"
	"net/textproto"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/interop/servers"
)

// Test each server without the library: login, STAT, RETR and QUIT on both ports.
func TestStart(t *testing.T) {
	const message = "Subject: hello\n\n.dot\nend\n"
	for _, name := range servers.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servers.Start(t, name)
			for _, secure := range []bool{false, true} {
				conn, err := net.Dial("tcp", s.Addr)
				if secure {
					conn, err = tls.Dial("tcp", s.TLSAddr, s.TLSConfig())
				}
				if err != nil {
					t.Fatal(err)
				}
				c := textproto.NewConn(conn)
				defer c.Close()
				user := s.NewUser(t, message)
				for _, command := range []string{"", "USER " + user, "PASS " + s.Password(user), "STAT", "RETR 1"} {
					if command != "" {
						c.PrintfLine("%s", command)
					}
					line, err := c.ReadLine()
					if err != nil || !strings.HasPrefix(line, "+OK") {
						t.Fatalf("TLS %v: %q: %q, %v", secure, command, line, err)
					}
					t.Logf("%s: %s", command, line)
				}
				got, err := c.ReadDotLines()
				if err != nil || !strings.Contains(strings.Join(got, "\r\n")+"\r\n", "\r\n.dot\r\nend\r\n") {
					t.Errorf("TLS %v: %q, %v", secure, got, err)
				}
				t.Logf("%q", got)
			}
		})
	}
}
