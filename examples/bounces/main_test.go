package main

import (
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/examples/internal/mailtest"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// notification returns a delivery status notification with these groups of fields for recipients.
func notification(recipients ...string) string {
	status := "Reporting-MTA: dns; mx.example.org\n\n" + strings.Join(recipients, "\n\n") + "\n"
	return strings.ReplaceAll("From: MAILER-DAEMON@example.org\nMIME-Version: 1.0\n"+
		"Content-Type: multipart/report; report-type=delivery-status; boundary=B\n\n"+
		"--B\nContent-Type: text/plain\n\nIt did not work.\n"+
		"--B\nContent-Type: message/delivery-status\n\n"+status+
		"--B\nContent-Type: message/rfc822\n\nSubject: hello\n\nText\n--B--\n", "\n", "\r\n")
}

const (
	joe = "Final-Recipient: rfc822; joe@example.com\nAction: Failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no such\n user"
	ann = "Final-Recipient: rfc822;ann@example.com\nAction: delayed\nStatus: 4.4.7"
)

var maildrop = pop3test.Messages(
	notification(joe, ann),
	"Subject: I am away\r\n\r\nUntil Monday.\r\n",
	notification(ann),
)

// recipients returns those in the lines of the output.
func recipients(t *testing.T, out string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(out) {
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.ID == "" {
			t.Errorf("no id: %s", line)
		}
		all = append(all, r.Recipient)
	}
	return all
}

func TestRun(t *testing.T) {
	srv, opts := mailtest.Serve(t, maildrop)
	state := filepath.Join(t.TempDir(), "state")
	var out strings.Builder
	for range 2 { // the second run finds nothing new
		if err := run(t.Context(), srv.Addr, opts, "user", "secret", state, &out); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := recipients(t, out.String()), []string{"joe@example.com", "ann@example.com", "ann@example.com"}; !slices.Equal(got, want) {
		t.Errorf("recipients %q, want %q", got, want)
	}
	if !strings.Contains(out.String(), `"Action":"failed","Status":"5.1.1","Diagnostic":"smtp; 550 no such user"`) {
		t.Errorf("printed %s", &out)
	}
	if left := srv.Remaining(); len(left) != 1 || left[0] != maildrop.UID(2) {
		t.Errorf("%q remain, want message 2", left)
	}
}

// TestCut drops the connection in the middle of the third message, once.
func TestCut(t *testing.T) {
	srv, opts := mailtest.Serve(t, mailtest.Cut(maildrop, 3, 1))
	var out strings.Builder
	if err := run(t.Context(), srv.Addr, opts, "user", "secret", filepath.Join(t.TempDir(), "state"), &out); err != nil {
		t.Fatal(err)
	}
	if got := recipients(t, out.String()); len(got) != 3 {
		t.Errorf("recipients %q, want 3", got)
	}
	if left := srv.Remaining(); len(left) != 1 {
		t.Errorf("%q remain, want message 2", left)
	}
}

func TestWrongPassword(t *testing.T) {
	srv, opts := mailtest.Serve(t, maildrop)
	err := run(t.Context(), srv.Addr, opts, "user", "wrong", filepath.Join(t.TempDir(), "state"), io.Discard)
	if !errors.Is(err, fetch.ErrLogin) {
		t.Errorf("run returned %v, want %v", err, fetch.ErrLogin)
	}
}

// TestOutputFails keeps messages that could not be printed.
func TestOutputFails(t *testing.T) {
	srv, opts := mailtest.Serve(t, maildrop)
	r, w := io.Pipe()
	r.Close()
	if err := run(t.Context(), srv.Addr, opts, "user", "secret", filepath.Join(t.TempDir(), "state"), w); !errors.Is(err, fetch.ErrSink) {
		t.Errorf("run returned %v, want %v", err, fetch.ErrSink)
	}
	if len(srv.Deleted()) != 0 {
		t.Errorf("deleted %q", srv.Deleted())
	}
}

func TestParseMalformed(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "\r\n",
		"no recipient":      notification("Action: failed"),
		"not a field":       notification(joe, "no colon"),
		"truncated":         notification(joe)[:strings.Index(notification(joe), "5.1.1")],
		"no boundary":       "Content-Type: multipart/report\r\n\r\n" + joe,
		"no header at all":  "x",
		"wrong base64":      strings.Replace(notification(joe), "message/delivery-status", "message/delivery-status\r\nContent-Transfer-Encoding: base64", 1),
		"report in a reply": "Subject: re\r\n\r\n> " + strings.ReplaceAll(notification(joe), "\n", "\n> "),
	} {
		if results, err := parse(strings.NewReader(text)); err == nil || results != nil {
			t.Errorf("%s: %v, %v; want an error alone", name, results, err)
		}
	}
}
