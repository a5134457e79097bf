package interop

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/internal/dovecot"
)

// odd are messages that clients handle incorrectly, as they are stored, and as they must be retrieved.
var odd = []struct{ name, stored, want string }{
	{name: "plain", stored: "Subject: plain\r\n\r\nhello\r\nworld\r\n"},
	{name: "dot lines", stored: "Subject: dots\r\n\r\n.\r\n..\r\n.foo\r\n...bar\r\n.\r\nx.\r\n.\r\n"},
	{name: "long line", stored: "Subject: long\r\n\r\nbefore\r\n" + strings.Repeat("A", 100_000) + "\r\nafter\r\n"},
	{name: "8-bit", stored: "Subject: 8bit\r\n\r\nutf8 h\xc3\xa9llo latin1 h\xe9llo \x80\xff ctl \x01\x07\x1b\x7f\r\n"},
	{name: "NUL", stored: "Subject: nul\r\n\r\nnul[\x00]nul\r\n"},
	{name: "bare CR", stored: "Subject: cr\r\n\r\ncr[\r]cr\r\n\r.\r\nend\r\n"},
	{name: "empty body", stored: "Subject: empty\r\n\r\n"},
	{name: "headers only", stored: "Subject: headers only\r\n"},
	{name: "no final newline", stored: "Subject: cut\r\n\r\nlast line", want: "Subject: cut\r\n\r\nlast line\r\n"},
	{name: "ends in a dot", stored: "Subject: dot\r\n\r\nends in a dot\r\n.", want: "Subject: dot\r\n\r\nends in a dot\r\n.\r\n"},
}

func oddTexts() (stored, want []string) {
	for _, m := range odd {
		stored = append(stored, m.stored)
		if m.want == "" {
			m.want = m.stored
		}
		want = append(want, m.want)
	}
	return stored, want
}

// TestDovecot logs in to a real server with every method, and compares every message byte for byte with the stored one.
func TestDovecot(t *testing.T) {
	s := dovecot.Start(t, dovecot.Options{})
	stored, want := oddTexts()
	s.Deliver("u1", stored...)
	tlsOpts := &pop3.Options{TLSConfig: s.TLSConfig()}

	for _, connect := range []struct {
		name string
		dial func(t *testing.T) (*pop3.Client, error)
	}{
		{"implicit TLS", func(t *testing.T) (*pop3.Client, error) { return pop3.DialTLS(t.Context(), s.TLSAddr, tlsOpts) }},
		{"STLS", func(t *testing.T) (*pop3.Client, error) { return pop3.DialStartTLS(t.Context(), s.Addr, tlsOpts) }},
		{"clear", func(t *testing.T) (*pop3.Client, error) {
			return pop3.Dial(t.Context(), s.Addr, &pop3.Options{AllowInsecureLogin: true})
		}},
	} {
		for _, login := range []struct {
			name string
			do   func(t *testing.T, c *pop3.Client) error
		}{
			{"Login", func(t *testing.T, c *pop3.Client) error { return c.Login(t.Context(), "u1", s.Password("u1")) }},
			{"USER and PASS", func(t *testing.T, c *pop3.Client) error {
				return errors.Join(c.User(t.Context(), "u1"), c.Pass(t.Context(), s.Password("u1")))
			}},
			{"APOP", func(t *testing.T, c *pop3.Client) error {
				if c.Challenge() == "" { // discarded by STLS
					t.Skip("no challenge")
				}
				return c.APOP(t.Context(), "u1", s.Password("u1"))
			}},
			{"PLAIN", func(t *testing.T, c *pop3.Client) error { return c.Auth(t.Context(), plain{"u1", s.Password("u1")}) }},
			{"XOAUTH2", func(t *testing.T, c *pop3.Client) error {
				return c.Auth(t.Context(), pop3.XOAUTH2("u1", s.Token("u1")))
			}},
		} {
			t.Run(connect.name+"/"+login.name, func(t *testing.T) {
				c, err := connect.dial(t)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := login.do(t, c); err != nil {
					t.Fatal(err)
				}
				for i, text := range want {
					m, err := c.Retr(t.Context(), i+1)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(m)
					if err != nil || string(got) != text {
						t.Errorf("%s: %v, differs:\n%s", odd[i].name, err, cmp.Diff(clip(text), clip(string(got))))
					}
				}
				if err := c.Quit(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}

	t.Run("wrong password", func(t *testing.T) {
		c, err := pop3.DialTLS(t.Context(), s.TLSAddr, tlsOpts)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, err := range []error{
			c.Auth(t.Context(), plain{"u1", "no-such-password"}),
			c.Auth(t.Context(), pop3.XOAUTH2("u1", "no-such-token")),
		} {
			var refused *pop3.ServerError
			if !errors.As(err, &refused) || refused.Code != pop3.CodeAuth || strings.Contains(err.Error(), "no-such") {
				t.Errorf("%v", err)
			}
		}
		if err := c.Login(t.Context(), "u1", s.Password("u1")); err != nil {
			t.Errorf("after the refusals: %v", err)
		}
	})
}

func clip(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%q… %d bytes, MD5 %x", s[:200], len(s), md5.Sum([]byte(s)))
	}
	return fmt.Sprintf("%q", s)
}

// plain is SASL PLAIN (RFC 4616).
type plain struct{ user, password string }

func (p plain) Start() (string, []byte, error) {
	return "PLAIN", []byte("\x00" + p.user + "\x00" + p.password), nil
}

func (p plain) Next([]byte) ([]byte, error) { return nil, errors.New("unexpected challenge") }

// TestDovecotEveryMethod calls every method in a session. Deletions take effect at QUIT and not before.
func TestDovecotEveryMethod(t *testing.T) {
	s := dovecot.Start(t, dovecot.Options{})
	stored, want := oddTexts()
	s.Deliver("u2", stored...)
	open := func() *pop3.Client {
		c, err := pop3.DialTLS(t.Context(), s.TLSAddr, &pop3.Options{TLSConfig: s.TLSConfig()})
		if err == nil {
			err = c.Login(t.Context(), "u2", s.Password("u2"))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	count := func(c *pop3.Client) int {
		n, _, err := c.Stat(t.Context())
		check("STAT", err)
		return n
	}

	c := open()
	caps, err := c.Capabilities(t.Context())
	if err != nil || !caps.Has("PIPELINING") || !caps.Has("uidl") || !caps.Has("TOP") {
		t.Errorf("capabilities %v, %v", caps, err)
	}
	check("NOOP", c.Noop(t.Context()))
	if n := count(c); n != len(want) {
		t.Fatalf("%d messages", n)
	}
	entries, err := c.List(t.Context())
	check("LIST", err)
	n := 0
	for e := range entries.C() {
		n++
		size, err := c.Size(t.Context(), e.Number)
		if err != nil || size != e.Size || e.Number != n {
			t.Errorf("LIST contains %v, LIST %d returns %d, %v", e, e.Number, size, err)
		}
	}
	check("LIST", entries.Err())
	uids, err := c.UIDL(t.Context())
	check("UIDL", err)
	for u, err := range uids.All() {
		check("UIDL", err)
		if id, err := c.UID(t.Context(), u.Number); err != nil || id != u.ID {
			t.Errorf("UIDL contains %v, UIDL %d returns %q, %v", u, u.Number, id, err)
		}
	}
	top, err := c.Top(t.Context(), 1, 1)
	check("TOP", err)
	if text, err := io.ReadAll(top); err != nil || string(text) != "Subject: plain\r\n\r\nhello\r\n" {
		t.Errorf("TOP 1 1 is %q, %v", text, err)
	}
	i := 0
	for m, err := range c.RetrAll(t.Context(), []int{1, 99, 2, 3}) {
		check("RetrAll", err)
		text, err := io.ReadAll(m)
		if m.Number == 99 {
			var refused *pop3.ServerError
			if !errors.As(err, &refused) {
				t.Errorf("RETR 99: %v", err)
			}
			continue
		}
		if err != nil || string(text) != want[i] {
			t.Errorf("RetrAll: message %d: %v", m.Number, err)
		}
		i++
	}
	m, err := c.CmdMultiline(t.Context(), "RETR", "2")
	check("CmdMultiline", err)
	check("Close", m.Close())
	check("DELE", c.Dele(t.Context(), 1))
	check("RSET", c.Rset(t.Context()))
	check("DELE", c.Dele(t.Context(), 1))
	check("DeleAll", c.DeleAll(t.Context(), []int{2, 3}))
	if _, err := c.Cmd(t.Context(), "XTND", "XMIT"); err == nil {
		t.Error("XTND accepted")
	}
	c.Close() // no QUIT

	c = open()
	if n := count(c); n != len(want) {
		t.Fatalf("%d messages left after a session without QUIT", n)
	}
	check("DeleAll", c.DeleAll(t.Context(), []int{1, 2, 3}))
	check("QUIT", c.Quit(t.Context()))
	c = open()
	if n := count(c); n != len(want)-3 {
		t.Errorf("%d messages left after QUIT", n)
	}
	check("QUIT", c.Quit(t.Context()))
}

// TestDovecotBig streams 200 MB in which every line begins with a dot, without storing them.
func TestDovecotBig(t *testing.T) {
	if testing.Short() {
		t.Skip("200 MB")
	}
	s := dovecot.Start(t, dovecot.Options{})
	block := bytes.Repeat([]byte("."+strings.Repeat("x", 74)+"\r\n"), 1000)
	want := fnv.New64a()
	var size int64
	s.DeliverFunc("u3", 1, func(w io.Writer, _ int) error {
		both := io.MultiWriter(w, want)
		io.WriteString(both, "Subject: big\r\n\r\n")
		size = 16
		for size < 200_000_000 {
			if _, err := both.Write(block); err != nil {
				return err
			}
			size += int64(len(block))
		}
		return nil
	})
	c, err := pop3.DialTLS(t.Context(), s.TLSAddr, &pop3.Options{TLSConfig: s.TLSConfig()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(t.Context(), "u3", s.Password("u3")); err != nil {
		t.Fatal(err)
	}
	m, err := c.Retr(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	got := fnv.New64a()
	n, err := io.Copy(got, m)
	if err != nil || n != size || got.Sum64() != want.Sum64() {
		t.Errorf("%d bytes of %d, %v, same: %v", n, size, err, got.Sum64() == want.Sum64())
	}
}
