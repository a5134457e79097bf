package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

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
				if tt.name == "write" { // the server does not read
					conn, server := net.Pipe()
					go io.WriteString(server, "+OK\r\n")
					c = connect(t, nil, conn)
				} else {
					c = dialogue(t, nil, tt.transcript)
				}
				ended := make(chan error, 2)
				go func() { ended <- tt.do(c) }()
				time.Sleep(2 * probeWait)                   // QUIT probes first
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

// The command in flight returns the cause. Waiting and later commands return ErrClosed wrapping it.
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
		wantError(t, c.Noop(background), ErrClosed, io.ErrUnexpectedEOF) // the first cause is kept
	})
}

// If the connection is lost, a message that is not being read, or that is blocked in a Write, ends too.
func TestCloseWithOpenMessage(t *testing.T) {
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

// closesWithin closes the client during a Read, which then still returns its data.
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
		{"response", "\nC: NOOP\n!stall", func(c *Client) error { return c.Noop(background) }},
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
		{"TLS handshake", "\nC: CAPA\nS: +OK\nS: STLS\nS: .\nC: STLS\nS: +OK\n!stall", func(c *Client) error {
			return c.StartTLS(background, pop3test.TLSConfig())
		}},
	} {
		for _, idle := range []time.Duration{0, time.Hour} { // an idle session does not time out
			t.Run(fmt.Sprintf("%s, idle for %v", tt.name, idle), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := dialogue(t, &Options{Timeout: 30 * time.Second}, tt.transcript)
					time.Sleep(idle)
					start := time.Now()
					isTimeout(t, tt.do(c))
					if d := time.Since(start).Truncate(time.Second); d != 30*time.Second {
						t.Errorf("timed out after %v, not 30 s", d)
					}
					wantError(t, c.Noop(background), ErrClosed, os.ErrDeadlineExceeded)
				})
			})
		}
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
	t.Run("greeting, by ctx", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(background, time.Second)
			defer cancel()
			_, err := NewClient(ctx, pop3test.Play(t, "!stall"), nil)
			wantError(t, err, context.DeadlineExceeded)
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
	t.Run("queued at a silent server", func(t *testing.T) {
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

// The timeout restarts whenever the server sends something.
func TestTimeoutRestartsOnData(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{Timeout: 30 * time.Second}, "\nC: NOOP\nS- +\n!wait 29s\nS- O\n!wait 29s\nS- K\n!stall")
		start := time.Now()
		wantError(t, c.Noop(background), os.ErrDeadlineExceeded)
		lasted(t, time.Since(start), (29+29+30)*time.Second)
	})
}

func TestNegativeTimeoutDisables(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Hour} { // after an hour the connection is probed
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, &Options{Timeout: -1}, `
				C: NOOP
				!wait 1000h
				S: +OK`)
			time.Sleep(idle)
			must(t, c.Noop(background))
		})
	}
}
