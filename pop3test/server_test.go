package pop3test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The walk of RFC 1939, over a pipe and a socket.
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
	S: +OK 
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

// Commands that come together are answered together; one that has come by half
// does not hold up the answer to the one before.
func TestPipelined(t *testing.T) {
	s := NewUnstartedServer(three())
	defer s.Close()
	c := pipe(t, s)
	c.talk(login)
	io.WriteString(c, "NOOP\r\nDELE 1\r\nSTAT\r\nNO")
	buf := make([]byte, 1000)
	n, err := c.Read(buf)
	if got, want := string(buf[:n]), "+OK \r\n+OK message deleted\r\n+OK 2 59\r\n"; got != want || err != nil {
		t.Errorf("one read has %q, %v; want %q", got, err, want)
	}
	c.talk(`
		C: OP
		S: +OK `)
	want := []string{"USER user", "PASS secret", "NOOP", "DELE 1", "STAT", "NOOP"}
	if got := s.Commands(); !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
}

func TestLoginDropsInput(t *testing.T) {
	s := NewUnstartedServer(nil)
	s.LoginDropsInput = true
	defer s.Close()
	pipe(t, s).talk(`
		S: +OK pop3test ready
		C: USER user
		S: +OK send PASS
		C* PASS secret\r\nSTAT\r\nDELE 1\r\n
		S: +OK logged in
		C: NOOP
		S: +OK ` + quit)
}

func TestRefuse(t *testing.T) {
	s := NewUnstartedServer(three())
	defer s.Close()
	s.Refuse = func(verb string, n int) string {
		switch {
		case verb == "" && n == 1:
			return "[SYS/TEMP] too many sessions"
		case verb == "PASS" && n == 1:
			return "[IN-USE] later"
		case verb == "RETR" && n == 2:
			return "gone"
		case verb == "QUIT" && n == 1:
			return "[SYS/PERM] nothing was deleted"
		}
		return ""
	}
	pipe(t, s).talk(`
		S: -ERR [SYS/TEMP] too many sessions
		!close`)
	c := pipe(t, s)
	c.talk(`
		S: +OK pop3test ready
		C: USER user
		S: +OK send PASS
		C: PASS secret
		S: -ERR [IN-USE] later
		C: USER user
		S: +OK send PASS
		C: PASS secret
		S: +OK logged in
		C: RETR 9
		S: -ERR no such message
		C: RETR 9
		S: -ERR gone
		C: DELE 1
		S: +OK message deleted
		C: QUIT
		S: -ERR [SYS/PERM] nothing was deleted
		!close`)
	if got := s.Deleted(); len(got) != 0 {
		t.Errorf("deleted %q", got)
	}
	pipe(t, s).talk(login + quit)
}

func TestExclusive(t *testing.T) {
	s := NewUnstartedServer(nil)
	s.Exclusive = true
	defer s.Close()
	first, second := pipe(t, s), pipe(t, s)
	first.talk(login)
	second.talk(`
		S: +OK pop3test ready
		C: USER user
		S: +OK send PASS
		C: PASS secret
		S: -ERR [IN-USE] another session has the maildrop open`)
	first.talk(`
		C: QUIT
		S: +OK bye`) // from here on the maildrop is free
	second.talk(`
		C: USER user
		S: +OK send PASS
		C: PASS secret
		S: +OK logged in` + quit)
}

// A session that is lost lets go of the maildrop.
func TestExclusiveLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewUnstartedServer(nil)
		s.Exclusive = true
		defer s.Close()
		c := pipe(t, s)
		c.talk(login)
		c.Close()
		synctest.Wait()
		if len(s.conns) != 0 {
			t.Error("the server has not forgotten the connection")
		}
		pipe(t, s).talk(login + quit)
	})
}

func TestDribble(t *testing.T) {
	s := NewUnstartedServer(three())
	s.Dribble = true
	defer s.Close()
	c := pipe(t, s)
	buf := make([]byte, 100)
	for got := ""; !strings.HasSuffix(got, "\r\n"); got += string(buf[:1]) {
		if n, err := c.Read(buf); n != 1 || err != nil {
			t.Fatalf("a read of %d octets, %v", n, err)
		}
	}
	c.talk(strings.Replace(walk, "S: +OK pop3test ready", "", 1))
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewUnstartedServer(three())
		s.Latency = 20 * time.Millisecond
		defer s.Close()
		c := pipe(t, s)
		start := time.Now()
		want := func(round int, what string) {
			t.Helper()
			if got := time.Since(start); got != time.Duration(round)*s.Latency {
				t.Errorf("%s took %v, want %d times %v", what, got, round, s.Latency)
			}
			start = time.Now()
		}
		c.talk(login)
		want(2, "USER and PASS")
		c.talk(strings.Repeat("C: NOOP\nS: +OK \n", 50))
		want(50, "50 NOOP, one by one")
		if got := s.MaxInFlight(); got != 1 {
			t.Errorf("MaxInFlight: %d, want 1", got)
		}
		go func() {
			for range 50 {
				io.WriteString(c, "NOOP\r\n")
			}
		}()
		c.talk(strings.Repeat("S: +OK \n", 50))
		want(1, "50 NOOP, sent ahead")
		if got := s.MaxInFlight(); got != 50 {
			t.Errorf("MaxInFlight: %d, want 50", got)
		}
		c.talk("C: RETR 1\nS: +OK message follows\nS: Subject: one\nS:\nS: first\nS: .\n")
		want(1, "RETR")
		c.talk("C: QUIT\nS: +OK bye\n!close")
		want(1, "QUIT")
	})
}

// A hang-up, by either side, ends a session at once, delayed as it may be.
func TestLatencyHangUp(t *testing.T) {
	for range 20 {
		for _, transcript := range []string{"S: +OK pop3test ready", "S: +OK pop3test ready\nC: CAPA"} {
			for _, byClient := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					s := NewUnstartedServer(nil)
					s.Latency = time.Hour
					c := pipe(t, s)
					c.talk(transcript)
					start := time.Now()
					if byClient {
						c.Close()
					}
					s.Close()
					if d := time.Since(start); d != 0 {
						t.Errorf("%q, by client %t: Close took %v", transcript, byClient, d)
					}
				})
			}
		}
	}
}

func TestCloseClientConnections(t *testing.T) {
	s := NewUnstartedServer(three())
	defer s.Close()
	s.Refuse = func(verb string, n int) string {
		if verb == "RETR" {
			s.CloseClientConnections()
		}
		return ""
	}
	c := pipe(t, s)
	c.talk(login + `
		C: RETR 1
		!close`)
	pipe(t, s).talk(login + quit)
}

// Close hangs up wherever a session stands.
func TestClose(t *testing.T) {
	endless := &Generated{N: 1, Text: func(int) string { return strings.Repeat("endless\r\n", 1<<20) }}
	for name, transcript := range map[string]string{
		"greeting":   "",
		"idle":       "S: +OK pop3test ready",
		"handshake":  "S: +OK pop3test ready\nC: STLS\nS: +OK begin TLS",
		"in message": login + "C: RETR 1\nS: +OK message follows\nS: endless",
		"half line":  login + "C* RE",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var last atomic.Value
				s := NewUnstartedServer(endless)
				s.Logf = func(format string, args ...any) {
					time.Sleep(1)
					last.Store(fmt.Sprintf(format, args...))
				}
				c := pipe(t, s)
				c.talk(transcript)
				s.Close()
				if line := last.Load().(string); strings.Contains(line, ": S: ") || strings.Contains(line, ": C: ") {
					t.Error("Close does not wait for the session's last word")
				}
				s.Close()
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Errorf("the client reads on: %v", err)
				}
				if _, err := s.Pipe().Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("a session after Close: %v, want EOF", err)
				}
			})
		})
	}
}

func TestCloseStopsListening(t *testing.T) {
	s := NewServer(nil)
	dial(t, s).talk(login)
	s.Close()
	if conn, err := net.Dial("tcp", s.Addr); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
	defer func() {
		if recover() == nil {
			t.Error("Start after Close does not panic")
		}
	}()
	s.Start()
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

// failing is a Maildrop of one message that cannot be read to its end.
type failing struct {
	Maildrop
	start string
}

func (f failing) WriteMessage(w io.Writer, n int) error {
	io.WriteString(w, f.start)
	return errors.New("disk on fire")
}

func TestWriteMessageFails(t *testing.T) {
	s := NewUnstartedServer(failing{three(), "Subject: half\r\n\r\nof"})
	defer s.Close()
	c := pipe(t, s)
	c.talk(login + `
		C: RETR 1
		S: +OK message follows
		S: Subject: half
		S:
	`)
	if rest, err := io.ReadAll(c.r); string(rest) != "of" || err != nil {
		t.Errorf("%q, %v; want the half line and no more", rest, err)
	}

	s = NewUnstartedServer(failing{three(), ""})
	defer s.Close()
	pipe(t, s).talk(login + `
		C: RETR 1
		S: -ERR disk on fire
		C: NOOP
		S: +OK ` + quit)
}

func TestLogf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		s := NewUnstartedServer(nil)
		s.Logf = func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
		c := pipe(t, s)
		c.talk("S: +OK pop3test ready\nC: USER 100%s\nS: +OK send PASS")
		c.Close()
		synctest.Wait()
		s.Close()
		want := []string{
			"pop3test: session 1: S: +OK pop3test ready",
			"pop3test: session 1: C: USER 100%s",
			"pop3test: session 1: S: +OK send PASS",
			"pop3test: session 1: the client hung up",
		}
		if !slices.Equal(log, want) {
			t.Errorf("log %q, want %q", log, want)
		}
	})
}
