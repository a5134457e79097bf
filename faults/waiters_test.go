package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

// TestWaiters has the connection stall at each byte, in either direction, while commands wait for the session. A waiter
// whose ctx is done returns at once, and nothing is sent. All calls return at once when the session is closed or the
// command in flight is canceled.
func TestWaiters(t *testing.T) {
	every := 1
	if testing.Short() {
		every = 29
	}
	cases := 0
	for _, w := range ways {
		for _, up := range []bool{false, true} {
			for _, cancels := range []bool{false, true} {
				for after := cases % every; stalledWith(t, w, fault{kind: stall, up: up, after: after}, cancels); after += every {
					cases++
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}

// stalledWith reports whether the fault has happened.
func stalledWith(t *testing.T, w way, f fault, cancels bool) (happened bool) {
	t.Helper()
	t.Run(fmt.Sprintf("%s/%v/%v", w.name, f, cancels), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTour(w, newTrap("", 0, blocks), f)
			defer r.srv.Close()
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			r.ctx = ctx
			tour := start(r.run)
			time.Sleep(time.Second) // a probe may take a moment
			synctest.Wait()
			began := time.Now()
			if _, _, happened = r.conn.octets(); tour.over() {
				if tour.err != nil {
					t.Error(tour.err)
				}
				return
			}
			c := r.client.Load()
			if c == nil { // there is no session to wait for
				cancel()
				tour.endsWith(t, "connecting", context.Canceled)
			} else {
				meanwhile(t, c, tour, cancel, cancels)
			}
			synctest.Wait()
			if _, closed := r.conn.left(); !closed {
				t.Error("the connection is still open")
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("took %v", took)
			}
			if slices.Contains(r.srv.Commands(), "XWAIT") {
				t.Error("the canceled command was sent")
			}
			r.inTheClear(t)
		})
	})
	return happened && !t.Failed()
}

// meanwhile has commands wait, in a bubble, for a session in which one is stuck, and ends it.
func meanwhile(t *testing.T, c *pop3.Client, stuck *call, cancel func(), cancels bool) {
	t.Helper()
	ctx, give := context.WithCancel(background)
	defer give()
	canceled := start(func() error { _, err := c.Cmd(ctx, "XWAIT"); return err })
	waiters := map[string]*call{
		"NOOP":  start(func() error { return c.Noop(background) }),
		"login": start(func() error { return c.Login(background, "user", "secret") }),
		"LIST":  start(func() error { _, err := c.List(background); return err }),
		"DELE":  start(func() error { return c.DeleAll(background, []int{1, 2}) }),
		"RetrAll": start(func() error {
			for _, err := range c.RetrAll(background, []int{1, 2}) {
				return err
			}
			return nil
		}),
		"QUIT": start(func() error { return c.Quit(background) }),
	}
	synctest.Wait()
	give()
	if canceled.endsWith(t, "a canceled waiter", context.Canceled) && !errors.Is(canceled.err, pop3.ErrNotSent) {
		t.Errorf("%v is not ErrNotSent", canceled.err)
	}
	if cancels {
		cancel()
		stuck.endsWith(t, "the canceled command", context.Canceled)
	} else {
		start(c.Close).ends(t, "Close")
		stuck.endsWith(t, "the running command", pop3.ErrClosed)
	}
	for what, waiter := range waiters {
		waiter.endsWith(t, what+", which waited", pop3.ErrClosed)
	}
	start(func() error { _, err := c.Retr(background, 1); return err }).endsWith(t, "RETR afterwards", pop3.ErrClosed)
	start(func() error { return c.Quit(background) }).endsWith(t, "QUIT afterwards", pop3.ErrClosed)
	start(c.Close).ends(t, "Close again")
}

// slow is a connection whose Close blocks until it is released. It closes the underlying connection before or after
// that.
type slow struct {
	net.Conn
	first   bool
	closing chan struct{} // closed by Close
	release chan struct{}
	once    sync.Once
}

func (c *slow) Close() error {
	c.once.Do(func() { close(c.closing) })
	if c.first {
		c.Conn.Close()
	}
	<-c.release
	return c.Conn.Close()
}

// TestSlowClose has the Close of the connection block. Only the call that closes the connection waits for it.
func TestSlowClose(t *testing.T) {
	for _, first := range []bool{false, true} {
		for name, end := range map[string]func(c *pop3.Client, cancel func(), server net.Conn){
			"closed":   func(c *pop3.Client, _ func(), _ net.Conn) { start(c.Close) },
			"canceled": func(_ *pop3.Client, cancel func(), _ net.Conn) { cancel() },
			"lost":     func(_ *pop3.Client, _ func(), server net.Conn) { server.Close() },
			"out of step": func(_ *pop3.Client, _ func(), server net.Conn) {
				go io.WriteString(server, "what?\r\n")
			},
		} {
			t.Run(fmt.Sprintf("%s, closed below first: %v", name, first), func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				heard := make(chan struct{})
				go func() {
					io.WriteString(server, greeting)
					server.Read(make([]byte, 100))
					close(heard) // and no response
				}()
				conn := &slow{Conn: client, first: first, closing: make(chan struct{}), release: make(chan struct{})}
				c, err := pop3.NewClient(background, conn, &pop3.Options{StallTimeout: -1})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(background)
				defer cancel()
				stuck := start(func() error { return c.Noop(ctx) })
				arrives(t, heard, "NOOP is not sent")
				own, give := context.WithCancel(background)
				canceled := start(func() error { return c.Noop(own) })
				waiter := start(func() error { return c.Dele(background, 1) })
				settle(t, stuck, canceled, waiter)
				end(c, cancel, server)
				arrives(t, conn.closing, "the connection is not closed")
				give()
				if canceled.ends(t, "a canceled waiter") && !errors.Is(canceled.err, pop3.ErrNotSent) {
					t.Error(canceled.err)
				}
				waiter.endsWith(t, "a waiter", pop3.ErrClosed)
				start(func() error { return c.Noop(background) }).endsWith(t, "a later command", pop3.ErrClosed)
				start(func() error { return c.Quit(background) }).endsWith(t, "a later QUIT", pop3.ErrClosed)
				close(conn.release)
				stuck.ends(t, "the running command")
				start(c.Close).ends(t, "Close")
			})
		}
	}
}

// deaf is a connection whose deadlines have no effect, though setting them succeeds.
type deaf struct{ net.Conn }

func (deaf) SetDeadline(time.Time) error      { return nil }
func (deaf) SetReadDeadline(time.Time) error  { return nil }
func (deaf) SetWriteDeadline(time.Time) error { return nil }

// TestDeafDeadlines checks that ctx and Close end a command on a connection whose deadlines have no effect, both during
// a probe and while the client waits for the server.
func TestDeafDeadlines(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Second} {
		for name, do := range map[string]func(ctx context.Context, c *pop3.Client) error{
			"NOOP": func(ctx context.Context, c *pop3.Client) error { return c.Noop(ctx) },
			"PASS": func(ctx context.Context, c *pop3.Client) error { return c.Pass(ctx, "secret") },
			"QUIT": func(ctx context.Context, c *pop3.Client) error { return c.Quit(ctx) },
			"a batch": func(ctx context.Context, c *pop3.Client) error {
				return c.DeleAll(ctx, []int{1, 2})
			},
		} {
			for _, cancels := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s after %v, canceled: %v", name, pause, cancels), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						client, server := net.Pipe()
						defer server.Close()
						go func() {
							io.WriteString(server, greeting)
							io.Copy(io.Discard, server)
						}()
						opts := &pop3.Options{StallTimeout: -1, AllowInsecureLogin: true, NoPipelining: true}
						c, err := pop3.NewClient(background, deaf{client}, opts)
						if err != nil {
							t.Fatal(err)
						}
						defer c.Close()
						time.Sleep(pause)
						ctx, cancel := context.WithCancel(background)
						defer cancel()
						stuck := start(func() error { return do(ctx, c) })
						waiter := start(func() error { return c.Noop(background) })
						time.Sleep(time.Second)
						began := time.Now()
						if cancels {
							cancel()
							stuck.endsWith(t, "a canceled command", context.Canceled)
							// The session remains usable if nothing was sent.
						}
						start(c.Close).ends(t, "Close")
						stuck.ends(t, "the command")
						waiter.endsWith(t, "a waiter", pop3.ErrClosed)
						if took := time.Since(began); took > 0 {
							t.Errorf("took %v", took)
						}
					})
				})
			}
		}
	}
}
