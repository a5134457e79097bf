package pop3

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// endless writes line after the greeting and the response to one command, until the client closes the connection.
func endless(t *testing.T, line string) net.Conn {
	client, server := net.Pipe()
	t.Cleanup(func() { server.Close() })
	go func() {
		io.WriteString(server, "+OK\r\n")
		server.Read(make([]byte, 100))
		io.WriteString(server, "+OK\r\n")
		lines := []byte(strings.Repeat(line+"\r\n", 1+(32<<10)/len(line)))
		for {
			if _, err := server.Write(lines); err != nil {
				return
			}
		}
	}()
	return client
}

// TestMaxSpill has a server that sends an endless listing while a command waits. The listing ends with the entries that
// fit.
func TestMaxSpill(t *testing.T) {
	const limit = 1 << 20
	for name, test := range map[string]struct{ command, line string }{
		"sizes":     {"LIST", "1 1"},
		"short ids": {"UIDL", "1 x"},
		"long ids":  {"UIDL", "1 " + strings.Repeat("x", 16000)},
	} {
		t.Run(name, func(t *testing.T) {
			bothViews(t, func(t *testing.T, byC bool) {
				c := connect(t, &Options{MaxSpill: limit, StallTimeout: -1}, endless(t, test.line))
				var n int
				var err error
				queued := make(chan error, 1)
				ask := func() { queued <- c.Noop(background) }
				if test.command == "LIST" {
					l, listErr := c.List(background)
					must(t, listErr)
					go ask()
					synctest.Wait()
					var got []Entry
					got, err = collect(l, byC)
					n = len(got)
				} else {
					l, listErr := c.UIDL(background)
					must(t, listErr)
					go ask()
					synctest.Wait()
					var got []UID
					got, err = collect(l, byC)
					n = len(got)
				}
				wantError(t, err, ErrTooManyEntries)
				if errors.Is(err, ErrLineTooLong) || !strings.HasPrefix(err.Error(), "pop3: "+test.command+": more than ") {
					t.Errorf("error %q", err)
				}
				if n == 0 || n*16 > limit || test.command == "UIDL" && n*(len(test.line)+16) > 2*limit {
					t.Errorf("%d entries of %d bytes", n, limit)
				}
				wantError(t, <-queued, ErrClosed, ErrTooManyEntries, ErrNotSent)
				wantError(t, c.Noop(background), ErrClosed, ErrNotSent)
			})
		})
	}
}

// TestMaxSpillBoundsMemory measures the heap that an endless UIDL with large unique-ids takes while a command waits.
func TestMaxSpillBoundsMemory(t *testing.T) {
	const limit = 8 << 20
	c := connect(t, &Options{MaxSpill: limit, StallTimeout: -1}, endless(t, "1 "+strings.Repeat("x", 16000)))
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l, err := c.UIDL(background)
	must(t, err)
	wantError(t, c.Noop(background), ErrTooManyEntries)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2*limit {
		t.Errorf("the heap has grown by %d bytes, with a limit of %d", grown, limit)
	}
	runtime.KeepAlive(l)
}

// TestSpillWithinLimit checks that MaxSpill limits neither a listing that is read at once nor a small one that is
// spilled.
func TestSpillWithinLimit(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, &Options{MaxSpill: 100_000}, `
			C: LIST
			S: +OK
			!repeat 100000 1 1
			S: .
			C: LIST
			S: +OK
			!repeat 1000 1 1
			S: .
			C: NOOP
			S: +OK`)
		l, err := c.List(background)
		must(t, err)
		got, err := collect(l, byC)
		if must(t, err); len(got) != 100_000 {
			t.Errorf("%d entries", len(got))
		}
		l, err = c.List(background)
		must(t, err)
		must(t, c.Noop(background))
		got, err = collect(l, byC)
		if must(t, err); len(got) != 1000 {
			t.Errorf("%d entries", len(got))
		}
	})
}

// TestEmptyLinesInListings checks that empty lines are skipped, but that a server cannot send them endlessly.
func TestEmptyLinesInListings(t *testing.T) {
	for _, lines := range []string{"\nS:\nS: 1 5\nS: 2 6", "\nS: 1 5\nS:\nS: 2 6", "\nS: 1 5\nS: 2 6\nS:", "\nS:  \nS: 1 5\nS: \\t\nS: 2 6\nS:\nS:"} {
		for _, command := range []string{"LIST", "UIDL"} {
			t.Run(fmt.Sprintf("%s %q", command, lines), func(t *testing.T) {
				bothViews(t, func(t *testing.T, byC bool) {
					for _, spilled := range []bool{false, true} {
						c := dialogue(t, nil, "\nC: "+command+"\nS: +OK"+lines+"\nS: .\nC: NOOP\nS: +OK\nC: NOOP\nS: +OK")
						var n int
						var err error
						if command == "LIST" {
							n, err = countEntries(t, c, c.List, spilled, byC)
						} else {
							n, err = countEntries(t, c, c.UIDL, spilled, byC)
						}
						if n != 2 || err != nil {
							t.Errorf("%d entries, %v", n, err)
						}
						must(t, c.Noop(background))
						if !spilled {
							must(t, c.Noop(background))
						}
					}
				})
			})
		}
	}
	t.Run("without end", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := connect(t, &Options{MaxEntries: 1000}, endless(t, " "))
			l, err := c.List(background)
			must(t, err)
			got, err := collect(l, byC)
			wantError(t, err, ErrTooManyEntries)
			if len(got) > 0 {
				t.Errorf("%d entries", len(got))
			}
		})
	})
}
