package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/fleet"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// TestMain runs the test binary as the command if the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv(demoChild) != "" {
		main()
	}
	os.Setenv("POP3_SECRET_ANN", "secret")
	os.Exit(m.Run())
}

// An output is the standard output of a command that is running.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// run runs a command to its end.
func run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs output
	status = (&app{strings.NewReader(""), &out, &errs}).main(t.Context(), args)
	return out.String(), errs.String(), status
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, status := run(t, args...)
	if status != 0 {
		t.Fatalf("%q: status %d\n%s%s", args, status, stdout, stderr)
	}
	return stdout
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// serve runs the serve command in the folder, until the test ends. It returns the address of the metrics.
func serve(t *testing.T, dir string, args ...string) (metrics string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var out, errs output
	done := make(chan int)
	go func() {
		done <- (&app{strings.NewReader(""), &out, &errs}).main(ctx,
			append([]string{"serve", "-dir", dir, "-listen", "127.0.0.1:-1", "-metrics", "127.0.0.1:0", "-no-sync"}, args...))
	}()
	t.Cleanup(func() {
		cancel()
		if status := <-done; status != 0 {
			t.Errorf("serve ended with %d: %s", status, errs.String())
		}
	})
	found := regexp.MustCompile(`metrics on (\S+)`)
	until(t, "serve", func() bool { return found.MatchString(out.String()) })
	return found.FindStringSubmatch(out.String())[1]
}

// server returns a POP3 server with n messages.
func server(t *testing.T, n int) *pop3test.Server {
	var texts []string
	for i := range n {
		texts = append(texts, fmt.Sprintf("Subject: mail %d\r\n\r\ntext %d\r\n", i, i))
	}
	srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	srv.STLS = false
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestServeEnrolStatusDrain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "fleet")
	metrics := serve(t, dir)
	srv := server(t, 10)
	list := write(t, "mailboxes.csv", "# comment\npop://user@"+srv.Addr+", env:ANN, interval=1s, insecure, provider=test\n"+
		"pop://user@127.0.0.1:1,env:ANN,insecure,provider=gone\n")
	if out := mustRun(t, "enrol", "-dir", dir, list); out != "2 mailboxes enrolled\n" {
		t.Errorf("enrol: %s", out)
	}
	until(t, "messages deleted", func() bool { return len(srv.Deleted()) == 10 })

	var s fleet.Status
	until(t, "a failing mailbox", func() bool {
		if err := json.Unmarshal([]byte(mustRun(t, "status", "-dir", dir, "-json")), &s); err != nil {
			t.Fatal(err)
		}
		return s.Failing == 1
	})
	if s.Mailboxes != 2 || s.Mails != 10 || s.Undrained != 10 {
		t.Errorf("status %+v", s)
	}
	if out := mustRun(t, "status", "-dir", dir); !strings.Contains(out, "2 mailboxes: 1 failing") || !strings.Contains(out, "gone") {
		t.Errorf("status:\n%s", out)
	}
	page := get(t, metrics)
	for _, line := range []string{
		"pop3_fleet_up 1", `pop3_fleet_mailboxes{provider="test"} 1`, "pop3_fleet_worker_mails_total 10", "pop3_fleet_mails_undrained 10",
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("the metrics lack %s:\n%s", line, page)
		}
	}

	target := filepath.Join(t.TempDir(), "mail")
	if out := mustRun(t, "drain", "-dir", dir, "-once", "maildir:"+target); out != "10 mails delivered\n" {
		t.Errorf("drain: %s", out)
	}
	if n := len(files(t, filepath.Join(target, "new", "*"))); n != 10 {
		t.Errorf("%d files, want 10", n)
	}
	if out := mustRun(t, "drain", "-dir", dir, "-once", "maildir:"+target); out != "0 mails delivered\n" {
		t.Errorf("second drain: %s", out)
	}
	texts := filepath.Join(t.TempDir(), "texts")
	mustRun(t, "drain", "-dir", dir, "-once", "-name", "other", "files:"+texts)
	if n := len(files(t, filepath.Join(texts, "*.eml"))); n != 10 {
		t.Errorf("%d files, want 10", n)
	}
	mustRun(t, "drain", "-dir", dir, "-name", "other", "-forget")

	mustRun(t, "enrol", "-dir", dir, "-pause", list)
	mustRun(t, "enrol", "-dir", dir, "-resume", list)
	mustRun(t, "enrol", "-dir", dir, "-retry", list)
	mustRun(t, "enrol", "-dir", dir, "-remove", list)
	mustRun(t, "enrol", "-dir", dir, "-remove", list)
	if out := mustRun(t, "status", "-dir", dir); !strings.HasPrefix(out, "0 mailboxes") {
		t.Errorf("status:\n%s", out)
	}
	if _, stderr, status := run(t, "serve", "-dir", dir, "-listen", "127.0.0.1:-1"); status == 0 || !strings.Contains(stderr, "another process") {
		t.Errorf("a second engine in the folder: status %d, %s", status, stderr)
	}
	for _, name := range []string{"password", "address"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}

func TestDrainByHTTPAndCommand(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "fleet")
	serve(t, dir)
	srv := server(t, 3)
	mustRun(t, "enrol", "-dir", dir, write(t, "mailboxes.csv", "pop://user@"+srv.Addr+",env:ANN,insecure\n"))
	until(t, "messages deleted", func() bool { return len(srv.Deleted()) == 3 })

	var mu sync.Mutex
	posts := make(map[string]string)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		posts[r.Header.Get("Idempotency-Key")] = string(body)
	}))
	defer hook.Close()
	mustRun(t, "drain", "-dir", dir, "-once", "-name", "hook", hook.URL)
	if len(posts) != 3 {
		t.Errorf("%d posts with a key, want 3", len(posts))
	}
	for _, body := range posts {
		if !strings.HasPrefix(body, "Subject: mail ") {
			t.Errorf("body %q", body)
		}
	}
	out := t.TempDir()
	script := write(t, "deliver", `test -z "$POP3_SECRET_ANN" && cat >"`+out+`/$POP3_SHA256"`)
	mustRun(t, "drain", "-dir", dir, "-once", "-name", "command", "command:sh "+script)
	if n := len(files(t, filepath.Join(out, "*"))); n != 3 {
		t.Errorf("%d files, want 3", n)
	}
	failing := write(t, "deliver", "exit 75")
	out1 := mustRun(t, "drain", "-dir", dir, "-once", "-name", "failing", "command:sh "+failing)
	if out1 != "0 mails delivered\n" {
		t.Errorf("a command that fails: %s", out1)
	}
	var s fleet.Status
	if err := json.Unmarshal([]byte(mustRun(t, "status", "-dir", dir, "-json")), &s); err != nil || s.Undrained != 3 {
		t.Errorf("after a command that failed: %d not drained, %v", s.Undrained, err)
	}
}

// TestDrainIsKilled kills a drain to a Maildir at random, until all mail is there, once.
func TestDrainIsKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "fleet")
	serve(t, dir, "-lease", "1s")
	srv := server(t, 600)
	mustRun(t, "enrol", "-dir", dir, write(t, "mailboxes.csv", "pop://user@"+srv.Addr+",env:ANN,insecure\n"))
	until(t, "messages deleted", func() bool { return len(srv.Deleted()) == 600 })
	target := filepath.Join(t.TempDir(), "mail")
	args := []string{"drain", "-dir", dir, "-lease", "1s", "-once", "maildir:" + target}
	for range 5 {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), demoChild+"=1")
		before := len(files(t, filepath.Join(target, "new", "*")))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "a delivery", func() bool { return len(files(t, filepath.Join(target, "new", "*"))) > before || before == 600 })
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	until(t, "all mail delivered", func() bool {
		mustRun(t, args...)
		return len(files(t, filepath.Join(target, "new", "*"))) >= 600
	})
	if n := len(files(t, filepath.Join(target, "new", "*"))); n != 600 {
		t.Errorf("%d files, want 600", n)
	}
	if n := len(files(t, filepath.Join(target, "tmp", "*"))); n != 0 {
		t.Errorf("%d files remain in tmp", n)
	}
}

func TestCopyAndMode(t *testing.T) {
	t.Parallel()
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	serve(t, from, "-worker=false")
	serve(t, to, "-worker=false")
	list := write(t, "mailboxes.csv", "pop://a@127.0.0.1:1,env:ANN,insecure\npops://b@127.0.0.1:1,env:ANN\n")
	mustRun(t, "enrol", "-dir", from, list)
	address, err := os.ReadFile(filepath.Join(to, "address"))
	if err != nil {
		t.Fatal(err)
	}
	out := mustRun(t, "copy", "-dir", from, "-to", strings.TrimSpace(string(address)), "-to-password-file", filepath.Join(to, "password"))
	if out != "2 mailboxes copied\n" {
		t.Errorf("copy: %s", out)
	}
	if out := mustRun(t, "status", "-dir", to); !strings.HasPrefix(out, "2 mailboxes") {
		t.Errorf("status: %s", out)
	}
	single := filepath.Join(t.TempDir(), "single")
	if err := (&engineFlags{dir: from}).keepMode(""); err != nil {
		t.Errorf("the same mode: %v", err)
	}
	if err := (&engineFlags{dir: from}).keepMode("fleet"); err == nil {
		t.Error("a folder of a single engine was accepted for a cluster")
	}
	if err := os.Mkdir(single, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (&engineFlags{dir: single}).keepMode("fleet"); err != nil {
		t.Errorf("a new folder: %v", err)
	}
	if _, stderr, status := run(t, "serve", "-dir", single, "-listen", "127.0.0.1:-1"); status != exitFailed || !strings.Contains(stderr, "copy") {
		t.Errorf("serve of a folder of a cluster: %d, %s", status, stderr)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	out := mustRun(t, "demo", "-n", "40", "-workers", "2", "-for", "2s", "-rate", "30", "-every", "2s")
	if !strings.Contains(out, " 0 missing, 0 twice, 0 times two sessions") {
		t.Errorf("demo:\n%s", out)
	}
}

func TestParseMailbox(t *testing.T) {
	for line, want := range map[string]string{
		"pops://ann@pop.example.org,file:ann":              "ann pop.example.org tls file:ann 0s  false 0s",
		"pops://ann%40example.org@pop.example.org:1,env:A": "ann@example.org pop.example.org:1 tls env:A 0s  false 0s",
		"pop://ann@h,command:x,interval=1m,provider=p":     "ann h starttls command:x 1m0s p false 0s",
		"pop://ann@h,keyring:x,insecure,keep":              "ann h none keyring:x 0s  true 0s",
		"pop://ann@h/,keyring:x,keep=720h,":                "ann h starttls keyring:x 0s  true 720h0m0s",
		"pops://ann:geheim@h,env:A":                        "",
		"pops://ann@h,geheim":                              "",
		"pops://ann@h,geheim:":                             "",
		"pops://ann@h,plain:geheim":                        "",
		"pops://ann@h":                                     "",
		"pops://ann@h,env:A,insecure":                      "",
		"pops://ann@h,env:A,interval=x":                    "",
		"pops://ann@h,env:A,other":                         "",
		"imap://ann@h,env:A":                               "",
		"pops://h,env:A":                                   "",
		"pops://ann@h/path,env:A":                          "",
		"pops://ann@h?x,env:A":                             "",
		"pops://ann@,env:A":                                "",
		"not a url%,env:A":                                 "",
	} {
		m, err := parseMailbox(strings.Split(line, ","))
		got := fmt.Sprint(m.User, " ", m.Addr, " ", m.TLS, " ", m.Secret, " ", m.Interval, " ", m.Provider, " ", m.Keep, " ", m.KeepFor)
		if err == nil && got != want || err != nil && want != "" {
			t.Errorf("%s: %s, %v; want %s", line, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: the error shows what may be a password: %v", line, err)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"other"}, {"enrol"}, {"enrol", "a", "b"}, {"drain", "other:x"}, {"drain", "maildir:"}, {"serve", "-cluster", "c"},
		{"enrol", "-pause", "-remove", "x"}, {"demo", "-n", "0"}, {"status", "-other"}, {"copy"},
	} {
		if _, stderr, status := run(t, args...); status != exitUsage || stderr == "" {
			t.Errorf("%q: status %d, %s", args, status, stderr)
		}
	}
	if out := mustRun(t, "help"); !strings.Contains(out, "enrol FILE") {
		t.Errorf("help: %s", out)
	}
	if _, _, status := run(t, "drain", "-h"); status != 0 {
		t.Errorf("-h: status %d", status)
	}
	missing := filepath.Join(t.TempDir(), "fleet")
	if _, stderr, status := run(t, "status", "-dir", missing); status != exitFailed || !strings.Contains(stderr, "no engine in") {
		t.Errorf("status without an engine: %d, %s", status, stderr)
	}
	bad := write(t, "mailboxes.csv", "pops://ann@h,env:A\npops://ann@h,env:B\n")
	if _, stderr, status := run(t, "enrol", "-dir", missing, bad); status != exitFailed || !strings.Contains(stderr, "line 2: the mailbox of line 1 again") {
		t.Errorf("enrol twice: %d, %s", status, stderr)
	}
}

func TestMemoryLimit(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	for _, test := range []struct {
		megabytes int64
		engine    bool
		env       string
		want      int64
	}{
		{256, false, "", 792 << 20},
		{256, true, "", 1304 << 20},
		{1, false, "", 282 << 20},
		{256, false, "400MiB", 5 << 20}, // as the runtime has set it
	} {
		t.Setenv("GOMEMLIMIT", test.env)
		debug.SetMemoryLimit(5 << 20)
		w := workerFlags{megabytes: test.megabytes, sessions: 96}
		w.limitMemory(test.engine)
		if got := debug.SetMemoryLimit(-1); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}
