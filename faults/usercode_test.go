package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/seed-5b1d5243/pop3"
)

// A panic or an exit in user code of these kinds leaves the session usable.
var harmless = []string{"LIST body", "UIDL body", "Writer", "RetrAll body", "TopAll body", "SASL Start"}

// User code of these kinds does not block other commands: a listing is spilled, and the name of a mechanism is
// requested before the lease is acquired. Observe may be called before or after the lease is released.
var (
	free  = []string{"LIST body", "UIDL body", "SASL Start"}
	maybe = []string{"Observe"}
)

// User code of these kinds is called after the command was written: if ctx is done then, the session is closed.
var governed = []string{"Writer", "RetrAll body", "TopAll body", "SASL Next", "SASL Done", "GetClientCertificate",
	"VerifyPeerCertificate", "VerifyConnection", "KeyLogWriter", "ClientSessionCache Get"}

// TestUserCode has user code block, panic and exit, at each call of it in a session that calls every kind.
func TestUserCode(t *testing.T) {
	cases := 0
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			undisturbed := newTour(w, newTrap("", 0, blocks), fault{})
			if err := undisturbed.run(); err != nil {
				t.Fatal(err)
			}
			undisturbed.srv.Close()
			undisturbed.inTheClear(t)
			counts := undisturbed.trap.counts
			for _, kind := range slices.Sorted(maps.Keys(counts)) {
				every := 1
				if testing.Short() {
					every = max(1, counts[kind]/8)
				}
				for _, how := range []manner{blocks, panics, exits} {
					if kind == "KeyLogWriter" && how != blocks {
						continue // crypto/tls would keep a process-wide lock
					}
					t.Run(kind+" "+how.String(), func(t *testing.T) {
						for nth := 1; nth <= counts[kind] && !t.Failed(); nth += every {
							cases++
							if how == blocks {
								blocked(t, w, kind, nth, false)
								blocked(t, w, kind, nth, true)
							} else {
								left(t, w, kind, nth, how)
							}
							if t.Failed() {
								t.Logf("call %d of %d", nth, counts[kind])
							}
						}
					})
				}
			}
		})
	}
	t.Logf("%d cases", cases)
}

// spring makes a tour up to the trap. It returns the call that makes the tour, and the client, which is nil if there is
// none yet.
func spring(t *testing.T, r *tour) (tour *call, c *pop3.Client) {
	t.Helper()
	tour = start(r.run)
	reached := make(chan struct{})
	go func() {
		defer close(reached)
		select {
		case <-r.trap.sprung:
		case <-tour.done:
		}
	}()
	if !arrives(t, reached, "neither the trap nor the end is reached") {
		t.FailNow()
	}
	select {
	case <-r.trap.sprung:
	default:
		t.Fatalf("the trap was not reached; %v", tour.err)
	}
	return tour, r.client.Load()
}

// blocked has user code block. Meanwhile Close and ctx end all waiting calls, and later calls do not hang.
func blocked(t *testing.T, w way, kind string, nth int, cancels bool) {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	r := newTour(w, newTrap(kind, nth, blocks), fault{})
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	r.ctx = ctx
	tour, c := spring(t, r)
	if c == nil { // there is no session to wait for
		close(r.trap.goOn)
		if tour.ends(t, "the tour") && tour.err != nil {
			t.Error(tour.err)
		}
		r.srv.Close()
		nothingLeft(t, goroutines, math.MaxInt)
		return
	}

	free, maybe := slices.Contains(free, kind), slices.Contains(maybe, kind)
	own, give := context.WithCancel(background)
	defer give()
	canceled := start(func() error { _, err := c.Cmd(own, "XWAIT"); return err })
	waiter := start(func() error { return c.Noop(background) })
	if free {
		for _, call := range []*call{canceled, waiter} {
			if call.ends(t, "a command that need not wait") && mustAnswer(call.err) != nil {
				t.Error(call.err)
			}
		}
	}
	settle(t, tour, canceled, waiter)
	give()
	if canceled.ends(t, "a canceled waiter") && !free && !maybe {
		canceled.endsWith(t, "a canceled waiter", context.Canceled)
		if !errors.Is(canceled.err, pop3.ErrNotSent) {
			t.Errorf("%v is not ErrNotSent", canceled.err)
		}
	}
	if cancels {
		cancel()
		if slices.Contains(governed, kind) {
			waiter.endsWith(t, "a waiter whose session was canceled", pop3.ErrClosed)
		}
		close(r.trap.goOn)
		tour.ends(t, "the tour")
		waiter.ends(t, "a waiter")
	}
	start(c.Close).ends(t, "Close")
	if waiter.ends(t, "a waiter") && !free && !maybe && !cancels {
		waiter.endsWith(t, "a waiter whose session was closed", pop3.ErrClosed)
	}
	start(func() error { _, _, err := c.Stat(background); return err }).endsWith(t, "STAT after Close", pop3.ErrClosed)
	if !cancels {
		close(r.trap.goOn)
		if tour.ends(t, "the tour") && errors.As(tour.err, new(*broken)) {
			t.Error(tour.err)
		}
	}
	if !free && !maybe && slices.Contains(r.srv.Commands(), "XWAIT") {
		t.Error("the canceled command was sent")
	}
	r.srv.Close()
	r.inTheClear(t)
	nothingLeft(t, goroutines, math.MaxInt)
}

// left has user code panic or exit. Afterwards the session is in sync or closed.
func left(t *testing.T, w way, kind string, nth int, how manner) {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	r := newTour(w, newTrap(kind, nth, how), fault{})
	ctx, cancel := context.WithCancel(background)
	r.ctx = ctx
	tour, c := spring(t, r)
	waiter := start(func() error { return nil })
	if c != nil {
		waiter = start(func() error { return c.Noop(background) })
		settle(t, tour, waiter)
	}
	close(r.trap.goOn)
	tour.ends(t, "the tour")
	if _, closed := r.conn.left(); c == nil && !closed && kind != "Dialer" {
		t.Error("the connection is still open")
	}
	cancel() // as a deferred call would
	if c == nil && r.client.Load() != nil {
		t.Error("the panic was swallowed")
	}
	if waiter.ends(t, "a waiter") && mustAnswer(waiter.err) != nil && !errors.Is(waiter.err, pop3.ErrClosed) {
		// It was running when user code of the command before ended the session, and got the cause.
		start(func() error { return c.Noop(background) }).endsWith(t, fmt.Sprintf("after %v, NOOP", waiter.err), pop3.ErrClosed)
	}
	if c != nil {
		inSyncOrClosed(t, r, c, slices.Contains(harmless, kind))
		start(c.Close).ends(t, "Close")
	}
	r.srv.Close()
	r.inTheClear(t)
	nothingLeft(t, goroutines, math.MaxInt)
}

// mustAnswer returns err unless it is nil or a refusal.
func mustAnswer(err error) error {
	if errors.As(err, new(*pop3.ServerError)) {
		return nil
	}
	return err
}

// inSyncOrClosed checks that each command gets its own response, or that all of them report a closed session.
func inSyncOrClosed(t *testing.T, r *tour, c *pop3.Client, alive bool) {
	t.Helper()
	for command, want := range map[string]string{"NOOP": "nothing done", "XYZZY": "unknown command"} {
		var text string
		call := start(func() (err error) { text, err = c.Cmd(background, command); return err })
		if !call.ends(t, command) {
			return
		}
		var no *pop3.ServerError
		if errors.As(call.err, &no) {
			text = no.Text
		}
		switch {
		case errors.Is(call.err, pop3.ErrClosed):
			if alive {
				t.Errorf("the session is closed: %v", call.err)
				return
			}
		case call.err != nil && no == nil:
			t.Errorf("%s: %v", command, call.err)
		case text != want && text != "not in this state":
			t.Errorf("%s is answered %q, want %q", command, text, want)
		}
	}
	login := start(func() error { return c.Login(background, "user", "secret") })
	login.ends(t, "login")
}
