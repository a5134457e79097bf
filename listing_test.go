package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// collect takes all entries of a listing, by one view or the other.
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

// A unique-id may be longer than what is otherwise read in one go.
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

// Stop takes back what is in the channel.
func TestStopEmptiesTheChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 30 {
			entries := 3 // the feeder has ended
			if i > 0 {
				entries = 2 * channelRoom // it is stuck, and may go either way
			}
			c := dialogue(t, nil, "\nC: LIST\nS: +OK"+strings.Repeat("\nS: 1 1", entries)+"\nS: .\nC: NOOP\nS: +OK")
			l, err := c.List(background)
			must(t, err)
			<-l.C()
			synctest.Wait()
			l.Stop()
			synctest.Wait()
			for e := range l.C() {
				t.Errorf("%v after Stop", e)
			}
			must(t, l.Err())
			must(t, c.Noop(background))
		}
	})
}

// Stop while the feeder is sending: one entry may slip through, which found no room before, and not in each round.
func TestStopWhileSending(t *testing.T) {
	const rounds = 100
	late := 0
	for i := range rounds {
		c := dialogue(t, nil, "\nC: LIST\nS: +OK\n!repeat 20000 1 1\nS: .\nC: NOOP\nS: +OK")
		l, err := c.List(background)
		must(t, err)
		for range 1 + 97*i {
			<-l.C()
		}
		l.Stop()
		n := 0
		for range l.C() {
			n++
		}
		if n > 1 {
			t.Fatalf("%d entries after Stop", n)
		}
		late += n
		must(t, c.Noop(background))
	}
	if late > rounds/20 {
		t.Errorf("an entry after Stop in %d of %d rounds", late, rounds)
	}
}

// Close ends the goroutine that feeds the channel, also where nobody reads from that.
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

// What the feeder has in hand when a loop over All comes to the end is not delivered yet.
func TestChannelBesideALoop(t *testing.T) {
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

// Close ends a listing that nobody has read from yet.
func TestCloseOverAnIdleListing(t *testing.T) {
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

// Whoever wants the wire has it cleared: commands work in the loop, for any size of mailbox, from one goroutine.
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

// A command at the first entry, at the last, between two lines and in the midst of one that has yet to come.
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

// A command that was queued before the listing held the wire pokes it just the same.
func TestSpillForOneWhoWaitedBefore(t *testing.T) {
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
		must(t, <-done) // nobody has taken an entry
		got, err := collect(l, byC)
		if want := []Entry{{1, 1}, {2, 2}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

// While nobody wants the session, back-pressure reaches the server.
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
			t.Errorf("%d octets were read for one entry", n)
		}
	})
}

// Stop ends the hold of ctx over the session.
func TestStopThenCancel(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			S: 1 1
			S: 2 2
			!wait 1s
			S: 3 3
			S: .
			C: NOOP
			S: +OK`)
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		l, err := c.List(ctx)
		must(t, err)
		if byC {
			<-l.C()
			l.Stop()
			l.Stop()
		} else {
			for range l.All() {
				break
			}
		}
		cancel()
		synctest.Wait()
		must(t, l.Err())
		must(t, c.Noop(background))
		if byC {
			for range l.C() { // closed
			}
		}
		must(t, l.Err())
		if got, err := collect(l, false); len(got) > 0 || err != nil {
			t.Errorf("after Stop: %v, %v", got, err)
		}
	})
}

// Stop closes the channel though the server is silent, and C after Stop is closed.
func TestStopDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{Timeout: -1}, `
			C: LIST
			S: +OK
			S: 1 1
			!stall`)
		l, err := c.List(background)
		must(t, err)
		<-l.C()
		synctest.Wait() // the feeder waits for the server
		start := time.Now()
		l.Stop()
		for range l.C() {
		}
		must(t, l.Err())
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		wantError(t, c.Noop(ctx), context.DeadlineExceeded) // the wire is not free yet
		if d := time.Since(start); d != time.Second {
			t.Errorf("took %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			S: 1 1
			S: .
			C: NOOP
			S: +OK`)
		l, err := c.List(background)
		must(t, err)
		l.Stop()
		for e := range l.C() {
			t.Errorf("%v after Stop", e)
		}
		must(t, l.Err())
		must(t, c.Noop(background))
	})
}

// Stop while the feeder is stuck with nobody at the channel, and from many goroutines.
func TestStopWhileFeeding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			!repeat 5000 1 2
			S: .
			C: NOOP
			S: +OK`)
		l, err := c.List(background)
		must(t, err)
		<-l.C()
		synctest.Wait()
		for range 4 {
			go l.Stop()
		}
		synctest.Wait()
		n := 0
		for range l.C() {
			n++
		}
		if n > channelRoom {
			t.Errorf("%d entries after Stop", n)
		}
		must(t, l.Err())
		must(t, c.Noop(background))
	})
}

// Cancellation is an error, wherever it strikes.
func TestCancelledListing(t *testing.T) {
	t.Run("on the wire", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				S: 1 1
				!expect-close`)
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			time.AfterFunc(time.Second, cancel)
			l, err := c.List(ctx)
			must(t, err)
			got, err := collect(l, byC)
			wantError(t, err, context.Canceled)
			wantError(t, l.Err(), context.Canceled)
			if len(got) != 1 {
				t.Errorf("%v", got)
			}
			wantError(t, c.Noop(background), ErrClosed, context.Canceled)
		})
	})
	t.Run("between entries", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				!repeat 100000 1 1
				!expect-close`)
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			l, err := c.List(ctx)
			must(t, err)
			n := 0
			if byC {
				for range l.C() {
					if n++; n == 1000 {
						cancel()
						synctest.Wait()
					}
				}
				err = l.Err()
			} else {
				for _, e := range l.All() {
					err = e
					if n++; n == 1000 {
						cancel()
						synctest.Wait()
					}
				}
			}
			wantError(t, err, context.Canceled)
			if n > 1000+channelRoom+1 {
				t.Errorf("%d entries after the end of ctx", n-1000)
			}
		})
	})
	t.Run("after the spill", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				!repeat 5000 1 1
				S: .
				C: NOOP
				S: +OK
				C: NOOP
				S: +OK`)
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			l, err := c.List(ctx)
			must(t, err)
			must(t, c.Noop(background))
			cancel()
			synctest.Wait()
			got, err := collect(l, byC)
			wantError(t, err, context.Canceled)
			if len(got) > 0 {
				t.Errorf("%d entries", len(got))
			}
			must(t, c.Noop(background)) // the session lives
		})
	})
	t.Run("complete before", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				S: 1 1
				S: .
				C: NOOP
				S: +OK`)
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			l, err := c.List(ctx)
			must(t, err)
			if got, err := collect(l, byC); len(got) != 1 || err != nil {
				t.Errorf("%v, %v", got, err)
			}
			cancel()
			synctest.Wait()
			must(t, l.Err())
			must(t, c.Noop(background))
		})
	})
	t.Run("unread", func(t *testing.T) {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, nil, `
				C: LIST
				S: +OK
				!expect-close`)
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			l, err := c.List(ctx)
			must(t, err)
			cancel()
			synctest.Wait()
			wantError(t, l.Err(), context.Canceled)
			_, err = collect(l, byC)
			wantError(t, err, context.Canceled)
		})
	})
}

// Cut inside: the entries before it, then an unexpected EOF. Never complete, never a hang.
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
	ends := []int{17, 23, 33} // of the entries, in octets
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

func TestMaxEntries(t *testing.T) {
	for _, spilled := range []bool{false, true} {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, &Options{MaxEntries: 1000}, `
				C: LIST
				S: +OK
				!repeat 1000 1 1
				S: .
				C: LIST
				S: +OK
				!repeat 1000000 1 1
				!expect-close`)
			l, err := c.List(background)
			must(t, err)
			if got, err := collect(l, byC); len(got) != 1000 || err != nil {
				t.Errorf("%d entries, %v, want 1000", len(got), err)
			}
			l, err = c.List(background)
			must(t, err)
			if spilled {
				wantError(t, c.Noop(background), ErrClosed, ErrTooManyEntries)
			}
			got, err := collect(l, byC)
			wantError(t, err, ErrTooManyEntries)
			if len(got) != 1000 {
				t.Errorf("%d entries, want 1000", len(got))
			}
			wantError(t, c.Noop(background), ErrClosed)
		})
	}
}

func TestMaxLineLengthOfAListing(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		ok         bool
	}{
		{"longest", "2 " + strings.Repeat("x", 98) + `\r\n`, true},
		{"too long", "2 " + strings.Repeat("x", 99) + `\r\n`, false},
		{"much too long", "2 " + strings.Repeat("x", 200_000) + `\r\n`, false},
		{"without end", "2 " + strings.Repeat("x", 200_000) + "\nS- more", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothViews(t, func(t *testing.T, byC bool) {
				end := "\nS: .\nC: NOOP\nS: +OK"
				if !tt.ok {
					end = "\n!expect-close"
				}
				c := dialogue(t, &Options{MaxLineLength: 100}, "\nC: UIDL\nS: +OK\nS: 1 a\nS- "+tt.line+end)
				l, err := c.UIDL(background)
				must(t, err)
				got, err := collect(l, byC)
				if tt.ok {
					if err != nil || len(got) != 2 {
						t.Errorf("%d entries, %v", len(got), err)
					}
					must(t, c.Noop(background))
					return
				}
				if wantError(t, err, ErrLineTooLong); len(got) != 1 {
					t.Errorf("%d entries, want the one before", len(got))
				}
				wantError(t, c.Noop(background), ErrClosed)
			})
		})
	}
}

// A line that makes no sense ends the listing behind the entries before it, and the session is in step.
func TestMalformedLine(t *testing.T) {
	for _, tt := range []struct{ command, line string }{
		{"LIST", "x 1"},
		{"LIST", "1"},
		{"LIST", "1 "},
		{"LIST", "1 x"},
		{"LIST", "0 1"},
		{"LIST", "-1 1"},
		{"LIST", "1 -1"},
		{"LIST", "+1 1"},
		{"LIST", "1 9223372036854775808"},
		{"LIST", "9223372036854775808 1"},
		{"LIST", "18446744073709551617 1"},
		{"LIST", "1 18446744073709551617"},
		{"LIST", "1 1x"},
		{"LIST", `1 1 \x00`},
		{"LIST", `1 1 a\nb`},
		{"LIST", "..1 1"},
		{"UIDL", "1"},
		{"UIDL", "1 "},
		{"UIDL", "1\t "},
		{"UIDL", "0 x"},
		{"UIDL", `1 a\tb`},
		{"UIDL", `1 a\x7f`},
		{"UIDL", `1 a\x00`},
		{"UIDL", `1 a\rb`},
		{"UIDL", `1 a\nb`},
		{"UIDL", "99999999999999999999 x"},
	} {
		t.Run(tt.command+" "+tt.line, func(t *testing.T) {
			bothViews(t, func(t *testing.T, byC bool) {
				for _, spilled := range []bool{false, true} {
					script := "\nC: " + tt.command + "\nS: +OK\nS: 7 7\nS: 8 8\nS: " + tt.line + "\nS: 9 9\nS: .\nC: NOOP\nS: +OK\nC: NOOP\nS: +OK"
					if spilled { // in one write
						script = strings.Replace(script, "7 7\nS: 8 8\nS: ", `7 7\r\n8 8\r\n`, 1)
					}
					c := dialogue(t, nil, script)
					var n int
					var err error
					if tt.command == "LIST" {
						n, err = countEntries(t, c, c.List, spilled, byC)
					} else {
						n, err = countEntries(t, c, c.UIDL, spilled, byC)
					}
					e := new(ProtocolError)
					line := unescaped(t, tt.line)
					if !errors.As(err, &e) || e.Command != tt.command || e.Line != line || n != 2 {
						t.Errorf("%d entries, then %v; want 2 and a *ProtocolError quoting %q", n, err, line)
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

func unescaped(t *testing.T, text string) string {
	t.Helper()
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	must(t, err)
	return s
}

// The error need not wait for the rest of the response.
func TestMalformedLineThenSilence(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			S: 1 1
			S: nonsense
			!wait 1m
			S: 2 2
			S: .
			C: NOOP
			S: +OK`)
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		l, err := c.List(ctx)
		must(t, err)
		start := time.Now()
		got, err := collect(l, byC)
		if len(got) != 1 || !isProtocolError(err) || time.Since(start) != 0 {
			t.Errorf("after %v: %v, %v", time.Since(start), got, err)
		}
		cancel() // has no hold over a listing that has ended
		must(t, c.Noop(background))
	})
}

// A server that is silent after a line without sense is timed out by whoever wants the wire.
func TestMalformedLineThenNothing(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			S: nonsense
			!stall`)
		l, err := c.List(background)
		must(t, err)
		if got, err := collect(l, byC); len(got) > 0 || !isProtocolError(err) {
			t.Errorf("%v, %v", got, err)
		}
		wantError(t, c.Noop(background), ErrClosed, os.ErrDeadlineExceeded)
		if err := l.Err(); !isProtocolError(err) {
			t.Errorf("%v", err)
		}
	})
}

// Walking away costs one goroutine, which Close ends.
func TestWalkingAway(t *testing.T) {
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
				t.Errorf("%d goroutines for a listing that nobody reads", n)
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
				t.Error("the feeder went on after Close")
			}
			wantError(t, l.Err(), ErrClosed)
		})
	}
}

// Quit and a lost connection do not take away entries that had arrived.
func TestEntriesThatHadArrived(t *testing.T) {
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

// Both views take from the same entries; C may be handed to many.
func TestManyTakers(t *testing.T) {
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

// The ids of a listing are the caller's to keep.
func TestIDsStay(t *testing.T) {
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

// countingConn counts the octets read.
type countingConn struct {
	net.Conn
	octets int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.octets += int64(n)
	return n, err
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
