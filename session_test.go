package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// stuckIn starts a goroutine that writes m to w, and returns once it is blocked in w. The result is sent to written.
func stuckIn(w io.Writer, m *Message) (written chan error) {
	written = make(chan error, 1)
	go func() {
		_, err := m.WriteTo(w)
		written <- err
	}()
	synctest.Wait()
	return written
}

func TestQueueIsFIFO(t *testing.T) {
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
		time.Sleep(time.Hour) // idle, but no command waits
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

// The stall is measured from the last read, not from the first.
func TestActiveReaderDelaysBusy(t *testing.T) {
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

// A reader that waits for a slow server is not stalled.
func TestSlowServerDoesNotStall(t *testing.T) {
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

func TestSlowWriteStalls(t *testing.T) {
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
		must(t, <-written) // the session is still open
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

// Data that arrived before a command was written is never taken for its response.
func TestUnsolicitedDataDiscarded(t *testing.T) {
	t.Run("after a response", func(t *testing.T) {
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

func TestUnsolicitedLineReported(t *testing.T) {
	for name, script := range map[string]string{
		"after a response": `
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
						t.Errorf("%q lacks the server's last line", err)
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
								t.Errorf("message %d has %d bytes, want %d", n, b.Len(), len(want))
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
