package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
)

// fetching runs package fetch against the servers.
var fetching = []testCase{
	{"fetch once, delete later", func(e *env) {
		e.stable()
		user := e.NewUser(e.T, distinct(20)...)
		dir := e.TempDir()
		store := new(fetch.MemoryStore)
		now := time.Now()
		run := func(policy fetch.Policy, want int) {
			e.Helper()
			f := e.fetcher(user, dir, store)
			f.Policy, f.Now = policy, func() time.Time { return now }
			report, err := f.Run(e.ctx)
			e.must(err)
			if report.Fetched != want {
				e.Errorf("%d messages fetched, want %d", report.Fetched, want)
			}
		}
		run(fetch.Policy{}, 20)
		run(fetch.Policy{DeleteAfter: 14 * 24 * time.Hour}, 0)
		e.left(user, 20)
		e.eachOnce(dir, 20)
		now = now.Add(15 * 24 * time.Hour)
		run(fetch.Policy{DeleteAfter: 14 * 24 * time.Hour}, 0)
		e.left(user, 0)
		e.eachOnce(dir, 20)
	}},
	{"fetch, kill, fetch", func(e *env) {
		e.stable()
		for _, remove := range []bool{false, true} {
			user := e.NewUser(e.T, distinct(60)...)
			dir := e.TempDir()
			for kill := range 4 {
				e.fetchInProcess(user, dir, remove, time.Duration(20+60*kill)*time.Millisecond)
			}
			for deadline := time.Now().Add(10 * time.Second); !e.fetchInProcess(user, dir, remove, 0); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(deadline) { // the server kept the maildrop locked for the killed process
					e.Fatal("the maildrop remains locked")
				}
			}
			e.eachOnce(dir, 60)
			if remove {
				e.left(user, 0)
			} else {
				e.left(user, 60)
			}
		}
	}},
	{"fetch of several accounts", func(e *env) {
		var wg sync.WaitGroup
		dir := e.TempDir() // one Maildir for all
		for range 4 {
			user := e.NewUser(e.T, distinct(10)...)
			wg.Go(func() {
				f := e.fetcher(user, dir, new(fetch.MemoryStore))
				f.Policy.Delete = true
				if _, err := f.Run(e.ctx); err != nil {
					e.Error(err)
				}
			})
		}
		wg.Wait()
		if files := e.files(dir); len(files) != 40 {
			e.Errorf("%d messages, want 40", len(files))
		}
	}},
}

// stable ends the case if the sizes of messages change between sessions: a known unique-id with another size is taken
// for that of a new message.
func (e *env) stable() {
	e.Helper()
	if e.SizesGrow {
		e.note("sizes grow from session to session")
		e.lacks()
	}
}

// distinct returns messages that differ by their subjects.
func distinct(n int) (messages []string) {
	for i := range n {
		messages = append(messages, fmt.Sprintf("From: a@example.org\r\nSubject: number %d.\r\n\r\n..\r\n.two %d\r\n", i, i))
	}
	return messages
}

func (e *env) fetcher(user, dir string, store fetch.Store) *fetch.Fetcher {
	return &fetch.Fetcher{
		Account: user,
		Store:   store,
		Sink:    &fetch.Maildir{Dir: filepath.Join(dir, "Maildir")},
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			return openSession(ctx, e.Addr, user, e.Password(user), e.options())
		},
	}
}

func openSession(ctx context.Context, addr, user, password string, opts *pop3.Options) (*pop3.Client, error) {
	c, err := pop3.Dial(ctx, addr, opts)
	if err != nil {
		return nil, err
	}
	err = c.User(ctx, user)
	if err == nil {
		err = c.Pass(ctx, password)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// files returns the messages in the Maildir below dir.
func (e *env) files(dir string) (texts []string) {
	e.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "Maildir", "new"))
	e.must(err)
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, "Maildir", "new", entry.Name()))
		e.must(err)
		texts = append(texts, string(text))
	}
	return texts
}

// eachOnce checks that the Maildir below dir contains each of n distinct messages exactly once.
func (e *env) eachOnce(dir string, n int) {
	e.Helper()
	times := make(map[string]int)
	for _, text := range e.files(dir) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "Subject: ") {
				times[strings.TrimSpace(line)]++
			}
		}
	}
	for i := range n {
		subject := fmt.Sprintf("Subject: number %d.", i)
		if times[subject] != 1 {
			e.Errorf("%q is there %d times", subject, times[subject])
		}
		delete(times, subject)
	}
	for subject := range times {
		e.Errorf("%q was not expected", subject)
	}
}

const fetchChild = "POP3_INTEROP_FETCH"

// fetchInProcess fetches in another process, and kills it after a while, unless that is 0. It reports whether the
// process ended by itself and without an error.
func (e *env) fetchInProcess(user, dir string, remove bool, life time.Duration) bool {
	e.Helper()
	cmd := exec.CommandContext(e.ctx, os.Args[0], "-test.run=^TestFetchChild$")
	cmd.Env = append(os.Environ(), fetchChild+"="+strings.Join([]string{e.Addr, user, e.Password(user), dir, fmt.Sprint(remove)}, "\n"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	e.must(cmd.Start())
	if life > 0 {
		timer := time.AfterFunc(life, func() { cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	if err != nil && life == 0 {
		e.Logf("%v\n%s", err, out.String())
	}
	return err == nil
}

// TestFetchChild is the process that fetchInProcess starts.
func TestFetchChild(t *testing.T) {
	task := os.Getenv(fetchChild)
	if task == "" {
		t.Skip("not started by another test")
	}
	args := strings.Split(task, "\n")
	addr, user, password, dir := args[0], args[1], args[2], args[3]
	store, err := boltstore.Open(filepath.Join(dir, "state"), user)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f := &fetch.Fetcher{
		Account: user,
		Store:   store,
		Sink:    &fetch.Maildir{Dir: filepath.Join(dir, "Maildir")},
		Policy:  fetch.Policy{Delete: args[4] == "true"},
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			return openSession(ctx, addr, user, password, &pop3.Options{AllowInsecureLogin: true})
		},
		BatchMessages: 8,
	}
	if _, err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
