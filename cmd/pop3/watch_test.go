package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A notified keeps the notifications to systemd.
type notified struct {
	mu     sync.Mutex
	states []string
}

func (n *notified) notify(state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.states = append(n.states, state)
}

func (n *notified) all() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.states, "\n")
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// newWatcher returns a watcher of the accounts of the configuration.
func (e *env) newWatcher(interval time.Duration) (w *watcher, stdout, stderr *syncBuffer, told *notified) {
	e.Helper()
	a, stdout, stderr := e.app()
	r, err := a.newRunner(e.Context(), "watch", &runFlags{}, nil)
	if err != nil {
		e.Fatal(err)
	}
	told = &notified{}
	w = &watcher{runner: r, notify: told.notify}
	for _, account := range r.accounts {
		w.watches = append(w.watches, newWatch(account, interval))
	}
	return w, stdout, stderr, told
}

func TestWatch(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts[:2]...)
	bad := serve(t, func(s *pop3test.Server) { s.Password = "another" })
	e.config(fmt.Sprintf("[defaults]\npassword_command = \"echo secret\"\n[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\nkeep = false\n[bad]\nurl = \"pop://user@%s\"\ndest = \"%s\"\n",
		srv.Addr, e.path("a"), bad.Addr, e.path("bad")))
	w, stdout, stderr, told := e.newWatcher(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wake := make(chan struct{})
	ended := make(chan error)
	go func() { ended <- w.run(ctx, wake) }()

	logins := func(s *pop3test.Server) (n int) {
		for _, command := range s.Commands() {
			if command == "USER user" {
				n++
			}
		}
		return n
	}
	eventually(t, "the first look", func() bool {
		return strings.Contains(told.all(), "2 accounts, 2 messages fetched; bad: login refused")
	})
	if !strings.HasPrefix(told.all(), "READY=1\nSTATUS=") || !strings.Contains(stdout.String(), "a: 2 messages fetched, 88 B, 2 deleted\n") {
		t.Errorf("systemd: %q, stdout %q", told.all(), stdout)
	}
	before := logins(srv)
	wake <- struct{}{} // as SIGUSR1 does
	eventually(t, "the second look", func() bool { return logins(srv) == before+1 && logins(bad) == 2 })
	if s := stderr.String(); !strings.Contains(s, "a: 2 fetched so far; last: ok, 2 messages fetched") || !strings.Contains(s, "; next in ") {
		t.Errorf("status %q", s)
	}
	eventually(t, "the second result", func() bool { return strings.Count(told.all(), "STATUS=") == 4 })
	cancel()
	if err := <-ended; exitStatus(err) != exitInterrupted {
		t.Errorf("error %v", err)
	}
	if !strings.HasSuffix(told.all(), "STOPPING=1") {
		t.Errorf("systemd: %q", told.all())
	}
	if got := delivered(t, e.path("a")); !slices.Equal(got, lf(texts[:2]...)) {
		t.Errorf("delivered %q", got)
	}
}

// An interval passes, and new mail is fetched.
func TestWatchInterval(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { withIDs(s, "one", "two") }, texts[:2]...)
	e.config(fmt.Sprintf("[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\n", srv.Addr, e.path("a")))
	w, _, _, _ := e.newWatcher(10 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.run(ctx, nil) }()
	eventually(t, "five looks", func() bool {
		return strings.Count(strings.Join(srv.Commands(), "\n"), "UIDL") >= 5
	})
	cancel()
	<-ended
	if got := delivered(t, e.path("a")); len(got) != 2 {
		t.Errorf("%d messages", len(got))
	}
}

func TestWatchDelays(t *testing.T) {
	login := fmt.Errorf("%w: no", fetch.ErrLogin)
	server := fmt.Errorf("%w: no", fetch.ErrServer)
	a := newWatch(&config.Account{Name: "a"}, 5*time.Minute)
	within := func(err error, loginDelay, least, most time.Duration) {
		t.Helper()
		if d := a.done(fetch.Report{}, err, loginDelay); d < least || d > most {
			t.Errorf("%v: %v, want %v to %v", err, d, least, most)
		}
	}
	within(nil, 0, 270*time.Second, 330*time.Second)
	within(nil, time.Hour, time.Hour, time.Hour)
	within(fmt.Errorf("%w", fetch.ErrLocked), 0, 270*time.Second, 330*time.Second)
	within(server, 0, 15*time.Second, 45*time.Second)
	within(server, 0, 30*time.Second, 90*time.Second)
	within(fmt.Errorf("%w: full", fetch.ErrSink), 0, time.Minute, 3*time.Minute)
	for range 20 {
		within(server, 0, 0, 1350*time.Second)
	}
	within(nil, 0, 270*time.Second, 330*time.Second)
	within(server, 0, 15*time.Second, 45*time.Second) // from the beginning
	within(login, 0, 5*time.Minute, 15*time.Minute)
	within(login, 0, 10*time.Minute, 30*time.Minute)
	if s := a.status(); !strings.HasPrefix(s, "a: 0 fetched so far; last: login refused: no; next in ") {
		t.Errorf("status %q", s)
	}
}

// A wake does not make the client come earlier than the server wants.
func TestWatchSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWatch(&config.Account{}, time.Minute)
		sleep := func(delay, least time.Duration) time.Duration {
			begin := time.Now()
			if !a.sleep(t.Context(), delay, least) {
				t.Error("the context is not done")
			}
			return time.Since(begin)
		}
		if d := sleep(time.Hour, 0); d != time.Hour {
			t.Errorf("slept %v", d)
		}
		time.AfterFunc(time.Minute, func() { a.wake <- struct{}{} })
		if d := sleep(time.Hour, 0); d != time.Minute {
			t.Errorf("slept %v", d)
		}
		time.AfterFunc(time.Minute, func() { a.wake <- struct{}{} })
		if d := sleep(time.Hour, 10*time.Minute); d != 10*time.Minute {
			t.Errorf("slept %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if a.sleep(ctx, time.Hour, 0) {
			t.Error("the context is done")
		}
	})
}

// The watchdog is fed while no run is stuck.
func TestWatchAlive(t *testing.T) {
	now := time.Now()
	w := &watcher{watches: []*watch{newWatch(&config.Account{}, time.Minute), newWatch(&config.Account{}, time.Minute)}}
	w.watches[0].active = now.Add(-time.Hour) // it sleeps
	if !w.alive(now) {
		t.Error("sleeping is being stuck")
	}
	w.watches[1].running, w.watches[1].active = true, now.Add(-10*time.Minute)
	if !w.alive(now) {
		t.Error("ten minutes is too soon")
	}
	w.watches[1].active = now.Add(-time.Hour)
	if w.alive(now) {
		t.Error("not stuck after an hour")
	}
}
