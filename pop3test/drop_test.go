package pop3test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// The second message of three as sent: it has dots of every kind.
const second = "Subject: two\r\n\r\n..\r\n...\r\n..x\r\nlast\r\n.\r\n"

// TestCutAt drops the connection after each byte of a response, with further commands in flight. The client receives
// exactly the bytes before the cut.
func TestCutAt(t *testing.T) {
	const status = "+OK message follows\r\n"
	transports := map[string]func(t *testing.T, s *Server) *client{
		"pipe": pipe,
		"TCP":  func(t *testing.T, s *Server) *client { s.Start(); return dial(t, s) },
		"TLS": func(t *testing.T, s *Server) *client {
			s.StartTLS()
			c := dial(t, s)
			c.talk("!tls")
			return c
		},
		"one byte per write": func(t *testing.T, s *Server) *client { s.Dribble = true; return pipe(t, s) },
		"latency":            func(t *testing.T, s *Server) *client { s.Latency = time.Microsecond; return pipe(t, s) },
	}
	for name, connect := range transports {
		t.Run(name, func(t *testing.T) {
			ahead := "DELE 1\r\nRETR 2\r\nDELE 3\r\nQUIT\r\n" + strings.Repeat("NOOP\r\n", 10_000)
			for cut := range len(second) + 1 {
				s := NewUnstartedServer(CutAt(three(), 2, int64(cut)))
				s.Exclusive = true
				c := connect(t, s)
				c.talk(login)
				go io.WriteString(c, ahead)
				c.talk("S: +OK message deleted")
				got, err := io.ReadAll(c.r)
				if name == "TLS" && errors.Is(err, io.ErrUnexpectedEOF) { // without close_notify
					err = nil
				}
				if string(got) != status+second[:cut] || err != nil {
					t.Errorf("cut at %d: %q, %v", cut, got, err)
				}
				if d := s.Deleted(); len(d) > 0 {
					t.Errorf("cut at %d: %q deleted", cut, d)
				}
				c.Close()
				s.Close()
			}
		})
	}
}

// Nothing else is cut: not another message, TOP, or a response that ends before the cut.
func TestCutAtElsewhere(t *testing.T) {
	retr2 := "C: RETR 2\nS: +OK message follows\nS: " + strings.ReplaceAll(strings.TrimSuffix(second, "\r\n"), "\r\n", "\nS: ") + "\n"
	s := NewUnstartedServer(CutAt(three(), 2, int64(len(second)+1)))
	defer s.Close()
	pipe(t, s).talk(login + retr2 + retr2 + quit)

	drop := CutAt(three(), 1, 3)
	s = NewUnstartedServer(struct{ Maildrop }{CutAt(drop, 3, -1)}) // in a Maildrop of the caller's
	defer s.Close()
	c := pipe(t, s)
	c.talk(login + retr2 + `
		C: TOP 1 1
		S: +OK message follows
		S: Subject: one
		S:
		S: first
		S: .
		C: LIST 3
		S: +OK 3 26
		C: DELE 2
		S: +OK message deleted` + quit)

	// Message 3 has become message 2.
	c = pipe(t, s)
	c.talk(login + `
		C: RETR 2
		S: +OK message follows
		!close`)
	c = pipe(t, s)
	c.talk(login + `
		C: RETR 1
		S: +OK message follows`)
	if got, err := io.ReadAll(c.r); string(got) != "Sub" || err != nil {
		t.Errorf("%q, %v; want 3 octets", got, err)
	}
}

// After the end of the connection the maildrop is free.
func TestCutAtExclusive(t *testing.T) {
	s := NewServer(CutAt(three(), 1, 5))
	s.Exclusive = true
	defer s.Close()
	for range 3 {
		c := dial(t, s)
		c.talk(login + "C: RETR 1\nS: +OK message follows\n")
		if got, err := io.ReadAll(c.r); string(got) != "Subje" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// An empty message has a response to cut as well.
func TestCutAtEmpty(t *testing.T) {
	for cut, want := range []string{"", ".", ".\r", ".\r\n"} {
		s := NewUnstartedServer(CutAt(Messages(""), 1, int64(cut)))
		c := pipe(t, s)
		c.talk(login + "C: RETR 1\nS: +OK message follows")
		if got, err := io.ReadAll(c.r); string(got) != want || err != nil {
			t.Errorf("cut at %d: %q, %v", cut, got, err)
		}
		s.Close()
	}
}

func TestRefuseMessage(t *testing.T) {
	m := three()
	s := NewUnstartedServer(RefuseMessage(RefuseMessage(CutAt(m, 2, 0), 2, "[SYS/TEMP] try again"), 3, "gone"))
	defer s.Close()
	pipe(t, s).talk(login + `
		C: STAT
		S: +OK 3 82
		C: RETR 2
		S: -ERR [SYS/TEMP] try again
		C: TOP 2 0
		S: -ERR [SYS/TEMP] try again
		C: RETR 3
		S: -ERR gone
		C: RETR 1
		S: +OK message follows
		S: Subject: one
		S:
		S: first
		S: .
		C: DELE 3
		S: +OK message deleted` + quit)
	if got, want := s.Deleted(), []string{m.UID(3)}; !slices.Equal(got, want) {
		t.Errorf("deleted %q, want %q", got, want)
	}
}
