package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/examples/internal/mailtest"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var texts = []string{"Subject: one\r\n\r\n", "Subject: two\r\n\r\nHalf of this line is lost.\r\n", "Subject: three\r\n\r\n"}

// A mailbox is a server and the target of its mail.
type mailbox struct {
	srv        *pop3test.Server
	opts       *pop3.Options
	dir, state string
}

func newMailbox(t *testing.T, m pop3test.Maildrop) *mailbox {
	srv, opts := mailtest.Serve(t, m)
	dir := t.TempDir()
	return &mailbox{srv, opts, filepath.Join(dir, "Maildir"), filepath.Join(dir, "state")}
}

func (m *mailbox) run(t *testing.T, password string, out io.Writer) error {
	return run(t.Context(), m.srv.Addr, m.opts, "user", password, m.dir, m.state, out)
}

// messages returns the subjects in the Maildir.
func (m *mailbox) messages(t *testing.T) map[string]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	subjects := make(map[string]int)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		subjects[strings.TrimPrefix(line, "Subject: ")]++
	}
	return subjects
}

func (m *mailbox) expect(t *testing.T, subjects ...string) {
	t.Helper()
	got := m.messages(t)
	for _, s := range subjects {
		if got[s] != 1 {
			t.Errorf("message %s is there %d times", s, got[s])
		}
	}
	if len(got) != len(subjects) {
		t.Errorf("messages %v, want %q", got, subjects)
	}
}

func TestRun(t *testing.T) {
	m := newMailbox(t, pop3test.Messages(texts...))
	for i, want := range []string{"3 of 3 messages are new, 3 fetched\n", "0 of 3 messages are new, 0 fetched\n"} {
		var out strings.Builder
		if err := m.run(t, "secret", &out); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), want) {
			t.Errorf("run %d: %s, want %s", i, &out, want)
		}
		m.expect(t, "one", "two", "three")
	}
}

// TestCut drops the connection in the middle of the second message, once: the run connects again and continues.
func TestCut(t *testing.T) {
	m := newMailbox(t, mailtest.Cut(pop3test.Messages(texts...), 2, 1))
	var out strings.Builder
	if err := m.run(t, "secret", &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "again in ") {
		t.Errorf("no retry: %s", &out)
	}
	m.expect(t, "one", "two", "three")
}

func TestWrongPassword(t *testing.T) {
	m := newMailbox(t, pop3test.Messages(texts...))
	if err := m.run(t, "wrong", io.Discard); !errors.Is(err, fetch.ErrLogin) {
		t.Errorf("run returned %v, want %v", err, fetch.ErrLogin)
	}
	m.expect(t)
}

func TestLocked(t *testing.T) {
	m := newMailbox(t, pop3test.Messages(texts...))
	store, err := boltstore.Open(m.state, "user@"+m.srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := m.run(t, "secret", io.Discard); !errors.Is(err, fetch.ErrLocked) {
		t.Errorf("run returned %v, want %v", err, fetch.ErrLocked)
	}
}
