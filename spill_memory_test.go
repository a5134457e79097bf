package pop3

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// endlessServer writes line after the greeting and the response to one command, until the client closes the connection.
func endlessServer(t *testing.T, line string) net.Conn {
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

// TestMaxSpillBoundsMemory measures the heap that an endless UIDL with large unique-ids takes while a command waits.
func TestMaxSpillBoundsMemory(t *testing.T) {
	const limit = 8 << 20
	c := connect(t, &Options{MaxSpill: limit, StallTimeout: -1}, endlessServer(t, "1 "+strings.Repeat("x", 16000)))
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
			c := connect(t, &Options{MaxEntries: 1000}, endlessServer(t, " "))
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
