package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// blockingWriter blocks in Write until it is closed.
type blockingWriter chan struct{}

func (w blockingWriter) Write(p []byte) (int, error) {
	<-w
	return len(p), nil
}

// stuckIn has a goroutine write m to w, and returns when that waits in w. What becomes of it is sent to written.
func stuckIn(w io.Writer, m *Message) (written chan error) {
	written = make(chan error, 1)
	go func() {
		_, err := m.WriteTo(w)
		written <- err
	}()
	synctest.Wait()
	return written
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: +OK
			S: one
			S: .
			C: RETR 2
			S: +OK
			S: two
			S: .
			C: RETR 3
			S: +OK
			S: three
			S: .
			C: RETR 4
			S: +OK
			S: four
			S: .`)
		first, err := c.Retr(background, 1)
		must(t, err)
		var wg sync.WaitGroup
		for i, text := range []string{"two\r\n", "three\r\n", "four\r\n"} {
			wg.Go(func() {
				m, err := c.Retr(background, i+2)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second) // the others must wait
				readAll(t, m, nil, text)
			})
			synctest.Wait()
		}
		readAll(t, first, nil, "one\r\n")
		wg.Wait()
	})
}

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
		must(t, c.Noop(background)) // nothing was sent, nothing is broken
	})
}

// A context that ends while is looked at what has arrived unasked ends before anything is sent.
func TestContextDoneWhileLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: NOOP
			S: +OK`)
		time.Sleep(time.Minute) // so long a pause is worth the look
		ctx, cancel := context.WithTimeout(background, probeWait/2)
		defer cancel()
		wantError(t, c.Dele(ctx, 1), context.DeadlineExceeded)
		must(t, c.Noop(background))
	})
}

func TestContextDoneAfterTheWrite(t *testing.T) {
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

func TestContextOfADeadlineAfterTheWrite(t *testing.T) {
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

// A context that ends after its command is nobody's business.
func TestContextDoneLater(t *testing.T) {
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

// watchedContext counts who watches it; see [context.AfterFunc].
type watchedContext struct {
	context.Context
	watchers int
}

func (w *watchedContext) Value(any) any { return nil } // hides the Context within

func (w *watchedContext) AfterFunc(f func()) func() bool {
	w.watchers++
	stop := context.AfterFunc(w.Context, f)
	return func() bool {
		stopped := stop()
		if stopped {
			w.watchers--
		}
		return stopped
	}
}

// A long-lived context must not gather what was done under it.
func TestNothingStaysWithAContext(t *testing.T) {
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
			if ctx.watchers > 1 { // the one for the session
				t.Errorf("%d watchers left after %s", ctx.watchers, after)
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
		if ctx.watchers != 0 {
			t.Errorf("%d watchers left after QUIT", ctx.watchers)
		}
	})
}

func TestContextGovernsAMessage(t *testing.T) {
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

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 7
			S: +OK
			S: seven
			S: .
			C: DELE 3
			S: +OK`)
		m, err := c.Retr(background, 7)
		must(t, err)
		time.Sleep(time.Hour) // idle, but nobody waits
		start := time.Now()
		err = c.Dele(background, 3)
		wantError(t, err, ErrBusy)
		if want := "pop3: DELE 3: RETR 7 is still open (read it to EOF or Close it)"; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("busy after %v, want the 5 s by default", d)
		}
		readAll(t, m, nil, "seven\r\n")
		must(t, c.Dele(background, 3))
	})
}

// The stall counts from the last read, not from the first.
func TestActiveReaderIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{StallTimeout: time.Second}, `
			C: RETR 1
			S: +OK
			S: 0123456789
			S: .
			C: DELE 1
			S: +OK`)
		m, err := c.Retr(background, 1)
		must(t, err)
		deleted := make(chan error, 1)
		go func() { deleted <- c.Dele(background, 1) }()
		for range 10 {
			time.Sleep(900 * time.Millisecond)
			if _, err := m.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		readAll(t, m, nil, "\r\n")
		must(t, <-deleted)
	})
}

// One who waits for a slow server in Read is no idler.
func TestSlowServerIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{StallTimeout: time.Second}, `
			C: RETR 1
			S: +OK
			!wait 1m
			S: one
			!wait 1m
			S: .
			C: DELE 1
			!wait 1m
			S: +OK
			C: NOOP
			S: +OK`)
		m, err := c.Retr(background, 1)
		must(t, err)
		deleted := make(chan error, 2)
		go func() {
			time.Sleep(time.Millisecond)
			deleted <- c.Dele(background, 1)
		}()
		go func() {
			time.Sleep(2 * time.Millisecond)
			deleted <- c.Noop(background)
		}()
		readAll(t, m, nil, "one\r\n")
		must(t, <-deleted)
		must(t, <-deleted)
	})
}

func TestSlowWriteIsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: +OK
			S: one
			S: .
			C: DELE 1
			S: +OK`)
		m, err := c.Retr(background, 1)
		must(t, err)
		w := make(blockingWriter)
		written := stuckIn(w, m)
		wantError(t, c.Dele(background, 1), ErrBusy)
		close(w)
		must(t, <-written) // the session is unharmed
		must(t, c.Dele(background, 1))
	})
}

func TestNegativeStallTimeoutWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{StallTimeout: -1}, `
			C: RETR 1
			S: +OK
			S: one
			S: .
			C: DELE 2
			S: +OK`)
		m, err := c.Retr(background, 1)
		must(t, err)
		ctx, cancel := context.WithTimeout(background, time.Hour)
		defer cancel()
		wantError(t, c.Dele(ctx, 1), context.DeadlineExceeded)
		deleted := make(chan error, 1)
		go func() { deleted <- c.Dele(background, 2) }()
		time.Sleep(24 * time.Hour)
		readAll(t, m, nil, "one\r\n")
		must(t, <-deleted)
	})
}

// Deletions must not be lost to a forgotten Close.
func TestQuitOverAForgottenMessage(t *testing.T) {
	const transcript = `
		C: DELE 1
		S: +OK
		C: RETR 2
		S: +OK
		S: two
		S: .. and more
		S: .
		C: QUIT
		S: +OK bye
		!close`
	t.Run("Read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, transcript)
			must(t, c.Dele(background, 1))
			m, err := c.Retr(background, 2)
			must(t, err)
			if _, err := m.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			must(t, c.Quit(background))
			_, err = m.Read(make([]byte, 1))
			wantError(t, err, ErrClosed)
			wantError(t, m.Close(), ErrClosed)
		})
	})
	t.Run("Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, transcript)
			must(t, c.Dele(background, 1))
			m, err := c.Retr(background, 2)
			must(t, err)
			must(t, c.Quit(background))
			must(t, m.Close())
			_, err = m.Read(make([]byte, 1))
			wantError(t, err, ErrClosed)
		})
	})
	for name, response := range map[string]string{
		"WriteTo": `
			S: +OK
			S: two
			S: .. and more
			S: .`,
		"WriteTo of the last octets": `
			S: +OK\r\nall of it\r\n.`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, "\nC: RETR 2"+response+`
					C: QUIT
					S: +OK bye
					!close`)
				m, err := c.Retr(background, 2)
				must(t, err)
				w := make(blockingWriter)
				written := stuckIn(w, m)
				must(t, c.Quit(background))
				close(w)
				wantError(t, <-written, ErrClosed)
			})
		})
	}
}

// The octets that a Writer was lent stay as they are while the rest of the message is discarded.
func TestDiscardingLeavesTheWritersOctetsAlone(t *testing.T) {
	for name, discard := range map[string]func(c *Client, m *Message) error{
		"Quit":  func(c *Client, m *Message) error { return c.Quit(background) },
		"Close": func(c *Client, m *Message) error { return errors.Join(m.Close(), c.Quit(background)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, `
					C: RETR 1
					S: +OK
					S: aaaaaaaa
					!repeat 20000 bbbbbbbb
					S: .
					C: QUIT
					S: +OK
					!close`)
				m, err := c.Retr(background, 1)
				must(t, err)
				w := &lateWriter{wake: make(chan struct{})}
				written := stuckIn(w, m)
				must(t, discard(c, m))
				close(w.wake)
				wantError(t, <-written, ErrClosed)
				if want := "aaaaaaaa\r\n"; w.got != want {
					t.Errorf("wrote %.40q, want %q", w.got, want)
				}
			})
		})
	}
}

// lateWriter looks at what it got long afterwards.
type lateWriter struct {
	wake chan struct{}
	got  string
}

func (w *lateWriter) Write(p []byte) (int, error) {
	<-w.wake
	w.got += string(p)
	return len(p), nil
}

// Quit's ctx governs its wait for the rest of a message that comes slowly, or never.
func TestQuitGivesUpWaitingForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{Timeout: -1}, `
			C: RETR 1
			S: +OK
			S: one
			!stall`)
		m, err := c.Retr(background, 1)
		must(t, err)
		ctx, cancel := context.WithTimeout(background, time.Minute)
		defer cancel()
		wantError(t, c.Quit(ctx), context.DeadlineExceeded)
		_, err = m.Read(make([]byte, 1))
		wantError(t, err, ErrClosed)
		must(t, c.Close())
		wantError(t, c.Quit(background), ErrClosed)
	})
}

func TestQuit(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		check        func(t *testing.T, err error)
	}{
		{"committed", "S: +OK bye", func(t *testing.T, err error) { must(t, err) }},
		{"some kept", "S: -ERR [SYS/TEMP] some messages not removed", func(t *testing.T, err error) {
			if e := new(ServerError); !errors.As(err, &e) || !e.Temporary() {
				t.Errorf("error %v, want a temporary *ServerError", err)
			}
		}},
		{"unknown", "!close", func(t *testing.T, err error) {
			wantError(t, err, io.ErrUnexpectedEOF)
			if isServerError(err) {
				t.Error(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, "\nC: QUIT\n"+tt.answer)
				tt.check(t, c.Quit(background))
				wantError(t, c.Noop(background), ErrClosed)
				wantError(t, c.Quit(background), ErrClosed)
				must(t, c.Close())
			})
		})
	}
}

// However short the pause was, nothing that has arrived before QUIT says that the deletions are committed.
func TestQuitLooksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: DELE 1
			S: +OK
			S: +OK noise
			C: QUIT
			S: -ERR some deleted messages not removed
			!close`)
		must(t, c.Dele(background, 1))
		synctest.Wait()
		refusedWith("QUIT", "some deleted messages not removed")(t, c.Quit(background))
	})
}

func TestClose(t *testing.T) {
	for _, tt := range []struct {
		name, transcript string
		do               func(c *Client) error
	}{
		{"status", "\nC: NOOP\n!expect-close", func(c *Client) error { return c.Noop(background) }},
		{"QUIT", "\nC: QUIT\n!expect-close", func(c *Client) error { return c.Quit(background) }},
		{"Read", "\nC: RETR 1\nS: +OK\nS: one\n!expect-close", func(c *Client) error {
			m, err := c.Retr(background, 1)
			if err != nil {
				return err
			}
			_, err = io.ReadAll(m)
			return err
		}},
		{"Message.Close", "\nC: RETR 1\nS: +OK\nS: one\n!expect-close", func(c *Client) error {
			m, err := c.Retr(background, 1)
			if err != nil {
				return err
			}
			return m.Close()
		}},
		{"All", "\nC: LIST\nS: +OK\nS: 1 2\n!expect-close", func(c *Client) error {
			l, err := c.List(background)
			if err != nil {
				return err
			}
			for _, err = range l.All() {
			}
			return err
		}},
		{"C", "\nC: LIST\nS: +OK\nS: 1 2\n!expect-close", func(c *Client) error {
			l, err := c.List(background)
			if err != nil {
				return err
			}
			for range l.C() {
			}
			return l.Err()
		}},
		{"write", "\n!stall", func(c *Client) error { return c.Noop(background) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *Client
				if tt.name == "write" { // nobody reads
					conn, server := net.Pipe()
					go io.WriteString(server, "+OK\r\n")
					c = connect(t, nil, conn)
				} else {
					c = dialogue(t, nil, tt.transcript)
				}
				ended := make(chan error, 2)
				go func() { ended <- tt.do(c) }()
				time.Sleep(2 * probeWait)                   // QUIT looks first
				go func() { ended <- c.Noop(background) }() // queued
				synctest.Wait()
				start := time.Now()
				must(t, c.Close())
				wantError(t, <-ended, ErrClosed, net.ErrClosed)
				wantError(t, <-ended, ErrClosed, net.ErrClosed)
				must(t, c.Close())
				wantError(t, c.Noop(background), ErrClosed)
				if d := time.Since(start); d != 0 {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}

// The running command gets the cause; those that wait and those that come later get ErrClosed wrapping it.
func TestLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: NOOP
			!wait 1s
			!close`)
		queued := make(chan error, 1)
		go func() {
			time.Sleep(time.Millisecond)
			queued <- c.Dele(background, 1)
		}()
		err := c.Noop(background)
		wantError(t, err, io.ErrUnexpectedEOF)
		if errors.Is(err, io.EOF) || errors.Is(err, ErrClosed) {
			t.Errorf("%v: neither an end nor closed by us", err)
		}
		for _, err := range []error{<-queued, c.Dele(background, 1), c.Quit(background)} {
			wantError(t, err, ErrClosed, net.ErrClosed, io.ErrUnexpectedEOF)
		}
		must(t, c.Close())
		wantError(t, c.Noop(background), ErrClosed, io.ErrUnexpectedEOF) // the first cause stays
	})
}

// A connection lost over a message that nobody reads, or that is stuck in a Write, ends that turn as well.
func TestCloseOverAnIdleMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{StallTimeout: -1}, `
			C: RETR 1
			S: +OK
			S: one
			!expect-close`)
		m, err := c.Retr(background, 1)
		must(t, err)
		w := make(blockingWriter)
		written := stuckIn(w, m)
		queued := make(chan error, 1)
		go func() { queued <- c.Noop(background) }()
		synctest.Wait()
		must(t, c.Close())
		wantError(t, <-queued, ErrClosed)
		close(w)
		wantError(t, <-written, ErrClosed)
	})
}

// closesWithin closes the client while it is in Read, and lets that return its octets all the same.
type closesWithin struct {
	net.Conn
	c *Client
}

func (w *closesWithin) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.c != nil {
		w.c.Close()
	}
	return n, err
}

func TestCloseWithinARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &closesWithin{Conn: pop3test.Play(t, `
			S: +OK
			C: RETR 1
			S: +OK
			S: one
			!expect-close`)}
		c := connect(t, nil, conn)
		m, err := c.Retr(background, 1)
		must(t, err)
		conn.c = c
		if n, err := m.Read(make([]byte, 100)); n != len("one\r\n") || err != nil {
			t.Errorf("Read: %d, %v", n, err)
		}
		_, err = m.Read(make([]byte, 100))
		wantError(t, err, ErrClosed)
		wantError(t, c.Noop(background), ErrClosed)
	})
}

func TestTimeout(t *testing.T) {
	isTimeout := func(t *testing.T, err error) {
		t.Helper()
		wantError(t, err, os.ErrDeadlineExceeded)
		if e := net.Error(nil); !errors.As(err, &e) || !e.Timeout() {
			t.Errorf("%v is no timeout of a net.Error", err)
		}
	}
	for _, tt := range []struct {
		name, transcript string
		do               func(c *Client) error
	}{
		{"status line", "\nC: NOOP\nS- +O\n!stall", func(c *Client) error { return c.Noop(background) }},
		{"QUIT", "\nC: QUIT\n!stall", func(c *Client) error { return c.Quit(background) }},
		{"message", "\nC: RETR 1\nS: +OK\nS: one\n!stall", func(c *Client) error {
			m, err := c.Retr(background, 1)
			if err != nil {
				return err
			}
			_, err = io.ReadAll(m)
			return err
		}},
		{"discarding", "\nC: RETR 1\nS: +OK\nS: one\n!stall", func(c *Client) error {
			m, err := c.Retr(background, 1)
			if err != nil {
				return err
			}
			return m.Close()
		}},
		{"listing", "\nC: LIST\nS: +OK\nS: 1 2\n!stall", func(c *Client) error {
			l, err := c.List(background)
			if err != nil {
				return err
			}
			n := 0
			for range l.C() {
				n++
			}
			if n != 1 {
				return fmt.Errorf("%d entries before the end", n)
			}
			return l.Err()
		}},
		{"capabilities", "\nC: CAPA\nS: +OK\nS: TOP\n!stall", func(c *Client) error {
			_, err := c.Capabilities(background)
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, &Options{Timeout: 30 * time.Second}, tt.transcript)
				time.Sleep(time.Hour) // an idle session is no silence
				start := time.Now()
				isTimeout(t, tt.do(c))
				if d := time.Since(start).Truncate(time.Second); d != 30*time.Second {
					t.Errorf("timed out after %v, not 30 s", d)
				}
				wantError(t, c.Noop(background), ErrClosed, os.ErrDeadlineExceeded)
			})
		})
	}
	t.Run("greeting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := NewClient(background, pop3test.Play(t, "S- +OK re\n!expect-close"), nil)
			isTimeout(t, err)
			if d := time.Since(start); d != 2*time.Minute {
				t.Errorf("timed out after %v, not the 2 min by default", d)
			}
		})
	})
	t.Run("write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn, server := net.Pipe()
			go io.WriteString(server, "+OK\r\n")
			c := connect(t, nil, conn)
			isTimeout(t, c.Noop(background))
		})
	})
	t.Run("queued behind a silent server", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, "\nC: NOOP\n!stall")
			first := make(chan error, 1)
			go func() { first <- c.Noop(background) }()
			synctest.Wait()
			wantError(t, c.Dele(background, 1), ErrClosed, os.ErrDeadlineExceeded)
			isTimeout(t, <-first)
		})
	})
}

// A server may take its time, as long as it says something.
func TestTimeoutIsForSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{Timeout: time.Minute}, `
			C: RETR 1
			!wait 59s
			S- +
			!wait 59s
			S: OK
			!wait 59s
			S: one
			!wait 59s
			S: .
			C: NOOP
			S: +OK`)
		m, err := c.Retr(background, 1)
		readAll(t, m, err, "one\r\n")
		must(t, c.Noop(background))
	})
}

func TestNegativeTimeoutIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{Timeout: -1}, `
			C: NOOP
			!wait 1000h
			S: +OK`)
		must(t, c.Noop(background))
	})
}

// What had arrived before a command was written is never taken for its answer.
func TestUnaskedOctetsAreDropped(t *testing.T) {
	t.Run("behind an answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, `
				C: NOOP
				S: +OK\r\n-ERR noise\r\n+OK more
				C: RETR 1
				S: +OK\r\none\r\n.\r\n-ERR noise
				C: LIST
				S: +OK\r\n1 2\r\n.\r\n-ERR noise
				C: NOOP
				S: +OK`)
			must(t, c.Noop(background))
			m, err := c.Retr(background, 1)
			readAll(t, m, err, "one\r\n")
			l, err := c.List(background)
			must(t, err)
			for range l.C() {
			}
			must(t, l.Err())
			must(t, c.Noop(background))
		})
	})
	t.Run("within a batch, one command at a time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, &Options{NoPipelining: true}, `
				C: RETR 1
				S: -ERR gone\r\n-ERR noise
				C: RETR 2
				S: +OK\r\ntwo\r\n.\r\n+OK\r\nnoise\r\n.
				C: RETR 3
				S: +OK\r\nthree\r\n.`)
			texts := []string{"", "two\r\n", "three\r\n"}
			for m, err := range c.RetrAll(background, []int{1, 2, 3}) {
				if m.Number > 1 {
					readAll(t, m, err, texts[m.Number-1])
				}
			}
		})
	})
	t.Run("while idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, `
				C: NOOP
				S: +OK
				S: +OK 1 nonsense
				S: +OK 2 nonsense
				C: STAT
				S: +OK 3 4`)
			must(t, c.Noop(background))
			time.Sleep(time.Second)
			if n, size, err := c.Stat(background); n != 3 || size != 4 || err != nil {
				t.Errorf("STAT: %d, %d, %v, want 3, 4, nil", n, size, err)
			}
		})
	})
	t.Run("without end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, `
				!repeat 1000000 +OK
				!expect-close`)
			time.Sleep(time.Second)
			if err := c.Noop(background); !isProtocolError(err) {
				t.Errorf("error %v, want a *ProtocolError", err)
			}
			wantError(t, c.Noop(background), ErrClosed)
		})
	})
}

func isProtocolError(err error) bool {
	return errors.As(err, new(*ProtocolError))
}

func TestLastWords(t *testing.T) {
	for name, script := range map[string]string{
		"behind an answer": `
			C: NOOP
			S: +OK\r\n-ERR idle for \x1btoo long
			!close`,
		"while idle": `
			C: NOOP
			S: +OK
			S: -ERR idle for \x1btoo long
			!close`,
		"the last of several": `
			C: NOOP
			S: +OK
			S: * noise\r\n-ERR idle for \x1btoo long
			!close`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, script)
				must(t, c.Noop(background))
				time.Sleep(time.Minute)
				for range 2 {
					err := c.Dele(background, 1)
					wantError(t, err, ErrClosed, io.ErrUnexpectedEOF)
					if !strings.Contains(err.Error(), `"-ERR idle for \x1btoo long"`) {
						t.Errorf("%q lacks the server's last words", err)
					}
				}
			})
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := pop3test.NewUnstartedServer(pop3test.Generate(20, func(n int) string {
			return strings.Repeat(fmt.Sprintf("%d.\r\n..\r\n", n), 500*n)
		}))
		c := served(t, nil, srv)
		var wg sync.WaitGroup
		for g := range 12 {
			wg.Go(func() {
				for i := range 10 {
					n := (g*7+i*3)%20 + 1
					want := strings.Repeat(fmt.Sprintf("%d.\r\n..\r\n", n), 500*n)
					var err error
					switch (g + i) % 6 {
					case 0:
						var m *Message
						if m, err = c.Retr(background, n); err == nil {
							readAll(t, m, nil, want)
						}
					case 1:
						var m *Message
						if m, err = c.Retr(background, n); err == nil {
							var b strings.Builder
							if _, err = m.WriteTo(&b); b.String() != want {
								t.Errorf("message %d has %d octets, want %d", n, b.Len(), len(want))
							}
						}
					case 2:
						var m *Message
						if m, err = c.Top(background, n, 10); err == nil {
							m.Read(make([]byte, 10))
							err = m.Close()
						}
					case 3:
						var l *Listing[Entry]
						if l, err = c.List(background); err == nil {
							count := 0
							for range l.C() {
								count++
							}
							if err = l.Err(); count != 20 {
								t.Errorf("%d entries", count)
							}
						}
					case 4:
						var l *Listing[UID]
						if l, err = c.UIDL(background); err == nil {
							for range l.All() {
								break
							}
						}
					case 5:
						var size int64
						if size, err = c.Size(background, n); size != int64(len(want)) {
							t.Errorf("size %d, want %d", size, len(want))
						}
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		must(t, c.Quit(background))
	})
}
