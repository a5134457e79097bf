package main

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/examples/internal/mailtest"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var mailbox = pop3test.Messages(
	"Subject: one\r\n\r\n.dot\r\n..\r\n",
	"Subject: virus\r\n\r\n",
	"Subject: three\r\n\r\n"+strings.Repeat("A line of the message.\r\n", 10_000),
)

// A target is an SMTP or LMTP server that accepts everything but viruses.
type target struct {
	addr string
	mu   sync.Mutex
	got  []string
}

func newTarget(t *testing.T, lmtp bool) *target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &target{addr: l.Addr().String()}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{g}, nil }))
	srv.LMTP = lmtp
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return g
}

func (g *target) subjects() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var subjects []string
	for _, text := range g.got {
		line, _, _ := strings.Cut(text, "\r\n")
		subjects = append(subjects, strings.TrimPrefix(line, "Subject: "))
	}
	return subjects
}

type session struct{ *target }

func (s *session) Reset()                               {}
func (s *session) Logout() error                        { return nil }
func (s *session) Mail(string, *smtp.MailOptions) error { return nil }
func (s *session) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if strings.Contains(string(text), "virus") {
		return &smtp.SMTPError{Code: 550, Message: "no viruses"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(text))
	return nil
}

func TestRun(t *testing.T) {
	for name, lmtp := range map[string]bool{"SMTP": false, "LMTP": true} {
		t.Run(name, func(t *testing.T) {
			srv, opts := mailtest.Serve(t, mailbox)
			g := newTarget(t, lmtp)
			err := run(t.Context(), srv.Addr, opts, "user", "secret", g.addr, lmtp, "joe@example.com")
			if err == nil || !strings.Contains(err.Error(), "message 2 stays") {
				t.Errorf("run returned %v, want a refusal of message 2", err)
			}
			if got, want := g.subjects(), []string{"one", "three"}; !slices.Equal(got, want) {
				t.Errorf("received %q, want %q", got, want)
			}
			if !strings.HasSuffix(g.got[0], "\r\n.dot\r\n..\r\n") {
				t.Errorf("received %q", g.got[0])
			}
			if left := srv.Remaining(); len(left) != 1 || left[0] != mailbox.UID(2) {
				t.Errorf("%q remain, want message 2", left)
			}
		})
	}
}

func TestCut(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailtest.Cut(mailbox, 3, 1))
	g := newTarget(t, false)
	err := run(t.Context(), srv.Addr, opts, "user", "secret", g.addr, false, "joe@example.com")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("run returned %v, want an unexpected EOF", err)
	}
	if got, want := g.subjects(), []string{"one"}; !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
	if len(srv.Deleted()) != 0 {
		t.Errorf("deleted %q after the connection was lost", srv.Deleted())
	}
	run(t.Context(), srv.Addr, opts, "user", "secret", g.addr, false, "joe@example.com")
	if got, want := g.subjects(), []string{"one", "one", "three"}; !slices.Equal(got, want) { // at least once
		t.Errorf("received %q, want %q", got, want)
	}
}

// TestTargetLost lets the SMTP server go away: messages that it has accepted are deleted, the others stay.
func TestTargetLost(t *testing.T) {
	srv, opts := mailtest.Serve(t, pop3test.Messages("Subject: one\r\n\r\n", "Subject: two\r\n\r\n"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // accepts one message
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 1000)
		for _, line := range []string{"220 ready", "250 hello", "250 sender", "250 recipient", "354 go", "250 accepted", "250 sender", "250 recipient"} {
			io.WriteString(conn, line+"\r\n")
			if n, err := conn.Read(buf); err != nil || n == 0 {
				return
			}
		}
	}()
	if err := run(t.Context(), srv.Addr, opts, "user", "secret", l.Addr().String(), false, "joe@example.com"); err == nil {
		t.Error("run returned nil")
	}
	if got := srv.Remaining(); len(got) != 1 {
		t.Errorf("%q remain, want the second message", got)
	}
}

func TestWrongPassword(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailbox)
	g := newTarget(t, false)
	var refused *pop3.ServerError
	if err := run(t.Context(), srv.Addr, opts, "user", "wrong", g.addr, false, "joe@example.com"); !errors.As(err, &refused) {
		t.Errorf("run returned %v, want a refusal", err)
	}
}
