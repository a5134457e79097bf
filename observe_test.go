package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// events records the calls of Observe, one line each: verb, number, octets, progress, error.
type events struct {
	mu    sync.Mutex
	lines []string
}

func (v *events) observe(_ context.Context, e Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := fmt.Sprintf("%q %d %d", e.Verb, e.Number, e.Octets)
	switch {
	case !e.Answered.IsZero():
		line += " answered"
	case !e.Sent.IsZero():
		line += " sent"
	}
	last := e.Queued
	for _, at := range []time.Time{e.Sent, e.Answered, e.End} {
		if !at.IsZero() && at.Before(last) {
			line += " out of order"
		}
		if !at.IsZero() {
			last = at
		}
	}
	if e.Queued.IsZero() || e.End.IsZero() {
		line += " without a time"
	}
	var refused *ServerError
	switch {
	case errors.As(e.Err, &refused):
		line += " -ERR"
	case errors.Is(e.Err, ErrNotSent):
		line += " not sent"
	case e.Err != nil:
		line += " failed"
	}
	v.lines = append(v.lines, line)
}

// want compares with the events since the last call.
func (v *events) want(t *testing.T, want ...string) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if diff := cmp.Diff(want, v.lines); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	v.lines = nil
}

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := new(events)
		c := dialogue(t, &Options{Observe: v.observe, AllowInsecureLogin: true}, `
			C: CAPA
			S: +OK
			S: TOP
			S: .
			C: USER joe
			S: +OK
			C: PASS secret
			S: -ERR
			C: USER 7
			S: +OK
			C: STAT
			S: +OK 2 320
			C: LIST
			S: +OK
			S: 1 10
			S: 2 20
			S: .
			C: UIDL 2
			S: +OK 2 x
			C: RETR 2
			S: +OK
			S: ..two
			S: .
			C: TOP 1 0
			S: +OK
			S: one
			S: two
			S: .
			C: DELE 9
			S: -ERR
			C: lang
			S: +OK
			S: en English
			S: .
			C: QUIT
			S: +OK
			!close`)
		v.want(t, `"" 0 0 answered`)
		if err := c.Login(background, "joe", "secret"); !isServerError(err) {
			t.Errorf("Login: %v", err)
		}
		v.want(t, `"CAPA" 0 5 answered`, `"USER" 0 0 answered`, `"PASS" 0 0 answered -ERR`)
		must(t, c.User(background, "7"))
		_, _, err := c.Stat(background)
		must(t, err)
		l, err := c.List(background)
		must(t, err)
		v.want(t, `"USER" 0 0 answered`, `"STAT" 0 0 answered`)
		_, err = c.UID(background, 2)
		must(t, err)
		_, err = l.Slice()
		must(t, err)
		m, err := c.Retr(background, 2)
		readAll(t, m, err, ".two\r\n")
		m, err = c.Top(background, 1, 0)
		must(t, err)
		must(t, m.Close())
		if err := c.Dele(background, 9); err == nil {
			t.Error("DELE 9 succeeds")
		}
		m, err = c.CmdMultiline(background, "lang")
		must(t, err)
		must(t, m.Close())
		must(t, m.Close())
		must(t, c.Quit(background))
		must(t, c.Close())
		v.want(t, `"LIST" 0 15 answered`, `"UIDL" 2 0 answered`, `"RETR" 2 6 answered`, `"TOP" 1 10 answered`, `"DELE" 9 0 answered -ERR`,
			`"LANG" 0 12 answered`, `"QUIT" 0 0 answered`)
	})
}

// TestObserveUnsent has commands of which nothing is sent. Each causes one event.
func TestObserveUnsent(t *testing.T) {
	done, cancel := context.WithCancel(background)
	cancel()
	synctest.Test(t, func(t *testing.T) {
		v := new(events)
		c := dialogue(t, &Options{Observe: v.observe}, `
			C: RETR 1
			S: +OK
			S: .`)
		v.want(t, `"" 0 0 answered`)
		for name, do := range map[string]func() error{
			`"NOOP" 0`: func() error { return c.Noop(done) },
			`"DELE" 3`: func() error { return c.Dele(done, 3) },
			`"DELE" 4`: func() error { return c.DeleAll(done, []int{4, 5}) },
			`"DELE" 0`: func() error { return c.Dele(background, 0) },
			`"RETR" 0`: func() error { _, err := c.Retr(background, 0); return err },
			`"TOP" 1`:  func() error { _, err := c.Top(background, 1, -1); return err },
			`"TOP" 0`:  func() error { return firstError(c.TopAll(background, []int{1}, -1)) },
			`"RETR" 2`: func() error { return firstError(c.RetrAll(done, []int{2})) },
			`"UIDL" 0`: func() error { _, err := c.UID(background, -7); return err },
			`"USER" 0`: func() error { return c.User(background, "a\nb") },
			`"PASS" 0`: func() error { return c.Pass(background, "x") },
			`"APOP" 0`: func() error { return c.APOP(background, "x", "y") },
			`"AUTH" 0`: func() error { return c.Auth(background, XOAUTH2("joe", "token")) },
			`"STLS" 0`: func() error { _, err := c.Cmd(background, "STLS"); return err },
			`"LANG" 0`: func() error { return c.Lang(background, "") },
			`"X" 0`:    func() error { _, err := c.CmdMultiline(background, "X", "\r"); return err },
		} {
			wantError(t, do(), ErrNotSent)
			v.want(t, name+" 0 not sent")
		}
		m, err := c.Retr(background, 1)
		must(t, err)
		wantError(t, c.Noop(background), ErrBusy)
		v.want(t, `"NOOP" 0 0 not sent`)
		must(t, m.Close())
		v.want(t, `"RETR" 1 0 answered`)
		must(t, c.Close())
		wantError(t, c.Noop(background), ErrClosed)
		v.want(t, `"NOOP" 0 0 not sent`)
	})
}

func firstError(messages func(func(*Message, error) bool)) (err error) {
	for _, err = range messages {
		break
	}
	return err
}

// TestObserveBatch checks that each command of a batch causes an event, also if it was discarded or the session ended.
func TestObserveBatch(t *testing.T) {
	for name, pipelining := range map[string]bool{"pipelined": true, "lock step": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := new(events)
				srv := pop3test.NewUnstartedServer(pop3test.Messages("1\r\n", "22\r\n", "333\r\n", "4444\r\n"))
				c := served(t, &Options{Observe: v.observe, NoPipelining: !pipelining}, srv)
				_, err := c.Capabilities(background)
				must(t, err)
				v.lines = nil
				n := 0
				for m, err := range c.RetrAll(background, []int{1, 9, 2, 3, 4}) {
					must(t, err)
					if n++; n == 4 {
						break
					}
					if n == 1 {
						readAll(t, m, err, "1\r\n")
					}
				}
				want := []string{`"RETR" 1 3 answered`, `"RETR" 9 0 answered -ERR`, `"RETR" 2 4 answered`, `"RETR" 3 5 answered`}
				if pipelining {
					want = append(want, `"RETR" 4 6 answered`)
				}
				v.want(t, want...)
				if err := c.DeleAll(background, []int{1, 9, 2}); !isServerError(err) {
					t.Errorf("DeleAll: %v", err)
				}
				v.want(t, `"DELE" 1 0 answered`, `"DELE" 9 0 answered -ERR`, `"DELE" 2 0 answered`)
			})
		})
	}
	t.Run("lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := new(events)
			client, server := net.Pipe()
			go func() {
				buf := make([]byte, 100)
				io.WriteString(server, "+OK\r\n")
				server.Read(buf) // CAPA
				io.WriteString(server, "+OK\r\nPIPELINING\r\n.\r\n")
				server.Read(buf)
				io.WriteString(server, "+OK\r\n1\r\n.\r\n+OK\r\n2")
				server.Close()
			}()
			c := connect(t, &Options{Observe: v.observe}, client)
			_, err := c.Capabilities(background)
			must(t, err)
			v.lines = nil
			for m := range c.RetrAll(background, []int{1, 2, 3}) {
				io.ReadAll(m)
			}
			v.want(t, `"RETR" 1 3 answered`, `"RETR" 2 1 answered failed`, `"RETR" 3 0 sent failed`)
		})
	})
}

// TestObserveClosed has a session that is closed in the middle of a response.
func TestObserveClosed(t *testing.T) {
	for name, end := range map[string]func(c *Client, cancel func()){
		"Close":  func(c *Client, _ func()) { c.Close() },
		"Quit":   func(c *Client, _ func()) { c.Quit(background) },
		"cancel": func(_ *Client, cancel func()) { cancel() },
	} {
		for _, command := range []string{"RETR 1", "LIST"} {
			t.Run(name+" "+command, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					v := new(events)
					c := dialogue(t, &Options{Observe: v.observe}, "\nC: "+command+"\nS: +OK\nS: 1 2\n!stall")
					ctx, cancel := context.WithCancel(background)
					defer cancel()
					var err error
					if command == "LIST" {
						_, err = c.List(ctx)
					} else {
						_, err = c.Retr(ctx, 1)
					}
					must(t, err)
					end(c, cancel)
					synctest.Wait()
					c.Close()
					v.mu.Lock()
					defer v.mu.Unlock()
					n := 0
					for _, line := range v.lines {
						if strings.HasPrefix(line, `"`+strings.Fields(command)[0]+`"`) && strings.HasSuffix(line, "failed") {
							n++
						}
					}
					if n != 1 {
						t.Errorf("events %q", v.lines)
					}
				})
			})
		}
	}
}

// TestObserveAllocatesNothing compares sessions with and without an observer. A probe, which happens now and then on a
// busy machine, allocates, so the minimum of several counts is used.
func TestObserveAllocatesNothing(t *testing.T) {
	count := 0
	least := func(o *Options) float64 {
		c := connect(t, o, &memConn{answer: []byte("+OK\r\n"), rest: []byte("+OK\r\n")})
		allocs := 1e9
		for range 10 {
			allocs = min(allocs, testing.AllocsPerRun(20, func() { must(t, c.Noop(background)) }))
		}
		return allocs
	}
	without := least(&Options{Timeout: -1})
	with := least(&Options{Timeout: -1, Observe: func(context.Context, Event) { count++ }})
	if with > without || count == 0 {
		t.Errorf("%v allocations with an observer, %v without; %d events", with, without, count)
	}
}
