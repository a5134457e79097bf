package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/examples/internal/mailtest"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func message50(n int) string {
	return fmt.Sprintf("Subject: number %d\r\n\r\n%s", n, strings.Repeat("A line of the message.\r\n", n))
}

func TestRun(t *testing.T) {
	srv, opts := mailtest.Serve(t, pop3test.Generate(50, message50))
	var out bytes.Buffer
	if err := run(t.Context(), srv.Addr, opts, "user", "secret", &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 50 {
		t.Fatalf("%d lines, want 50", len(lines))
	}
	for n := 1; n <= 50; n++ {
		if !strings.Contains(out.String(), fmt.Sprintf(" number %d\n", n)) {
			t.Errorf("message %d is missing", n)
		}
	}
}

func TestCut(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailtest.Cut(pop3test.Generate(50, message50), 30, -1))
	var out bytes.Buffer
	err := run(t.Context(), srv.Addr, opts, "user", "secret", &out)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("run returned %v, want an unexpected EOF", err)
	}
	if strings.Contains(out.String(), "number 30\n") {
		t.Error("the truncated message was processed")
	}
}

func TestWrongPassword(t *testing.T) {
	srv, opts := mailtest.Serve(t, pop3test.Messages("Subject: one\r\n\r\n"))
	var refused *pop3.ServerError
	if err := run(t.Context(), srv.Addr, opts, "user", "wrong", io.Discard); !errors.As(err, &refused) {
		t.Errorf("run returned %v, want a refusal", err)
	}
}

func TestNotAMessage(t *testing.T) {
	srv, opts := mailtest.Serve(t, pop3test.Messages("no header\r\n"))
	if err := run(t.Context(), srv.Addr, opts, "user", "secret", io.Discard); err == nil || !strings.Contains(err.Error(), "message 1") {
		t.Errorf("run returned %v, want an error about message 1", err)
	}
}
