package pop3

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// stuck connects a client that is stuck in user code at a place, until release is called; do has not returned then. It
// reports whether the code runs under the lease, so that other calls have to wait.
func (p callout) stuck(t *testing.T) (c *Client, release func(), held bool) {
	end := "\n!expect-close"
	if strings.HasSuffix(p.transcript, "!close") {
		end = ""
	}
	gate := make(chan struct{})
	block := func() { <-gate }
	c, _ = p.visit(t, -1, end, block)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.do(c, block)
	}()
	time.Sleep(20 * probeWait)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	h := c.s.holder
	return c, func() { close(gate); <-ended }, h != nil && h.spill == nil
}

// eachStuck calls test for each place at which a holder of the lease can be stuck in user code.
func eachStuck(t *testing.T, test func(t *testing.T, c *Client, release func())) {
	for name, p := range callouts {
		if name == "DebugWriter, evicted" { // needs a stall timeout
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, release, held := p.stuck(t)
				if !held {
					c.Close()
					release()
					t.Skip("nothing has to wait")
				}
				test(t, c, release)
			})
		})
	}
}

// TestCloseWhileStuck checks that all waiting and later calls return at once, though the holder of the lease is stuck
// in user code.
func TestCloseWhileStuck(t *testing.T) {
	eachStuck(t, func(t *testing.T, c *Client, release func()) {
		ended := make(chan error)
		for _, call := range calls {
			go func() { ended <- call.do(background, c) }()
		}
		synctest.Wait()
		start := time.Now()
		must(t, c.Close())
		must(t, c.Close())
		for range calls {
			wantError(t, <-ended, ErrNotSent)
		}
		for name, call := range calls {
			if err := call.do(background, c); !errors.Is(err, ErrNotSent) || name != "APOP" && !errors.Is(err, ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		c.TLSConnectionState()
		c.Challenge()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		release()
	})
}

// TestContextDoneWhileStuck checks that each waiter returns when its own context is done, and that nothing is sent.
func TestContextDoneWhileStuck(t *testing.T) {
	eachStuck(t, func(t *testing.T, c *Client, release func()) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
		defer cancel()
		ended := make(chan error)
		for _, call := range calls {
			go func() { ended <- call.do(ctx, c) }()
		}
		for range calls {
			wantError(t, <-ended, ErrNotSent, context.DeadlineExceeded)
		}
		wantError(t, c.Noop(ctx), ErrNotSent, context.DeadlineExceeded)
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
		select {
		case <-c.s.ended.Done():
			t.Errorf("the session was closed: %v", c.s.err())
		default:
		}
		must(t, c.Close())
		release()
	})
}

// TestConnectionLostWhileStuck checks that waiters return when the session has ended, without help of the holder.
func TestConnectionLostWhileStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, "\nC: RETR 1\nS: +OK\nS: one\n!expect-close")
		ctx, cancel := context.WithCancel(background)
		m, err := c.Retr(ctx, 1)
		must(t, err)
		w := make(blockingWriter)
		written := stuckIn(w, m)
		queued := make(chan error, 1)
		go func() { queued <- c.Noop(background) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		wantError(t, <-queued, ErrClosed, context.Canceled, ErrNotSent)
		lasted(t, time.Since(start), 0)
		close(w)
		wantError(t, <-written, context.Canceled)
	})
}

// TestCloseFromUserCode has user code close the client at each place.
func TestCloseFromUserCode(t *testing.T) {
	for name, p := range callouts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *Client
				end := "\n!expect-close"
				if strings.HasSuffix(p.transcript, "!close") {
					end = ""
				}
				closes := func() { c.Close() }
				c, _ = p.visit(t, probeWait, end, closes)
				start := time.Now()
				p.do(c, closes)
				wantError(t, c.Noop(background), ErrClosed)
				lasted(t, time.Since(start), 0)
			})
		})
	}
}

// TestSlowCloseOfTheConnection has a connection whose Close takes long. Only the call that closes it waits for that.
func TestSlowCloseOfTheConnection(t *testing.T) {
	const closing = time.Second
	for name, tt := range map[string]struct {
		transcript string
		holder     func(c *Client) error
	}{
		"lost": {"C: RETR 1\nS: +OK\nS: one\n!wait 10ms\n!close", func(c *Client) error {
			m, err := c.Retr(background, 1)
			return discarded(m, err)
		}},
		"malformed": {"C: NOOP\n!wait 10ms\nS: what\n!expect-close", func(c *Client) error { return c.Noop(background) }},
		"timed out": {"C: NOOP\n!stall", func(c *Client) error { return c.Noop(background) }},
		"context": {"C: NOOP\n!stall", func(c *Client) error {
			ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
			defer cancel()
			return c.Noop(ctx)
		}},
		"Quit": {"C: QUIT\n!wait 10ms\nS: +OK\n!expect-close", func(c *Client) error {
			must(t, c.Quit(background))
			return ErrClosed
		}},
		"Close": {"C: NOOP\n!stall", func(c *Client) error {
			time.AfterFunc(10*time.Millisecond, func() { c.Close() })
			return c.Noop(background)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := pop3test.Play(t, "S: +OK\n"+tt.transcript)
				slow := &userConn{Conn: conn, close: func() { time.Sleep(closing) }}
				c, err := NewClient(background, slow, &Options{StallTimeout: -1, Timeout: 20 * time.Millisecond})
				must(t, err)
				start := time.Now()
				held := make(chan error, 1)
				go func() { held <- tt.holder(c) }()
				time.Sleep(2 * probeWait)
				queued := make(chan error, 1)
				go func() { queued <- c.Noop(background) }()
				ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
				defer cancel()
				wantError(t, c.Noop(ctx), ErrNotSent, ErrClosed)
				wantError(t, <-queued, ErrNotSent, ErrClosed)
				wantError(t, c.Noop(background), ErrNotSent, ErrClosed)
				must(t, c.Close())
				if took := time.Since(start); took > 50*time.Millisecond {
					t.Errorf("took %v", took)
				}
				if err := <-held; err == nil {
					t.Error("no error")
				}
			})
		})
	}
}

// TestCloseThatNeverReturns does the same with a Close that never returns.
func TestCloseThatNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		conn := pop3test.Play(t, "S: +OK\nC: NOOP\n!close")
		c, err := NewClient(background, &userConn{Conn: conn, close: func() { <-never }}, nil)
		must(t, err)
		held := make(chan error, 1)
		go func() { held <- c.Noop(background) }()
		synctest.Wait()
		time.Sleep(time.Minute)
		wantError(t, c.Noop(background), ErrClosed, io.ErrUnexpectedEOF)
		must(t, c.Close())
		close(never)
		wantError(t, <-held, io.ErrUnexpectedEOF)
	})
}

// TestDialStuck checks that a stuck Dialer ends with its context. There is no session yet.
func TestDialStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		start := time.Now()
		_, err := Dial(ctx, "localhost", &Options{Dialer: contextDialer{}})
		wantError(t, err, context.DeadlineExceeded)
		lasted(t, time.Since(start), time.Second)
	})
}

type contextDialer struct{}

func (contextDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
