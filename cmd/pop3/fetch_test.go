package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

var texts = []string{
	"Subject: one\r\n\r\n.\r\n..\r\n.a line with a dot\r\n",
	"Subject: two\r\n\r\n8 bit \xff\x00 and a bare \r and \n\r\n",
	"Subject: three\r\n\r\n" + strings.Repeat("long ", 30_000) + "\r\n",
	"\r\n",
}

// A run is a command that has ended.
type run struct {
	status         int
	stdout, stderr string
}

// start runs the command with the password "secret" in its environment.
func start(t *testing.T, ctx context.Context, args ...string) run {
	t.Helper()
	t.Setenv("POP3_PASSWORD", "secret")
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr, tls: pop3test.TLSConfig()}
	a.tls.ServerName = "" // the name is the URL's
	status := a.run(ctx, args)
	return run{status, stdout.String(), stderr.String()}
}

// check fails the test unless the command ended with a status and has shown
// the texts, on whichever output.
func (r run) check(t *testing.T, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d; stderr %q", r.status, status, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("stdout %q, stderr %q: want %q", r.stdout, r.stderr, text)
		}
	}
	if strings.Contains(r.stdout+r.stderr, "secret") {
		t.Errorf("the password is shown: stdout %q, stderr %q", r.stdout, r.stderr)
	}
}

// delivered returns what is in new, sorted, and fails the test unless the other
// folders are empty.
func delivered(t *testing.T, dir string) []string {
	t.Helper()
	for _, folder := range []string{"tmp", "cur"} {
		if files, err := os.ReadDir(filepath.Join(dir, folder)); err != nil || len(files) > 0 {
			t.Errorf("%s has %d files, %v", folder, len(files), err)
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, file := range files {
		name := filepath.Join(dir, "new", file.Name())
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := file.Info(); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		got = append(got, string(text))
	}
	slices.Sort(got)
	return got
}

func sorted(texts ...string) []string { return slices.Sorted(slices.Values(texts)) }

func TestFetch(t *testing.T) {
	for _, scheme := range []string{"pops", "pop"} {
		t.Run(scheme, func(t *testing.T) {
			srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
			srv.User = "joe@example.com"
			srv.LoginRequiresTLS = true
			if scheme == "pops" {
				srv.StartTLS()
			} else {
				srv.Start()
			}
			defer srv.Close()
			dir := filepath.Join(t.TempDir(), "Maildir")
			url := scheme + "://joe%40example.com@" + srv.Addr
			r := start(t, t.Context(), "fetch", url, dir)
			r.check(t, 0, "4 messages fetched", "0 deleted")
			if r.stderr != "" {
				t.Errorf("stderr %q", r.stderr)
			}
			if got := delivered(t, dir); !slices.Equal(got, sorted(texts...)) {
				t.Errorf("delivered %.200q", got)
			}
			if got := srv.Deleted(); got != nil {
				t.Errorf("deleted %q", got)
			}

			start(t, t.Context(), "fetch", "-delete", url, dir).check(t, 0, "4 messages fetched", "4 deleted")
			if got := delivered(t, dir); !slices.Equal(got, sorted(append(texts, texts...)...)) {
				t.Errorf("delivered %.200q", got)
			}
			if got := srv.Remaining(); len(got) > 0 {
				t.Errorf("remaining %q", got)
			}

			start(t, t.Context(), "fetch", "-delete", url, dir).check(t, 0, "0 messages fetched")
		})
	}
}

// What the server refuses stays there, and the rest is fetched and deleted.
func TestFetchRefused(t *testing.T) {
	for verb, fetched := range map[string][]string{
		"RETR": {texts[0], texts[2], texts[3]},
		"DELE": texts,
	} {
		t.Run(verb, func(t *testing.T) {
			srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
			uid := srv.Maildrop.UID(2)
			srv.Refuse = refuse(verb, 2, "[SYS/TEMP] not \x1b[31mnow")
			srv.Start()
			defer srv.Close()
			dir := t.TempDir()
			start(t, t.Context(), "fetch", "-delete", "pop://user@"+srv.Addr, dir).
				check(t, 1, verb+" 2: -ERR [SYS/TEMP] not \\x1b[31mnow", "3 deleted")
			if got := delivered(t, dir); !slices.Equal(got, sorted(fetched...)) {
				t.Errorf("delivered %.200q", got)
			}
			if got := srv.Remaining(); !slices.Equal(got, []string{uid}) {
				t.Errorf("remaining %q, want %q", got, uid)
			}
		})
	}
}

// refuse refuses the nth command with a verb.
func refuse(verb string, nth int, text string) func(string, int) string {
	return func(v string, n int) string {
		if v == verb && n == nth {
			return text
		}
		return ""
	}
}

// before is a Refuse that refuses nothing, but does something before it.
func before(verb string, nth int, do func()) func(string, int) string {
	return func(v string, n int) string {
		if v == verb && n == nth {
			do()
		}
		return ""
	}
}

// When something fails, no half message is left, and nothing is deleted: but for
// the answer to QUIT, which may be all that was lost.
func TestFetchFails(t *testing.T) {
	for name, test := range map[string]struct {
		refuse  func(srv *pop3test.Server, dir string, interrupt func()) func(string, int) string
		drop    pop3test.Maildrop
		fetched int
		deleted int
		status  int
		want    []string
	}{
		"cut in a message": {
			drop: brokenAt{pop3test.Messages(texts...), 3}, fetched: 2, status: 1,
			want: []string{"message 3: pop3: RETR 3: connection", "2 messages are in", "none was deleted"},
		},
		"line lost": {
			refuse: func(srv *pop3test.Server, _ string, _ func()) func(string, int) string {
				return before("DELE", 3, srv.CloseClientConnections)
			},
			fetched: 4, status: 1, want: []string{"nothing was deleted", "DELE 3"},
		},
		"line lost at QUIT": {
			refuse: func(srv *pop3test.Server, _ string, _ func()) func(string, int) string {
				return before("QUIT", 1, srv.CloseClientConnections)
			},
			fetched: 4, deleted: 4, status: 1, want: []string{"nobody knows", "QUIT"},
		},
		"QUIT refused": {
			refuse: func(*pop3test.Server, string, func()) func(string, int) string {
				return refuse("QUIT", 1, "maildrop read-only")
			},
			fetched: 4, status: 1, want: []string{"the server kept some", "maildrop read-only"},
		},
		"interrupt": {
			refuse: func(_ *pop3test.Server, _ string, interrupt func()) func(string, int) string {
				return before("RETR", 3, interrupt)
			},
			fetched: 2, status: 130, want: []string{"interrupted", "2 messages are in", "none was deleted"},
		},
		"folder gone": {
			refuse: func(_ *pop3test.Server, dir string, _ func()) func(string, int) string {
				return before("RETR", 1, func() { os.Remove(filepath.Join(dir, "new")) })
			},
			fetched: -1, status: 1, want: []string{"message 1: rename", "0 messages are in", "none was deleted"},
		},
		"folder gone before DELE": {
			refuse: func(_ *pop3test.Server, dir string, _ func()) func(string, int) string {
				return before("RETR", 4, func() { os.RemoveAll(filepath.Join(dir, "tmp")) })
			},
			fetched: -1, status: 1, want: []string{"message 4: open", "3 messages are in", "none was deleted"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			interrupt := func() {
				cancel()
				<-ended // an answer could still be in time
			}
			dir := t.TempDir()
			srv := pop3test.NewUnstartedServer(test.drop)
			if test.drop == nil {
				srv.Maildrop = pop3test.Messages(texts...)
			}
			if test.refuse != nil {
				srv.Refuse = test.refuse(srv, dir, interrupt)
			}
			srv.Start()
			defer srv.Close()
			defer close(ended)
			start(t, ctx, "fetch", "-delete", "pop://user@"+srv.Addr, dir).check(t, test.status, test.want...)
			if test.fetched >= 0 {
				if got := delivered(t, dir); len(got) != test.fetched {
					t.Errorf("%d messages delivered, want %d", len(got), test.fetched)
				}
			}
			if got := srv.Deleted(); len(got) != test.deleted {
				t.Errorf("deleted %q, want %d", got, test.deleted)
			}
		})
	}
}

// brokenAt cuts one message short.
type brokenAt struct {
	pop3test.Maildrop
	n int
}

func (b brokenAt) WriteMessage(w io.Writer, n int) error {
	if n == b.n {
		io.WriteString(w, "Subject: half\r\n")
		return io.ErrShortWrite
	}
	return b.Maildrop.WriteMessage(w, n)
}

// Nothing is deleted before the last message was fetched.
func TestFetchOrder(t *testing.T) {
	srv := pop3test.NewServer(pop3test.Messages(texts...))
	defer srv.Close()
	start(t, t.Context(), "fetch", "-delete", "pop://user@"+srv.Addr, t.TempDir()).check(t, 0)
	commands := srv.Commands()
	want := []string{"RETR 1", "RETR 2", "RETR 3", "RETR 4", "DELE 1", "DELE 2", "DELE 3", "DELE 4", "QUIT"}
	if got := commands[max(0, len(commands)-len(want)):]; !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q at the end", commands, want)
	}
}

func TestFetchInTheClear(t *testing.T) {
	for name, test := range map[string]struct {
		insecure bool
		stls     bool
		apop     bool
		status   int
		want     string
		first    []string // commands
	}{
		"no STLS":           {false, false, false, 1, "-insecure", []string{"CAPA"}},
		"no STLS, APOP":     {false, false, true, 1, "-insecure", []string{"CAPA"}},
		"insecure":          {true, false, false, 0, "warning", []string{"CAPA", "USER user", "PASS secret"}},
		"insecure, STLS":    {true, true, false, 0, "4 messages", []string{"CAPA", "STLS", "CAPA", "USER user"}},
		"insecure and both": {true, true, true, 0, "4 messages", []string{"CAPA", "STLS", "CAPA", "USER user"}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
			srv.STLS, srv.APOP = test.stls, test.apop
			srv.Start()
			defer srv.Close()
			args := []string{"fetch", "pop://user@" + srv.Addr, t.TempDir()}
			if test.insecure {
				args = slices.Insert(args, 1, "-insecure")
			}
			r := start(t, t.Context(), args...)
			r.check(t, test.status, test.want)
			if warned := strings.Contains(r.stderr, "warning"); warned != (test.insecure && !test.stls) {
				t.Errorf("stderr %q", r.stderr)
			}
			got := srv.Commands()
			if !slices.Equal(got[:min(len(got), len(test.first))], test.first) || test.status != 0 && len(got) != len(test.first) {
				t.Errorf("commands %q, want first %q", got, test.first)
			}
		})
	}
}

func TestFetchNoLogin(t *testing.T) {
	srv := pop3test.NewUnstartedServer(nil)
	srv.Refuse = refuse("PASS", 1, "[AUTH] secret is wrong")
	srv.StartTLS()
	defer srv.Close()
	start(t, t.Context(), "fetch", "pops://user@"+srv.Addr, t.TempDir()).check(t, 1, "pop3 fetch: pop3: PASS", "[AUTH]")

	t.Setenv("POP3_PASSWORD", "")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	stdin := os.Stdin
	os.Stdin = null
	defer func() { os.Stdin = stdin }()
	var stderr bytes.Buffer
	a := &app{stdout: io.Discard, stderr: &stderr}
	if status := a.run(t.Context(), []string{"fetch", "pops://user@" + srv.Addr, t.TempDir()}); status != 1 || !strings.Contains(stderr.String(), "set POP3_PASSWORD") {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}

// A certificate that nobody vouches for ends the session before the password.
func TestFetchDistrusts(t *testing.T) {
	t.Setenv("POP3_PASSWORD", "secret")
	srv := pop3test.NewServer(nil)
	defer srv.Close()
	for _, flag := range []string{"-insecure", "-insecure=false"} {
		var stderr bytes.Buffer
		a := &app{stdout: io.Discard, stderr: &stderr}
		status := a.run(t.Context(), []string{"fetch", flag, "pop://user@" + srv.Addr, t.TempDir()})
		if status != 1 || !strings.Contains(stderr.String(), "certificate") {
			t.Errorf("%s: status %d, stderr %q", flag, status, stderr.String())
		}
	}
	for _, command := range srv.Commands() {
		if command != "CAPA" && command != "STLS" {
			t.Errorf("command %q", command)
		}
	}
}

func TestParseMailbox(t *testing.T) {
	for text, want := range map[string]mailbox{
		"pops://joe@example.com":                {"joe", "example.com", true},
		"pop://joe@example.com/":                {"joe", "example.com", false},
		"POPS://joe%40example.com@pop.x.y:9950": {"joe@example.com", "pop.x.y:9950", true},
		"pops://joe@[::1]":                      {"joe", "::1", true},
		"pops://joe@[::1]:995":                  {"joe", "[::1]:995", true},
		"pops://joe@example.com:":               {"joe", "example.com", true},
	} {
		if got, err := parseMailbox(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "example.com", "pops:joe@example.com", "http://joe@example.com", "pops://example.com", "pops://@example.com",
		"pops://joe@", "pops://joe@:995", "pops://joe@example.com/INBOX", "pops://joe@example.com?a=b", "pops://joe@example.com#a",
		"pops://joe:secret@example.com", "pops://joe:@example.com", "pops://joe:secret%zz@example.com",
		"pops://joe:secret@exa mple.com", "pops://joe@x.y:secret@example.com", "pops://joe@example.com:secret",
	} {
		if got, err := parseMailbox(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"", 2, "usage:"},
		{"help", 0, "usage:"},
		{"-h", 0, "usage:"},
		{"steal", 2, "usage:"},
		{"demo -h", 0, "-keep"},
		{"demo extra", 2, "1 arguments where 0"},
		{"demo -n 0", 2, "1 or more"},
		{"demo -n many", 2, "invalid value"},
		{"fetch", 2, "0 arguments where 2"},
		{"fetch pops://joe:secret@example.com", 2, "1 arguments where 2"},
		{"fetch pops://joe@example.com dir -delete", 2, "flags come first"},
		{"fetch pops://joe:secret@example.com dir", 1, "no password in the URL"},
		{"fetch -password=hidden pops://joe@example.com dir", 2, "not defined"},
	} {
		t.Run(test.args, func(t *testing.T) {
			start(t, t.Context(), strings.Fields(test.args)...).check(t, test.status, test.want)
		})
	}
	if _, err := os.Stat("dir"); err == nil {
		t.Error("a folder was made for a wrong URL")
	}
}
