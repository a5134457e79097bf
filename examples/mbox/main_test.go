package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/examples/internal/mailtest"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var long = strings.Repeat("x", 100_000)

var mailbox = pop3test.Messages(
	"Subject: one\r\n\r\nFrom here on\r\n>From there\r\n From afar\r\n",
	"Subject: two\r\n\r\n"+long+"From the middle\r\n.\r\n",
)

func TestRun(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailbox)
	name := filepath.Join(t.TempDir(), "mail.mbox")
	if err := run(t.Context(), srv.Addr, opts, "user", "secret", name); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`(?m)^From MAILER-DAEMON .*$`).ReplaceAllString(string(data), "From X")
	want := "From X\nSubject: one\n\n>From here on\n>>From there\n From afar\n\nFrom X\nSubject: two\n\n" + long + "From the middle\n.\n\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := run(t.Context(), srv.Addr, opts, "user", "secret", name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second export returned %v, want %v", err, fs.ErrExist)
	}
	if len(srv.Deleted()) != 0 {
		t.Errorf("deleted %q", srv.Deleted())
	}
}

func TestCut(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailtest.Cut(mailbox, 2, -1))
	dir := t.TempDir()
	err := run(t.Context(), srv.Addr, opts, "user", "secret", filepath.Join(dir, "mail.mbox"))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("run returned %v, want an unexpected EOF", err)
	}
	checkEmpty(t, dir)
}

func TestWrongPassword(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailbox)
	dir := t.TempDir()
	var refused *pop3.ServerError
	if err := run(t.Context(), srv.Addr, opts, "user", "wrong", filepath.Join(dir, "mail.mbox")); !errors.As(err, &refused) {
		t.Errorf("run returned %v, want a refusal", err)
	}
	checkEmpty(t, dir)
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("remaining: %v, %v", left, err)
	}
}
