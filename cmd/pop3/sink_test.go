package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

var testMessage = fetch.Message{
	Account: "joe@pop.example.org", Key: fetch.Key{UID: "uid"}, Number: 1, Size: 100, Time: time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC),
}

// verdict returns the decision of a sink.
func verdict(err error) string {
	switch {
	case err == nil:
		return "delivered"
	case fetch.IsLater(err):
		return "later"
	case fetch.IsNever(err):
		return "never"
	}
	return "failed"
}

func TestPipe(t *testing.T) {
	onUnix(t)
	dir := t.TempDir()
	for _, test := range []struct{ line, want, text string }{
		{"cat >" + filepath.Join(dir, "got"), "delivered", ""},
		{"exit 0", "delivered", ""}, // it did not read; that is its decision
		{"cat >/dev/null; sleep 5 &", "delivered", ""},
		{"cat >/dev/null; sleep 5 & exit 75", "later", "exit status 75"},
		{"cat >/dev/null; exit 75", "later", "exit status 75"},
		{"exit 1", "later", "exit status 1"},
		{"echo no such user >&2; exit 67", "never", "exit status 67: no such user"},
		{"exit 77", "never", "exit status 77"},
		{"echo first; echo second; exit 100", "never", "exit status 100: second"},
		{"kill -9 $$", "later", "signal: killed"},
		{filepath.Join(dir, "none"), "failed", "exit status 127"},
		{"sleep 60 & sleep 60", "later", "the program did not end after"},
	} {
		t.Run(test.line, func(t *testing.T) {
			p := &piper{line: test.line, timeout: 10 * time.Second}
			if strings.HasPrefix(test.line, "sleep") {
				p.timeout = 50 * time.Millisecond
			}
			start := time.Now()
			for _, size := range []int{0, 1 << 20} { // fits in a pipe, does not
				err := p.deliver(t.Context(), testMessage, strings.NewReader("a\r\n"+strings.Repeat("b", size)))
				if got := verdict(err); got != test.want || err != nil && !strings.Contains(err.Error(), test.text) {
					t.Errorf("%s: %v", got, err)
				}
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	got, err := os.ReadFile(filepath.Join(dir, "got"))
	if err != nil || string(got[:3]) != "a\nb" || len(got) != 2+1<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// The program receives the server's bytes unchanged on demand, a unique-id, and no password.
func TestPipeEnvironment(t *testing.T) {
	onUnix(t)
	file := filepath.Join(t.TempDir(), "got")
	p := &piper{line: "{ cat; env; } >" + file, crlf: true, timeout: time.Minute}
	if err := p.deliver(t.Context(), testMessage, strings.NewReader("a\r\nb\r\n")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a\r\nb\r\n", "POP3_ACCOUNT=joe@pop.example.org\n", "POP3_ID=" + testMessage.Key.Digest("joe@pop.example.org") + "\n"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}

func TestPipeSpoolFails(t *testing.T) {
	p := &piper{line: "cat >/dev/null", timeout: time.Minute}
	body := struct {
		io.Reader
		io.Seeker
	}{iotest.ErrReader(errors.New("bad disk")), nil}
	if err := p.deliver(t.Context(), testMessage, body); verdict(err) != "failed" || !strings.Contains(err.Error(), "bad disk") {
		t.Errorf("error %v", err)
	}
}

func TestStdoutSink(t *testing.T) {
	var out bytes.Buffer
	s := &sinkMaker{stdout: &out}
	if err := s.print(t.Context(), testMessage, strings.NewReader("a\r\n")); err != nil || !strings.HasSuffix(out.String(), "\na\n\n") {
		t.Errorf("%q, %v", out.String(), err)
	}
	s.stdout = failingWriter{}
	if err := s.print(t.Context(), testMessage, strings.NewReader("a\r\n")); verdict(err) != "failed" || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestTracing(t *testing.T) {
	var got string
	sink := &tracing{&fetch.Delivery{Func: func(_ context.Context, _ fetch.Message, body io.ReadSeeker) error {
		text, err := io.ReadAll(body)
		got = string(text)
		return err
	}}, config.Mailbox{User: "jöe\x1b", Host: "pop.example.org"}}
	if _, err := sink.Recover(t.Context(), fetch.Recovery{}); err != nil {
		t.Fatal(err)
	}
	name, err := sink.Stage(t.Context(), testMessage, strings.NewReader("Subject: x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := sink.Commit(t.Context(), []fetch.Record{{Name: name}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for _, want := range []string{"Delivered-To: j?e?\r\nReceived: from pop.example.org\r\n\tby ",
		" with POP3 id " + testMessage.Key.Digest(testMessage.Account) + "\r\n\tfor j?e?; Thu, 26 Nov 2026 01:02:03 +0000\r\nSubject: x\r\n\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}
