package pop3

import (
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Close ends the goroutine that feeds the channel, even if nothing is received from it.
func TestCloseWhileFeeding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, "\nC: LIST\nS: +OK\n!repeat 10000 1 1\n!expect-close")
		l, err := c.List(background)
		must(t, err)
		l.C()
		synctest.Wait()
		must(t, c.Close())
		synctest.Wait()
		wantError(t, l.Err(), ErrClosed)
	})
}

// Close ends a listing that has not been read yet.
func TestCloseWithOpenListing(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			S: 1 120
			!expect-close`)
		l, err := c.List(background)
		must(t, err)
		must(t, c.Close())
		_, err = collect(l, byC)
		wantError(t, err, ErrClosed)
	})
}

// A truncated listing yields the entries before the cut, then an unexpected EOF. It never looks complete and never
// hangs.
func TestListingCut(t *testing.T) {
	script := parseScript(t, `
		S: +OK
		C: UIDL
		S: +OK
		S: 1 abc
		S: 12 .
		S: 123 defg
		S: .`)
	want := []UID{{1, "abc"}, {12, "."}, {123, "defg"}}
	ends := []int{17, 23, 33} // of the entries, in bytes
	bothViews(t, func(t *testing.T, byC bool) {
		for cut := len("+OK\r\n"); cut < script.Octets(); cut++ {
			for _, spilled := range []bool{false, true} {
				s := *script
				s.Cut = cut
				start := time.Now()
				c := connect(t, nil, s.Play(t))
				l, err := c.UIDL(background)
				if cut < len("+OK\r\n+OK\r\n") {
					wantError(t, err, io.ErrUnexpectedEOF)
					continue
				}
				must(t, err)
				if spilled {
					wantError(t, c.Noop(background), ErrClosed, io.ErrUnexpectedEOF)
				}
				got, err := collect(l, byC)
				wantError(t, err, io.ErrUnexpectedEOF)
				whole := 0
				for _, end := range ends {
					if cut >= end {
						whole++
					}
				}
				if !slices.Equal(got, want[:whole]) {
					t.Errorf("cut at %d: got %v, want %v", cut, got, want[:whole])
				}
				wantError(t, c.Noop(background), ErrClosed)
				lasted(t, time.Since(start), 0)
			}
		}
	})
}

// An abandoned listing costs one goroutine, which Close ends.
func TestAbandonedListing(t *testing.T) {
	for _, spilled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				!repeat 5000 1 1
				S: .
				C: NOOP
				S: +OK
				C: NOOP
				S: +OK
				!expect-close`)
			before := runtime.NumGoroutine()
			l, err := c.List(background)
			must(t, err)
			<-l.C()
			if spilled {
				must(t, c.Noop(background))
			}
			synctest.Wait()
			if n := runtime.NumGoroutine() - before; n > 1 {
				t.Errorf("%d goroutines for a listing that is not read", n)
			}
			if !spilled {
				must(t, c.Noop(background))
			}
			must(t, c.Noop(background))
			must(t, c.Close())
			synctest.Wait()
			n := 0
			for range l.C() {
				n++
			}
			if n == 4999 {
				t.Error("the feeder continued after Close")
			}
			wantError(t, l.Err(), ErrClosed)
		})
	}
}

// Entries that have arrived remain available after Quit or a lost connection.
func TestReceivedEntriesSurviveClose(t *testing.T) {
	t.Run("Quit", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				!repeat 5000 1 1
				S: .
				C: QUIT
				S: +OK
				!close`)
			l, err := c.List(background)
			must(t, err)
			if byC {
				l.C()
				synctest.Wait()
			}
			must(t, c.Quit(background))
			got, err := collect(l, byC)
			if len(got) != 5000 || err != nil {
				t.Errorf("%d entries, %v", len(got), err)
			}
		})
	})
	t.Run("lost", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				!repeat 5000 1 1
				!close`)
			l, err := c.List(background)
			must(t, err)
			if byC {
				l.C()
				synctest.Wait()
			}
			wantError(t, c.Noop(background), ErrClosed, io.ErrUnexpectedEOF)
			got, err := collect(l, byC)
			wantError(t, err, io.ErrUnexpectedEOF)
			if len(got) != 5000 {
				t.Errorf("%d entries, want 5000", len(got))
			}
		})
	})
}

// countingConn counts the bytes read.
type countingConn struct {
	net.Conn
	octets int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.octets += int64(n)
	return n, err
}
