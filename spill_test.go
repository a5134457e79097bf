package pop3

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A flood is a server that answers UIDL and LIST with lines without end, each chunk of them in one Read, and anything else with +OK.
type flood struct {
	chunk string // of lines
	once  string // before them

	mu      sync.Mutex
	ready   string
	flowing bool
	octets  int64
	closed  chan struct{}
}

func newFlood(once, chunk string) *flood {
	return &flood{once: once, chunk: chunk, ready: "+OK\r\n", closed: make(chan struct{})}
}

func (f *flood) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closed:
		return 0, net.ErrClosed
	default:
	}
	if f.ready == "" && f.flowing {
		f.ready = f.chunk
	}
	if f.ready == "" {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, f.ready)
	f.ready = f.ready[n:]
	f.octets += int64(n)
	return n, nil
}

func (f *flood) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready += "+OK\r\n"
	if s := string(p); s == "LIST\r\n" || s == "UIDL\r\n" {
		f.ready += f.once
		f.flowing = true
	}
	return len(p), nil
}

func (f *flood) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}

func (f *flood) LocalAddr() net.Addr              { return nil }
func (f *flood) RemoteAddr() net.Addr             { return nil }
func (f *flood) SetDeadline(time.Time) error      { return nil }
func (f *flood) SetReadDeadline(time.Time) error  { return nil }
func (f *flood) SetWriteDeadline(time.Time) error { return nil }

// endless are listings that a hostile server does not end.
var endless = map[string]struct{ once, chunk string }{
	"ids":                    {"", "1 " + strings.Repeat("x", 70) + "\r\n"},
	"long ids":               {"", "1 " + strings.Repeat("x", 1900) + "\r\n"},
	"short ids":              {"", strings.Repeat("1 1\r\n", 4000)},
	"one at a time":          {"", "1 1\r\n"},
	"octet by octet":         {"1 ", "x"},
	"one huge id":            {"1 ", strings.Repeat("x", 1<<20)},
	"empty lines":            {"", strings.Repeat("\r\n", 4000)},
	"blank lines":            {"", strings.Repeat(" \t \r\n", 4000)},
	"bare LF":                {"", "1 1\n"},
	"bare CR":                {"1 ", "\r"},
	"malformed, entries":     {"what\r\n", strings.Repeat("1 1\r\n", 4000)},
	"malformed, one line":    {"what\r\n", strings.Repeat("x", 60_000)},
	"malformed, empty lines": {"what\r\n", strings.Repeat("\r\n", 4000)},
	"malformed, dots":        {"what\r\n", strings.Repeat("..\r\n", 4000)},
}

// TestEndlessListing: another command ends by itself, and memory is bounded, though the server goes on and on.
func TestEndlessListing(t *testing.T) {
	const maxSpill, maxEntries = 1 << 20, 1 << 14
	for name, lines := range endless {
		for how, leave := range map[string]func(l *Listing[UID]){
			"untouched": func(*Listing[UID]) {},
			"stopped":   func(l *Listing[UID]) { l.Stop() },
			"C":         func(l *Listing[UID]) { l.C() },
			"begun": func(l *Listing[UID]) {
				for range l.All() {
					break
				}
			},
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				f := newFlood(lines.once, lines.chunk)
				c, err := NewClient(background, f, &Options{MaxSpill: maxSpill, MaxEntries: maxEntries, MaxLineLength: 2000, StallTimeout: -1})
				must(t, err)
				defer c.Close()
				l, err := c.UIDL(background)
				must(t, err)
				leave(l)
				before := liveHeap()
				ctx, cancel := context.WithTimeout(background, 4*time.Minute)
				defer cancel()
				err = c.Noop(ctx)
				wantError(t, err, ErrClosed)
				if ctx.Err() != nil {
					t.Fatal("it would have gone on")
				}
				limit := int64(16 * maxSpill) // GC is not exact
				if how == "C" {
					limit += channelRoom * 2000 // in the channel
				}
				if took := liveHeap() - before; took > limit {
					t.Errorf("%d MiB are held", took>>20)
				}
				wantError(t, c.Noop(background), ErrClosed)
				runtime.KeepAlive(l)
			})
		}
	}
}

// liveHeap returns the bytes that are in use.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMaxSpill checks that a spilled listing takes at most MaxSpill bytes. Entries that had arrived before can be
// taken.
func TestMaxSpill(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		const maxSpill = 1 << 20
		f := newFlood("", "1 "+strings.Repeat("x", 1000)+"\r\n")
		c := connect(t, &Options{MaxSpill: maxSpill}, f)
		l, err := c.UIDL(background)
		must(t, err)
		wantError(t, c.Noop(background), ErrClosed, ErrTooManyEntries)
		ids, err := collect(l, byC)
		wantError(t, err, ErrTooManyEntries)
		want := fmt.Sprintf("pop3: UIDL: more than %d bytes in memory", maxSpill)
		if err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if len(ids) < maxSpill/2000 || len(ids) > maxSpill/1000 {
			t.Errorf("%d ids", len(ids))
		}
	})
}

// TestMaxSpillCountsAll: the limit holds for all that the entries take, in whatever pieces they arrive.
func TestMaxSpillCountsAll(t *testing.T) {
	const maxSpill = 8 << 20
	for name, chunk := range map[string]string{
		"one short id": "1 1\r\n",
		"one id":       "1 " + strings.Repeat("x", 70) + "\r\n",
		"two ids":      "1 1\r\n2 22\r\n",
		"many ids":     strings.Repeat("1 1\r\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			before := liveHeap()
			c, err := NewClient(background, newFlood("", chunk), &Options{MaxSpill: maxSpill})
			must(t, err)
			defer c.Close()
			l, err := c.UIDL(background)
			must(t, err)
			wantError(t, c.Noop(background), ErrTooManyEntries)
			if took := liveHeap() - before; took > maxSpill+maxSpill/4 || took < maxSpill/4 {
				t.Errorf("%d of %d bytes are held", took, maxSpill)
			}
			runtime.KeepAlive(l)
		})
	}
}

// TestMaxSpillLeavesOthersAlone: the limit is for the entries in memory at one time, not for all of a listing.
func TestMaxSpillLeavesOthersAlone(t *testing.T) {
	for _, spilled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			lines := "\n!repeat 1000 1 " + strings.Repeat("x", 70)
			if !spilled {
				lines = "\n!repeat 40000 1 " + strings.Repeat("x", 70)
			}
			c := dialogue(t, &Options{MaxSpill: 200 << 10}, "\nC: UIDL\nS: +OK"+lines+"\nS: .\nC: NOOP\nS: +OK")
			l, err := c.UIDL(background)
			must(t, err)
			if spilled {
				must(t, c.Noop(background))
			}
			ids, err := l.Slice()
			must(t, err)
			if n := len(ids); n != 1000 && n != 40000 {
				t.Errorf("%d ids", n)
			}
			if !spilled {
				must(t, c.Noop(background))
			}
		})
	}
}

// TestSpillEndsWithItsWaiter: a waiter whose context ends does not wait for the rest of the listing, which goes on for the next.
func TestSpillEndsWithItsWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, "\nC: LIST\nS: +OK\nS: 1 1\n!wait 1m\nS: 2 2\nS: .\nC: NOOP\nS: +OK")
		l, err := c.List(background)
		must(t, err)
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		start := time.Now()
		wantError(t, c.Noop(ctx), context.DeadlineExceeded, ErrNotSent)
		lasted(t, time.Since(start), time.Second)
		must(t, c.Noop(background))
		entries, err := l.Slice()
		must(t, err)
		if len(entries) != 2 {
			t.Errorf("%v", entries)
		}
	})
}

var _ io.ReadWriter = (*flood)(nil)
