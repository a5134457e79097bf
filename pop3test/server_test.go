package pop3test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// A complete session of RFC 1939, over a pipe and over a socket.
const walk = login + `
	C: STAT
	S: +OK 3 82
	C: LIST
	S: +OK 3 messages
	S: 1 23
	S: 2 33
	S: 3 26
	S: .
	C: LIST 2
	S: +OK 2 33
	C: UIDL 1
	S- +OK 1 
	C: UIDL
	S: +OK 3 messages
	S- 1 
	S- 2 
	S- 3 
	S: .
	C: RETR 2
	S: +OK message follows
	S: Subject: two
	S:
	S: ..
	S: ...
	S: ..x
	S: last
	S: .
	C: RETR 3
	S: +OK message follows
	S: Subject: three
	S:
	S: no end
	S: .
	C: TOP 2 2
	S: +OK message follows
	S: Subject: two
	S:
	S: ..
	S: ...
	S: .
	C: TOP 1 0
	S: +OK message follows
	S: Subject: one
	S:
	S: .
	C: TOP 1 2147483647
	S: +OK message follows
	S: Subject: one
	S:
	S: first
	S: .
	C: DELE 2
	S: +OK message deleted
	C: DELE 2
	S: -ERR message is deleted
	C: RETR 2
	S: -ERR message is deleted
	C: STAT
	S: +OK 2 49
	C: LIST
	S: +OK 2 messages
	S: 1 23
	S: 3 26
	S: .
	C: RSET
	S: +OK nothing is deleted
	C: STAT
	S: +OK 3 82
	C: dele 1
	S: +OK message deleted
	C: Dele 3
	S: +OK message deleted
	C: NOOP
	S: +OK nothing done
` + quit

func TestSession(t *testing.T) {
	for name, connect := range map[string]func(*testing.T, *Server) *client{"pipe": pipe, "tcp": dial} {
		t.Run(name, func(t *testing.T) {
			m := three()
			s := NewServer(m)
			defer s.Close()
			other := connect(t, s)
			other.talk(login)
			connect(t, s).talk(walk)
			if got, want := s.Deleted(), []string{m.UID(1), m.UID(3)}; !slices.Equal(got, want) {
				t.Errorf("deleted %q, want %q", got, want)
			}
			if got, want := s.Remaining(), []string{m.UID(2)}; !slices.Equal(got, want) {
				t.Errorf("remaining %q, want %q", got, want)
			}

			// A session that began before keeps its numbers, and cannot delete twice.
			other.talk(`
				C: LIST 3
				S: +OK 3 26
				C: DELE 3
				S: +OK message deleted` + quit)
			if n := len(s.Deleted()); n != 2 {
				t.Errorf("%d deleted, want 2", n)
			}
			connect(t, s).talk(login + `
				C: LIST
				S: +OK 1 messages
				S: 1 33
				S: .
				C: RETR 1
				S: +OK message follows
				S: Subject: two
				S:
				S: ..
				S: ...
				S: ..x
				S: last
				S: .
				C: DELE 1
				S: +OK message deleted` + quit)
			if n := len(s.Remaining()); n != 0 {
				t.Errorf("%d remaining, want none", n)
			}
		})
	}
}

func TestHangUpCommitsNothing(t *testing.T) {
	s := NewServer(three())
	c := pipe(t, s)
	c.talk(login + `
		C: DELE 1
		S: +OK message deleted`)
	c.Close()
	s.Close()
	if got := s.Deleted(); len(got) != 0 {
		t.Errorf("deleted %q", got)
	}
}

func TestRefusals(t *testing.T) {
	s := NewUnstartedServer(three())
	defer s.Close()
	c := pipe(t, s)
	c.talk(`
		S: +OK pop3test ready
		C: STAT
		S: -ERR not in this state
		C: PASS secret
		S: -ERR USER first
		C: USER user
		S: +OK send PASS
		C: CAPA x
		S: -ERR wrong number of arguments
		C: PASS secret
		S: -ERR USER first
		C: USER user
		S: +OK send PASS
		C: PASS wrong
		S: -ERR [AUTH] wrong user name or password
		C: PASS secret
		S: -ERR USER first
		C: USER nobody
		S: +OK send PASS
		C: PASS secret
		S: -ERR [AUTH] wrong user name or password
		C: USER
		S: -ERR wrong number of arguments
		C: APOP user x
		S: -ERR unknown command
		C: AUTH PLAIN
		S: -ERR unknown command
		C: UTF8
		S: -ERR unknown command
		C: LANG
		S: -ERR unknown command
		C: XTND
		S: -ERR unknown command
		C:
		S: -ERR unknown command
		C: USER user
		S: +OK send PASS
		C: PASS secret
		S: +OK logged in
		C: USER user
		S: -ERR not in this state
		C: STLS
		S: -ERR not in this state
		C: RETR
		S: -ERR wrong number of arguments
		C: LIST 
		S: -ERR wrong number of arguments
		C: NOOP 1
		S: -ERR wrong number of arguments
		C: RETR 0
		S: -ERR no such message
		C: RETR 4
		S: -ERR no such message
		C: RETR -1
		S: -ERR no such message
		C: RETR 1 2
		S: -ERR no such message
		C: LIST 18446744073709551617
		S: -ERR no such message
		C: TOP 1
		S: -ERR wrong number of lines
		C: TOP 1 -1
		S: -ERR wrong number of lines
		C: TOP 9 1
		S: -ERR no such message
	` + quit)
}

func TestEmptyMaildrop(t *testing.T) {
	s := NewUnstartedServer(nil)
	defer s.Close()
	pipe(t, s).talk(login + `
		C: STAT
		S: +OK 0 0
		C: LIST
		S: +OK 0 messages
		S: .
		C: DELE 1
		S: -ERR no such message` + quit)
	if got := s.Remaining(); len(got) != 0 {
		t.Errorf("remaining %q", got)
	}
}

func TestLines(t *testing.T) {
	s := NewUnstartedServer(nil)
	defer s.Close()
	c := pipe(t, s)
	c.talk("S: +OK pop3test ready")
	for _, test := range []struct{ line, answer string }{
		{"USER " + strings.Repeat("x", 248) + "\r\n", "+OK send PASS\r\n"},
		{"USER " + strings.Repeat("x", 249) + "\r\n", "-ERR line too long\r\n"},
		{"USER " + strings.Repeat("x", 1<<20) + "\r\n", "-ERR line too long\r\n"},
		{"NOOP\n", "-ERR a line ends with CRLF\r\n"},
		{"\n", "-ERR a line ends with CRLF\r\n"},
		{"USER a\rb\x00\r\n", "+OK send PASS\r\n"},
	} {
		io.WriteString(c, test.line)
		if got, _ := c.r.ReadString('\n'); got != test.answer {
			t.Errorf("%.20q: %q, want %q", test.line, got, test.answer)
		}
	}
	commands := s.Commands()
	if n := len(commands); n != 6 {
		t.Fatalf("%d commands, want 6", n)
	}
	if n := len(commands[2]); n > 8192 {
		t.Errorf("%d octets of an endless line are kept", n)
	}
	if got, want := commands[5], "USER a\rb\x00"; got != want {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

// The responses to commands that arrive together are sent together. An incomplete command does not delay the response
// to the one before.
func TestPipelined(t *testing.T) {
	s := NewUnstartedServer(three())
	defer s.Close()
	c := pipe(t, s)
	c.talk(login)
	io.WriteString(c, "NOOP\r\nDELE 1\r\nSTAT\r\nNO")
	buf := make([]byte, 1000)
	n, err := c.Read(buf)
	if got, want := string(buf[:n]), "+OK nothing done\r\n+OK message deleted\r\n+OK 2 59\r\n"; got != want || err != nil {
		t.Errorf("one read has %q, %v; want %q", got, err, want)
	}
	c.talk(`
		C: OP
		S: +OK nothing done`)
	want := []string{"USER user", "PASS secret", "NOOP", "DELE 1", "STAT", "NOOP"}
	if got := s.Commands(); !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
}

func TestManySessions(t *testing.T) {
	m := Generate(100, func(n int) string { return fmt.Sprintf("Subject: %d\r\n\r\n.\r\n", n) })
	s := NewServer(m)
	defer s.Close()
	clients := make([]*client, 20)
	for i := range clients {
		clients[i] = dial(t, s)
		clients[i].talk(login)
	}
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			i := i + 1
			fmt.Fprintf(c, "RETR %d\r\nDELE %d\r\nQUIT\r\n", i, i)
			all, err := io.ReadAll(c.r)
			if want := fmt.Sprintf("+OK message follows\r\nSubject: %d\r\n\r\n..\r\n.\r\n+OK message deleted\r\n+OK bye\r\n", i); string(all) != want || err != nil {
				t.Errorf("session %d: %q, %v", i, all, err)
			}
		})
	}
	wg.Wait()
	if n := len(s.Deleted()); n != 20 {
		t.Errorf("%d deleted, want 20", n)
	}
	if got, want := s.Remaining()[0], m.UID(21); got != want {
		t.Errorf("first remaining is %q, want %q", got, want)
	}
}

func TestDialContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewUnstartedServer(three())
		connect := func(addr string) *client {
			t.Helper()
			conn, err := s.DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			return newClient(t, conn)
		}
		for _, addr := range []string{"mail.example.org:110", "[::1]:11000", ""} {
			connect(addr).talk(login + quit)
		}
		for _, addr := range []string{"mail.example.org:995", "mail.example.org:pop3s"} {
			connect(addr).talk("!tls\n" + login + quit)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.DialContext(ctx, "tcp", ""); !errors.Is(err, context.Canceled) {
			t.Errorf("after the context: %v", err)
		}
		s.Close()
		var refused *net.OpError
		if conn, err := s.DialContext(t.Context(), "tcp", ""); conn != nil || !errors.As(err, &refused) || refused.Op != "dial" {
			t.Errorf("after Close: %v, %v", conn, err)
		}
	})
	s := NewTLSServer(nil)
	defer s.Close()
	conn, err := s.DialContext(t.Context(), "tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(conn, s.TLSConfig()).Handshake(); err != nil {
		t.Error(err)
	}
	conn.Close()
}
