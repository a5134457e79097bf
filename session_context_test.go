package pop3

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestContextDoneWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: +OK
			S: one
			S: .
			C: NOOP
			S: +OK`)
		m, err := c.Retr(background, 1)
		must(t, err)
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		start := time.Now()
		err = c.Dele(ctx, 1)
		wantError(t, err, context.DeadlineExceeded)
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v, not a second", d)
		}
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrClosed) {
			t.Errorf("%v: neither busy nor closed", err)
		}
		readAll(t, m, nil, "one\r\n")
		must(t, c.Noop(background))
	})
}

func TestContextDoneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: NOOP
			S: +OK`)
		ctx, cancel := context.WithCancel(background)
		cancel()
		wantError(t, c.Dele(ctx, 1), context.Canceled)
		_, err := c.Retr(ctx, 1)
		wantError(t, err, context.Canceled)
		_, err = c.List(ctx)
		wantError(t, err, context.Canceled)
		wantError(t, c.Quit(ctx), context.Canceled)
		must(t, c.Noop(background)) // nothing was sent, and the session is open
	})
}

// If the context is done during the probe for unsolicited data, nothing is sent.
func TestContextDoneWhileProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: NOOP
			S: +OK`)
		time.Sleep(time.Minute) // long enough a pause for a probe
		ctx, cancel := context.WithTimeout(background, probeWait/2)
		defer cancel()
		wantError(t, c.Dele(ctx, 1), context.DeadlineExceeded)
		must(t, c.Noop(background))
	})
}

func TestContextCanceledAfterWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: DELE 1
			!expect-close`)
		ctx, cancel := context.WithCancel(background)
		time.AfterFunc(time.Second, cancel)
		queued := make(chan error, 1)
		go func() {
			time.Sleep(time.Millisecond)
			queued <- c.Noop(background)
		}()
		err := c.Dele(ctx, 1)
		wantError(t, err, context.Canceled)
		if !strings.Contains(err.Error(), "DELE 1") {
			t.Errorf("%v: which command?", err)
		}
		wantError(t, <-queued, ErrClosed, net.ErrClosed, context.Canceled)
		wantError(t, c.Noop(background), ErrClosed, context.Canceled)
	})
}

func TestContextDeadlineAfterWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: STAT
			!expect-close`)
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		_, _, err := c.Stat(ctx)
		wantError(t, err, context.DeadlineExceeded)
	})
}

// A context that is canceled after its command has no effect.
func TestContextCanceledAfterCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: NOOP
			S: +OK
			C: RETR 1
			S: +OK
			S: .
			C: RETR 2
			S: +OK
			S: two
			S: .
			C: RETR 3
			S: -ERR
			C: LIST
			S: -ERR
			C: NOOP
			S: +OK`)
		ctx, cancel := context.WithCancel(background)
		must(t, c.Noop(ctx))
		m, err := c.Retr(ctx, 1)
		readAll(t, m, err, "")
		m, err = c.Retr(ctx, 2)
		must(t, err)
		must(t, m.Close())
		if _, err := c.Retr(ctx, 3); !isServerError(err) {
			t.Error(err)
		}
		if _, err := c.List(ctx); !isServerError(err) {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
		must(t, c.Noop(background))
	})
}

// watchedContext counts its watchers; see [context.AfterFunc].
type watchedContext struct {
	context.Context
	watchers atomic.Int64
}

func (w *watchedContext) Value(any) any { return nil } // hides the Context within

func (w *watchedContext) AfterFunc(f func()) func() bool {
	w.watchers.Add(1)
	stop := context.AfterFunc(w.Context, f)
	return func() bool {
		stopped := stop()
		if stopped {
			w.watchers.Add(-1)
		}
		return stopped
	}
}

// A long-lived context must not accumulate watchers.
func TestContextWatchersReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: NOOP
			S: +OK
			C: RETR 1
			S: +OK
			S: .
			C: RETR 2
			S: -ERR
			C: LIST
			S: +OK
			S: .
			C: LIST
			S: -ERR
			C: RETR 3
			S: +OK
			S: three
			S: .
			C: QUIT
			S: +OK
			!close`)
		done, cancel := context.WithCancel(background)
		defer cancel()
		ctx := &watchedContext{Context: done}
		check := func(after string) {
			t.Helper()
			if n := ctx.watchers.Load(); n > 1 { // the one for the session
				t.Errorf("%d watchers left after %s", n, after)
			}
		}
		must(t, c.Noop(ctx))
		check("NOOP")
		m, err := c.Retr(ctx, 1)
		readAll(t, m, err, "")
		check("RETR")
		c.Retr(ctx, 2)
		check("a RETR refused")
		l, err := c.List(ctx)
		must(t, err)
		for range l.All() {
		}
		check("LIST")
		c.List(ctx)
		check("a LIST refused")
		if _, err := c.Retr(ctx, 3); err != nil {
			t.Error(err)
		}
		must(t, c.Quit(background))
		if n := ctx.watchers.Load(); n != 0 {
			t.Errorf("%d watchers left after QUIT", n)
		}
	})
}

func TestContextAppliesToMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: +OK
			S: one
			!expect-close`)
		ctx, cancel := context.WithCancel(background)
		m, err := c.Retr(ctx, 1)
		must(t, err)
		time.AfterFunc(time.Second, cancel)
		got, err := io.ReadAll(m)
		if string(got) != "one\r\n" {
			t.Errorf("read %q before the end", got)
		}
		wantError(t, err, context.Canceled)
		_, err = m.Read(make([]byte, 1))
		wantError(t, err, context.Canceled)
	})
}
