package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

var texts = []string{
	"Subject: one\r\n\r\n.\r\n..\r\n.a line with a dot\r\n",
	"Subject: two\r\n\r\n8 bit \xff\x00 and a bare \r and \n\r\n",
	"Subject: three\r\n\r\n" + strings.Repeat("long ", 30_000) + "\r\n",
	"Subject: =?utf-8?q?f=C3=BCnf?=\r\nFrom: joe@example.org\r\n\r\n",
}

// A run is a command that has ended.
type run struct {
	status         int
	stdout, stderr string
}

func newRun(status int, stdout, stderr *syncBuffer) run {
	return run{status, stdout.String(), stderr.String()}
}

// An env is where commands run: with a home, a state, and the password "secret" in the environment.
type env struct {
	*testing.T
	home string
	vars map[string]string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	return &env{t, home, map[string]string{"HOME": home, "POP3_PASSWORD": "secret"}}
}

// onUnix skips a test that needs a shell, or the paths or the error texts of Unix.
func onUnix(t testing.TB) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
}

// config writes the configuration.
func (e *env) config(text string) {
	e.Helper()
	onUnix(e) // the paths in it are not quoted
	dir := filepath.Join(e.home, ".config", "pop3")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		e.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600); err != nil {
		e.Fatal(err)
	}
}

// path returns a path in the home.
func (e *env) path(name ...string) string { return filepath.Join(append([]string{e.home}, name...)...) }

// app returns a command that trusts the test server, and its outputs.
func (e *env) app() (a *app, stdout, stderr *syncBuffer) {
	stdout, stderr = &syncBuffer{}, &syncBuffer{}
	a = &app{stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, tls: pop3test.TLSConfig(), password: e.vars["POP3_PASSWORD"]}
	a.getenv = func(name string) string { return e.vars[name] }
	a.tls.ServerName = "" // the name is the URL's
	return a, stdout, stderr
}

// run runs a command to its end.
func (e *env) run(args ...string) run {
	e.Helper()
	return e.runContext(e.Context(), args...)
}

func (e *env) runContext(ctx context.Context, args ...string) run {
	e.Helper()
	a, stdout, stderr := e.app()
	status := a.run(ctx, args)
	return newRun(status, stdout, stderr)
}

// check fails the test unless the command ended with a status and has shown the texts, on whichever output.
func (r run) check(t testing.TB, status int, texts ...string) run {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d; stdout %q, stderr %q", r.status, status, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("stdout %q, stderr %q: want %q", r.stdout, r.stderr, text)
		}
	}
	if strings.Contains(r.stdout+r.stderr, "secret") {
		t.Errorf("the password is shown: stdout %q, stderr %q", r.stdout, r.stderr)
	}
	for _, prefix := range []string{"pop3: pop3:", ": pop3: ", ": fetch: ", "fetch: fetch:"} {
		if strings.Contains(r.stderr, prefix) {
			t.Errorf("stderr %q: the prefix of a package", r.stderr)
		}
	}
	return r
}

// A syncBuffer is safe for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serve starts a server with STLS and messages; set may change it before.
func serve(t testing.TB, set func(*pop3test.Server), texts ...string) *pop3test.Server {
	t.Helper()
	srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	if set != nil {
		set(srv)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// delivered returns the messages in the folder new of a Maildir, sorted, and fails the test unless the other folders
// are empty.
func delivered(t testing.TB, dir string) []string {
	t.Helper()
	for _, folder := range []string{"tmp", "cur"} {
		if files, err := os.ReadDir(filepath.Join(dir, folder)); err != nil || len(files) > 0 {
			t.Errorf("%s has %d files, %v", folder, len(files), err)
		}
	}
	return contents(t, filepath.Join(dir, "new"))
}

// contents returns the contents of the files of a folder, sorted.
func contents(t testing.TB, dir string) []string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, file := range files {
		if file.IsDir() {
			continue
		}
		name := filepath.Join(dir, file.Name())
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

// lf returns texts as a Maildir has them, sorted.
func lf(texts ...string) []string {
	var got []string
	for _, text := range texts {
		got = append(got, strings.ReplaceAll(text, "\r\n", "\n"))
	}
	slices.Sort(got)
	return got
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

// before is a Refuse that refuses nothing, but does something before a command.
func before(verb string, nth int, do func()) func(string, int) string {
	return func(v string, n int) string {
		if v == verb && n == nth {
			do()
		}
		return ""
	}
}

// A mutable is a Maildrop whose messages a test changes between sessions.
type mutable struct {
	pop3test.Maildrop
	ids []string
}

func (m *mutable) UID(n int) string { return m.ids[n-1] }

// withIDs serves messages under other unique-ids.
func withIDs(srv *pop3test.Server, ids ...string) { srv.Maildrop = &mutable{srv.Maildrop, ids} }
