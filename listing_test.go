package pop3

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// collect takes all entries of a listing, from C or All.
func collect[T Entry | UID](l *Listing[T], byC bool) (entries []T, err error) {
	if byC {
		for e := range l.C() {
			entries = append(entries, e)
		}
		return entries, l.Err()
	}
	for e, err := range l.All() {
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
	return entries, l.Err()
}

// bothViews runs a test with C and with All, each in a bubble.
func bothViews(t *testing.T, test func(t *testing.T, byC bool)) {
	for name, byC := range map[string]bool{"C": true, "All": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, byC) })
		})
	}
}

// A unique-id may be longer than a chunk.
func TestListingOfLongLines(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		want := []UID{{1, "a"}, {2, strings.Repeat("x", chunkBytes+1)}, {3, "b"}, {4, strings.Repeat("y", 16000)}, {5, "c"}}
		transcript := "\nC: UIDL\nS: +OK"
		for _, u := range want {
			transcript += fmt.Sprintf("\nS: %d %s", u.Number, u.ID)
		}
		c := dialogue(t, nil, transcript+"\nS: .\nC: NOOP\nS: +OK")
		l, err := c.UIDL(background)
		must(t, err)
		got, err := collect(l, byC)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("got %.200q", fmt.Sprint(got))
		}
		must(t, c.Noop(background))
	})
}

// When a loop over All reaches the end, the entries that the feeder holds have not been delivered yet.
func TestChannelAndAllShareEntries(t *testing.T) {
	const entries = 2 * channelRoom
	for name, tt := range map[string]struct {
		end   func(c *Client, l *Listing[Entry]) error
		whole bool
		err   error
	}{
		"Stop":    {func(_ *Client, l *Listing[Entry]) error { l.Stop(); return nil }, false, nil},
		"Close":   {func(c *Client, _ *Listing[Entry]) error { return c.Close() }, false, ErrClosed},
		"neither": {func(*Client, *Listing[Entry]) error { return nil }, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, "\nC: LIST\nS: +OK"+strings.Repeat("\nS: 1 1", entries)+"\nS: .")
				l, err := c.List(background)
				must(t, err)
				ch := l.C()
				synctest.Wait() // the feeder waits for room
				looped, sent := 0, 0
				for _, err := range l.All() {
					must(t, err)
					looped++
				}
				must(t, tt.end(c, l))
				for range ch {
					sent++
				}
				if name == "Stop" && sent > 1 {
					t.Errorf("%d entries after Stop", sent)
				}
				if whole := looped+sent == entries; whole != tt.whole {
					t.Errorf("%d and %d of %d entries", looped, sent, entries)
				}
				if err := l.Err(); !errors.Is(err, tt.err) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
			})
		})
	}
}

func TestListing(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		for _, dribble := range []bool{false, true} {
			s := parseScript(t, `
				S: +OK
				C: LIST
				S: +OK 5 messages
				S: 1 120
				S: 3   0
				S: 4\t9223372036854775807\t
				S: 7 5 octets (RFC 1939 allows it)
				S: 2147483647 12
				S: .
				C: UIDL
				S: +OK
				S: 2 a b  c
				S: 10 \x21\xe4.
				S: 11 .
				S: .
				C: LIST
				S: +OK none
				S: .
				C: NOOP
				S: +OK`)
			s.Dribble = dribble
			c := connect(t, nil, s.Play(t))
			l, err := c.List(background)
			must(t, err)
			entries, err := collect(l, byC)
			must(t, err)
			if want := []Entry{{1, 120}, {3, 0}, {4, 1<<63 - 1}, {7, 5}, {1<<31 - 1, 12}}; !slices.Equal(entries, want) {
				t.Errorf("LIST: %v, want %v", entries, want)
			}
			u, err := c.UIDL(background)
			must(t, err)
			uids, err := collect(u, byC)
			must(t, err)
			if want := []UID{{2, "a b  c"}, {10, "!\xe4."}, {11, "."}}; !slices.Equal(uids, want) {
				t.Errorf("UIDL: %v, want %v", uids, want)
			}
			l, err = c.List(background)
			must(t, err)
			if entries, err := collect(l, byC); len(entries) > 0 || err != nil {
				t.Errorf("%v, %v, want nothing", entries, err)
			}
			must(t, c.Noop(background))
			if entries, err := collect(l, byC); len(entries) > 0 || err != nil {
				t.Errorf("at its end: %v, %v, want nothing", entries, err)
			}
		}
	})
}

// A command spills the listing: commands work inside the loop, for any size of mailbox, from one goroutine.
func TestCommandsInTheLoop(t *testing.T) {
	const messages, fetched = 50_000, 500
	for name, byC := range map[string]bool{"C": true, "All": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				drop := &pop3test.Generated{
					N:      messages,
					Text:   func(n int) string { return "Subject: " + strconv.Itoa(n) + "\r\n\r\n" },
					SizeOf: func(n int) int64 { return int64(n) },
				}
				srv := pop3test.NewUnstartedServer(drop)
				c := served(t, nil, srv)
				l, err := c.List(background)
				must(t, err)
				seen := 0
				handle := func(e Entry) {
					seen++
					if e.Number != seen || e.Size != int64(seen) {
						t.Errorf("entry %d is %v", seen, e)
					}
					if e.Number%(messages/fetched) != 0 {
						return
					}
					m, err := c.Retr(background, e.Number)
					readAll(t, m, err, drop.Text(e.Number))
					must(t, c.Dele(background, e.Number))
				}
				if byC {
					for e := range l.C() {
						handle(e)
					}
				} else {
					for e, err := range l.All() {
						must(t, err)
						handle(e)
					}
				}
				must(t, l.Err())
				if seen != messages {
					t.Errorf("%d entries, want %d", seen, messages)
				}
				must(t, c.Quit(background))
				if n := len(srv.Deleted()); n != fetched {
					t.Errorf("%d messages deleted, want %d", n, fetched)
				}
			})
		})
	}
}

// A command at the first entry, at the last, between two lines, and within a line that has not arrived completely.
func TestSpillAnywhere(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		for at := range 4 {
			c := dialogue(t, nil, `
				C: UIDL
				S: +OK
				S: 1 a
				!wait 1s
				S- 2 b
				!wait 1s
				S: b
				S: 3 c
				!wait 1s
				S: .
				C: NOOP
				S: +OK`)
			l, err := c.UIDL(background)
			must(t, err)
			var wg sync.WaitGroup
			wg.Go(func() {
				time.Sleep(time.Duration(at)*time.Second + time.Millisecond)
				wantError(t, c.Noop(background), nil)
			})
			got, err := collect(l, byC)
			if want := []UID{{1, "a"}, {2, "bb"}, {3, "c"}}; err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
			wg.Wait()
		}
	})
}

// A command that was queued before the listing acquired the lease spills it too.
func TestSpillForEarlierWaiter(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, nil, `
			C: LIST
			!wait 1s
			S: +OK
			S: 1 1
			S: 2 2
			S: .
			C: NOOP
			S: +OK`)
		done := make(chan error, 1)
		go func() {
			time.Sleep(time.Millisecond)
			done <- c.Noop(background)
		}()
		l, err := c.List(background)
		must(t, err)
		must(t, <-done) // no entry has been taken
		got, err := collect(l, byC)
		if want := []Entry{{1, 1}, {2, 2}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

// While no other command waits, backpressure reaches the server.
func TestBackPressure(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		conn := &countingConn{Conn: parseScript(t, `
			S: +OK
			C: LIST
			S: +OK
			!repeat 1000000 1 2
			S: .
			!expect-close`).Play(t)}
		c := connect(t, nil, conn)
		l, err := c.List(background)
		must(t, err)
		if byC {
			<-l.C()
		} else {
			for range l.All() {
				break
			}
		}
		time.Sleep(time.Hour)
		if n := conn.octets; n > 4*bufferSize {
			t.Errorf("%d bytes were read for one entry", n)
		}
	})
}

func countEntries[T Entry | UID](t *testing.T, c *Client, list func(context.Context) (*Listing[T], error), spilled, byC bool) (int, error) {
	t.Helper()
	l, err := list(background)
	must(t, err)
	if spilled {
		must(t, c.Noop(background))
	}
	got, err := collect(l, byC)
	return len(got), err
}

// Both views consume the same entries. Several goroutines may receive from C.
func TestConcurrentConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 20_000
		srv := pop3test.NewUnstartedServer(&pop3test.Generated{N: messages, SizeOf: func(n int) int64 { return int64(n) }})
		c := served(t, nil, srv)
		l, err := c.List(background)
		must(t, err)
		if first := l.C(); l.C() != first {
			t.Error("C returns two channels")
		}
		var mu sync.Mutex
		seen := make(map[int]int)
		take := func(e Entry) {
			mu.Lock()
			defer mu.Unlock()
			seen[e.Number]++
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for e := range l.C() {
					take(e)
				}
			})
			wg.Go(func() {
				for e, err := range l.All() {
					if err != nil {
						t.Error(err)
					}
					take(e)
				}
			})
			wg.Go(func() { wantError(t, c.Noop(background), nil) })
		}
		wg.Wait()
		must(t, l.Err())
		for n := range messages {
			if seen[n+1] != 1 {
				t.Fatalf("entry %d was seen %d times", n+1, seen[n+1])
			}
		}
	})
}

// The unique-ids of a listing stay valid.
func TestUIDsOutliveBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var want []UID
		srv := pop3test.NewUnstartedServer(&pop3test.Generated{
			N:     5000,
			UIDOf: func(n int) string { return fmt.Sprintf("id-%d", n*n) },
		})
		for n := 1; n <= 5000; n++ {
			want = append(want, UID{n, fmt.Sprintf("id-%d", n*n)})
		}
		c := served(t, nil, srv)
		l, err := c.UIDL(background)
		must(t, err)
		got, err := collect(l, false)
		must(t, err)
		must(t, c.Noop(background))
		if !reflect.DeepEqual(got, want) {
			t.Error("the ids differ")
		}
	})
}

func TestListingSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, "\nC: LIST\nS: +OK\nS: 1 10\nS: 3 30\nS: .\nC: UIDL\nS: +OK\nS: 1 a\nS: x\nS: 2 b\nS: .\nC: NOOP\nS: +OK")
		l, err := c.List(background)
		must(t, err)
		sizes, err := l.Slice()
		must(t, err)
		if want := []Entry{{1, 10}, {3, 30}}; !slices.Equal(sizes, want) {
			t.Errorf("got %v, want %v", sizes, want)
		}
		u, err := c.UIDL(background)
		must(t, err)
		ids, err := u.Slice()
		if malformed := new(ProtocolError); !errors.As(err, &malformed) || !slices.Equal(ids, []UID{{1, "a"}}) {
			t.Errorf("got %v, %v, want the entry before the malformed line and a *ProtocolError", ids, err)
		}
		must(t, c.Noop(background))
	})
}
