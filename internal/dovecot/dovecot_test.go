package dovecot_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/dovecot"
)

const message = "Subject: hello\r\n\r\n.dots\r\n..\r\nFrom the start\r\n"

func TestFormats(t *testing.T) {
	for _, format := range []string{"maildir", "mbox", "sdbox", "mdbox"} {
		t.Run(format, func(t *testing.T) {
			s := dovecot.Start(t, dovecot.Options{Format: format})
			s.Deliver("u1", message, strings.ReplaceAll(message, "\r\n", "\n"))
			c := dial(t, s.Addr)
			expect(t, c, "USER u1", "+OK")
			expect(t, c, "PASS "+s.Password("u1"), "+OK")
			expect(t, c, "STAT", fmt.Sprintf("+OK 2 %d", 2*len(message)))
			for _, n := range []string{"1", "2"} {
				expect(t, c, "RETR "+n, "+OK")
				got, err := c.ReadDotBytes()
				if want := strings.ReplaceAll(message, "\r\n", "\n"); err != nil || string(got) != want {
					t.Errorf("RETR %s: %q, %v, want %q", n, got, err, want)
				}
			}
			expect(t, c, "DELE 1", "+OK")
			expect(t, c, "QUIT", "+OK")

			s.Deliver("u1", message)
			c = dial(t, s.Addr)
			expect(t, c, "USER u1", "+OK")
			expect(t, c, "PASS "+s.Password("u1"), "+OK")
			expect(t, c, "STAT", "+OK 2")
		})
	}
}

func TestLogins(t *testing.T) {
	s := dovecot.Start(t, dovecot.Options{External: true})
	t.Run("wrong password", func(t *testing.T) {
		c := dial(t, s.Addr)
		expect(t, c, "USER u1", "+OK")
		expect(t, c, "PASS wrong", "-ERR [AUTH]")
	})
	t.Run("token", func(t *testing.T) {
		for _, token := range []string{s.Token("u2"), s.PaddedToken("u2", 3000)} {
			c := dial(t, s.Addr)
			expect(t, c, "AUTH XOAUTH2", "+ ")
			expect(t, c, b64("user=u2\x01auth=Bearer "+token+"\x01\x01"), "+OK")
		}
	})
	t.Run("certificate", func(t *testing.T) {
		config := s.TLSConfig()
		config.Certificates = []tls.Certificate{s.ClientCertificate("u3")}
		conn, err := tls.Dial("tcp", s.TLSAddr, config)
		if err != nil {
			t.Fatal(err)
		}
		c := greeted(t, conn)
		expect(t, c, "AUTH EXTERNAL =", "+OK")
	})
}

func TestStop(t *testing.T) {
	for _, end := range []func(*dovecot.Server){(*dovecot.Server).Stop, (*dovecot.Server).Kill} {
		s := dovecot.Start(t, dovecot.Options{})
		s.Deliver("u1", message)
		if files, err := os.ReadDir(s.Maildir("u1")); err != nil || len(files) != 1 {
			t.Errorf("Maildir: %v, %v, want one file", files, err)
		}
		c := dial(t, s.Addr)
		expect(t, c, "USER u1", "+OK")
		expect(t, c, "PASS "+s.Password("u1"), "+OK")
		end(s)
		for {
			if _, err := c.ReadLine(); err != nil {
				break
			}
		}
		if conn, err := net.Dial("tcp", s.Addr); err == nil {
			conn.Close()
			t.Error("still listening")
		}
	}
}

func dial(t *testing.T, addr string) *textproto.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return greeted(t, conn)
}

func greeted(t *testing.T, conn net.Conn) *textproto.Conn {
	t.Helper()
	c := textproto.NewConn(conn)
	t.Cleanup(func() { c.Close() })
	if line, err := c.ReadLine(); err != nil || !strings.HasPrefix(line, "+OK") {
		t.Fatalf("greeting %q, %v", line, err)
	}
	return c
}

// expect sends a command and reads one line.
func expect(t *testing.T, c *textproto.Conn, command, prefix string) {
	t.Helper()
	if err := c.PrintfLine("%s", command); err != nil {
		t.Fatal(err)
	}
	if line, err := c.ReadLine(); err != nil || !strings.HasPrefix(line, prefix) {
		t.Fatalf("%s: %q, %v, want %s", command, line, err, prefix)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
