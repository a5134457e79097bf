package pop3test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Tests of configured failures, and of the ends of sessions.

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
		S: +OK nothing done` + quit)
}

func TestRefuse(t *testing.T) {
	s := NewUnstartedServer(three())
	defer s.Close()
	greetings := 0
	s.Refuse = func(verb string, n int) string {
		if verb == "" {
			greetings++
		}
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
		C:
		S: -ERR unknown command
		C: DELE 1
		S: +OK message deleted
		C: QUIT
		S: -ERR [SYS/PERM] nothing was deleted
		!close`)
	if got := s.Deleted(); len(got) != 0 {
		t.Errorf("deleted %q", got)
	}
	pipe(t, s).talk(login + quit)
	if greetings != 3 {
		t.Errorf("Refuse saw %d greetings, want 3", greetings)
	}
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
	// After the response to QUIT the maildrop is free.
	first.talk("C: QUIT")
	first.Read(make([]byte, 1))
	second.talk(`
		C: USER user
		S: +OK send PASS
		C: PASS secret
		S: +OK logged in` + quit)
}

// A lost session releases the maildrop.
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
		c.talk(strings.Repeat("C: NOOP\nS: +OK nothing done\n", 50))
		want(50, "50 NOOP, one by one")
		if got := s.MaxInFlight(); got != 1 {
			t.Errorf("MaxInFlight: %d, want 1", got)
		}
		go func() {
			for range 50 {
				io.WriteString(c, "NOOP\r\n")
			}
		}()
		c.talk(strings.Repeat("S: +OK nothing done\n", 50))
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

// When either side closes the connection, the session ends at once, even with Latency.
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

// Close closes the connection in every state of a session.
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
					time.Sleep(time.Nanosecond)
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
		S: +OK nothing done` + quit)
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
