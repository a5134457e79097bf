package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/examples/internal/mailtest"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var mailbox = pop3test.Messages("Subject: one\r\n\r\n", "Subject: two\r\n\r\n")

// expect runs the check and compares its result.
func expect(t *testing.T, srv *pop3test.Server, opts *pop3.Options, password string, want status, part string) {
	t.Helper()
	got, text := check(t.Context(), srv.Addr, opts, "user", password, time.Now())
	if got != want || !strings.Contains(text, part) {
		t.Errorf("%v: %s; want %v with %q", got, text, want, part)
	}
}

func TestHealthy(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailbox)
	expect(t, srv, opts, "secret", ok, "2 messages")
}

func TestEmpty(t *testing.T) {
	srv, opts := mailtest.Serve(t, pop3test.Messages())
	expect(t, srv, opts, "secret", ok, "0 messages")
}

func TestCut(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailtest.Cut(mailbox, 2, -1))
	expect(t, srv, opts, "secret", critical, "TOP 2")
}

func TestWrongPassword(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailbox)
	expect(t, srv, opts, "wrong", critical, "PASS")
}

func TestLocked(t *testing.T) {
	srv := pop3test.NewUnstartedServer(mailbox)
	srv.Refuse = func(verb string, n int) string {
		if verb == "PASS" {
			return "[IN-USE] locked by another session"
		}
		return ""
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	expect(t, srv, &pop3.Options{TLSConfig: srv.TLSConfig()}, "secret", warning, "IN-USE")
}

func TestDown(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailbox)
	srv.Close()
	expect(t, srv, opts, "secret", critical, "dial")
}

func TestUntrusted(t *testing.T) {
	srv, _ := mailtest.Serve(t, mailbox)
	expect(t, srv, nil, "secret", critical, "certificate")
}

func TestExpiring(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailbox)
	got, text := check(t.Context(), srv.Addr, opts, "user", "secret", time.Now().AddDate(1000, 0, 0))
	if got != warning || !strings.Contains(text, "certificate expires") {
		t.Errorf("%v: %s", got, text)
	}
}

// TestSilent has the server accept the login and then send nothing.
func TestSilent(t *testing.T) {
	srv := pop3test.NewUnstartedServer(mailbox)
	ctx, cancel := context.WithCancel(t.Context())
	srv.Refuse = func(verb string, n int) string {
		if verb == "STAT" {
			cancel() // as the timeout does
			<-t.Context().Done()
		}
		return ""
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	got, text := check(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()}, "user", "secret", time.Now())
	if got != critical || !strings.Contains(text, "STAT") {
		t.Errorf("%v: %s", got, text)
	}
}
