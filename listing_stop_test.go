package pop3

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// listingViews are the ways to take the entries of a listing. body is called with each entry.
var listingViews = map[string]func(l *Listing[Entry], body func()) error{
	"All": func(l *Listing[Entry], body func()) error {
		for _, err := range l.All() {
			if err != nil {
				return err
			}
			body()
		}
		return l.Err()
	},
	"C": func(l *Listing[Entry], body func()) error {
		for range l.C() {
			body()
		}
		return l.Err()
	},
	"Slice": func(l *Listing[Entry], body func()) error {
		entries, err := l.Slice()
		for range entries {
			body()
		}
		return err
	},
	"Pull": func(l *Listing[Entry], body func()) error {
		next, stop := iter.Pull2(l.All())
		defer stop()
		for {
			_, err, ok := next()
			if !ok || err != nil {
				return err
			}
			body()
		}
	},
}

// listingEnds are the ways to end a listing before its last entry.
var listingEnds = map[string]struct {
	end  func(c *Client, l *Listing[Entry], cancel func())
	want error // of the listing
}{
	"Stop":    {func(_ *Client, l *Listing[Entry], _ func()) { l.Stop() }, nil},
	"Close":   {func(c *Client, _ *Listing[Entry], _ func()) { c.Close() }, ErrClosed},
	"context": {func(_ *Client, _ *Listing[Entry], cancel func()) { cancel() }, context.Canceled},
}

// TestListingEndsWhileWaiting: a loop that waits for the server ends at once, in each view, at each place. After Stop, and the
// deferred cancel, the session is usable.
func TestListingEndsWhileWaiting(t *testing.T) {
	for place, transcript := range map[string]string{
		"at first":       "\nC: LIST\nS: +OK\n!wait 1m\nS: 1 1\nS: 2 2",
		"after entries":  "\nC: LIST\nS: +OK\nS: 1 1\nS: 2 2\n!wait 1m",
		"within a line":  "\nC: LIST\nS: +OK\nS: 1 1\nS- 2\n!wait 1m\nS:  2",
		"after a chunk":  "\nC: LIST\nS: +OK\n!repeat 600 1 1\n!wait 1m",
		"before the dot": "\nC: LIST\nS: +OK\nS: 1 1\nS- .\n!wait 1m\nS- \\r\\n",
	} {
		for view, take := range listingViews {
			for how, tt := range listingEnds {
				for _, spilled := range []bool{false, true} {
					name := strings.Join([]string{place, view, how, map[bool]string{true: "spilled", false: "not spilled"}[spilled]}, "/")
					t.Run(name, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							then := "\nS: .\nC: NOOP\nS: +OK"
							if place == "before the dot" {
								then = "\nC: NOOP\nS: +OK"
							}
							if how != "Stop" {
								then = "\n!expect-close"
							}
							c := dialogue(t, nil, transcript+then)
							ctx, cancel := context.WithCancel(background)
							defer cancel()
							l, err := c.List(ctx)
							must(t, err)
							queued := make(chan error, 1)
							if spilled {
								go func() { queued <- c.Noop(background) }()
								synctest.Wait()
							}
							start := time.Now()
							time.AfterFunc(time.Second, func() { tt.end(c, l, cancel) })
							err = take(l, func() {})
							if !errors.Is(err, tt.want) {
								t.Errorf("error %v, want %v", err, tt.want)
							}
							lasted(t, time.Since(start), time.Second)
							cancel()
							if !spilled {
								queued <- c.Noop(background)
							}
							if err := <-queued; how == "Stop" {
								must(t, err)
							} else {
								wantError(t, err, ErrClosed)
							}
							time.Sleep(time.Hour) // for the transcript
						})
					})
				}
			}
		}
	}
}

// TestListingEndsFromItsBody is the same from within the body of the loop.
func TestListingEndsFromItsBody(t *testing.T) {
	for view, take := range listingViews {
		for how, tt := range listingEnds {
			for _, at := range []int{1, 512, 513, 1000} {
				t.Run(view+"/"+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						transcript := "\nC: LIST\nS: +OK\n!repeat 1000 1 1\n!wait 1m\nS: 2 2\nS: ."
						// Slice has all entries before the first is looked at.
						usable := how == "Stop" || how == "context" && view == "Slice"
						if usable {
							transcript += "\nC: NOOP\nS: +OK"
						}
						c := dialogue(t, nil, transcript+"\n!expect-close")
						ctx, cancel := context.WithCancel(background)
						defer cancel()
						l, err := c.List(ctx)
						must(t, err)
						n := 0
						err = take(l, func() {
							if n++; n == at {
								tt.end(c, l, cancel)
								synctest.Wait()
							}
						})
						if want := tt.want; view != "Slice" && !errors.Is(err, want) || view == "Slice" && err != nil {
							t.Errorf("error %v, want %v", err, want)
						}
						if view != "Slice" && view != "C" && how != "Close" && n != at {
							t.Errorf("%d entries after the end at %d", n, at)
						}
						cancel()
						if err := c.Noop(background); usable {
							must(t, err)
						} else {
							wantError(t, err, ErrClosed)
						}
						c.Close()
						time.Sleep(time.Hour) // for the transcript
					})
				})
			}
		}
	}
}

// TestPullNeverStopped: an iterator that is neither finished nor stopped delays no other call, and no context keeps it.
func TestPullNeverStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, "\nC: LIST\nS: +OK\n!repeat 1000 1 1\nS: .\nC: NOOP\nS: +OK\n!expect-close")
		done, cancel := context.WithCancel(background)
		defer cancel()
		ctx := &watchedContext{Context: done}
		l, err := c.List(ctx)
		must(t, err)
		next, stop := iter.Pull2(l.All())
		defer stop() // for the bubble
		next()
		start := time.Now()
		must(t, c.Noop(background))
		lasted(t, time.Since(start), 0)
		must(t, c.Close())
		synctest.Wait()
		if n := ctx.watchers.Load(); n != 0 {
			t.Errorf("%d watchers of the context", n)
		}
	})
}

// TestContextAfterQuit: entries that had arrived before the session ended are governed by the context, too.
func TestContextAfterQuit(t *testing.T) {
	for view, take := range listingViews {
		for _, begun := range []bool{false, true} {
			t.Run(view, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := dialogue(t, nil, "\nC: LIST\nS: +OK\n!repeat 20000 1 1\nS: .\nC: QUIT\nS: +OK\n!close")
					ctx, cancel := context.WithCancel(background)
					defer cancel()
					l, err := c.List(ctx)
					must(t, err)
					if begun && view == "C" {
						l.C()
					}
					must(t, c.Quit(background))
					time.AfterFunc(time.Minute, cancel)
					n := 0
					err = take(l, func() {
						n++
						time.Sleep(time.Second)
					})
					if view == "Slice" { // it has them at once
						must(t, err)
						return
					}
					wantError(t, err, context.Canceled)
					if n > channelRoom+chunkEntries+60 {
						t.Errorf("%d entries", n)
					}
				})
			})
		}
	}
}

// abandoned are the ways to walk away from a listing.
var abandoned = map[string]func(t *testing.T, c *Client, l *Listing[UID]){
	"untouched": func(*testing.T, *Client, *Listing[UID]) {},
	"C":         func(_ *testing.T, _ *Client, l *Listing[UID]) { <-l.C() },
	"C, some":   func(_ *testing.T, _ *Client, l *Listing[UID]) { <-l.C(); <-l.C() },
	"spilled":   func(t *testing.T, c *Client, _ *Listing[UID]) { must(t, c.Noop(background)) },
	"C and spilled": func(t *testing.T, c *Client, l *Listing[UID]) {
		<-l.C()
		must(t, c.Noop(background))
	},
	"break": func(_ *testing.T, _ *Client, l *Listing[UID]) {
		for range l.All() {
			break
		}
	},
	"panic": func(_ *testing.T, _ *Client, l *Listing[UID]) {
		apart(func() {
			for range l.All() {
				panic("user code")
			}
		})
	},
	"all": func(t *testing.T, _ *Client, l *Listing[UID]) {
		_, err := l.Slice()
		must(t, err)
	},
}

// sessionEnds are the ways to end a session.
var sessionEnds = map[string]func(t *testing.T, c *Client){
	"Close": func(t *testing.T, c *Client) { must(t, c.Close()) },
	"Quit":  func(t *testing.T, c *Client) { must(t, c.Quit(background)) },
	"lost": func(t *testing.T, c *Client) {
		c.s.conn.sock.Close()
		if err := c.Noop(background); err == nil {
			t.Error("no error")
		}
	},
	"Quit, then Close": func(t *testing.T, c *Client) {
		must(t, c.Quit(background))
		must(t, c.Close())
	},
}

// listingFromMemory starts a session, without a goroutine, that has a listing of n entries open.
func listingFromMemory(t *testing.T, ctx context.Context, n int) (*Client, *Listing[UID]) {
	t.Helper()
	answers := []string{"+OK\r\n", "+OK\r\n" + strings.Repeat("1 abcdefghijklmnop\r\n", n) + ".\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n"}
	c, err := NewClient(ctx, &memory{answers: answers, pieces: []int{1 << 16}}, nil)
	must(t, err)
	l, err := c.UIDL(ctx)
	must(t, err)
	return c, l
}

// TestAbandonedListingIsCollected: after the end of the session, a long-lived context keeps neither the session nor a listing
// that was walked away from, whatever has been taken of it.
func TestAbandonedListingIsCollected(t *testing.T) {
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	for how, abandon := range abandoned {
		for ended, end := range sessionEnds {
			if strings.HasPrefix(how, "C") && !strings.Contains(ended, "Close") {
				continue // entries that had arrived can still be received
			}
			t.Run(how+"/"+ended, func(t *testing.T) {
				session, listing := func() (weak.Pointer[Client], weak.Pointer[Listing[UID]]) {
					c, l := listingFromMemory(t, ctx, 6000)
					abandon(t, c, l)
					end(t, c)
					return weak.Make(c), weak.Make(l)
				}()
				for range 300 {
					runtime.GC()
					if session.Value() == nil && listing.Value() == nil {
						return
					}
					time.Sleep(time.Millisecond) // the feeder is about to end
				}
				t.Errorf("session kept: %v, listing kept: %v", session.Value() != nil, listing.Value() != nil)
			})
		}
	}
}

// TestNoContextGrows has many sessions under one context.
func TestNoContextGrows(t *testing.T) {
	done, cancel := context.WithCancel(background)
	defer cancel()
	ctx := &watchedContext{Context: done}
	hows, ends := sortedKeys(abandoned), sortedKeys(sessionEnds)
	for i := range 10_000 {
		how, ended := hows[i%len(hows)], ends[i/len(hows)%len(ends)]
		c, l := listingFromMemory(t, ctx, 3)
		abandoned[how](t, c, l)
		sessionEnds[ended](t, c)
		if strings.HasPrefix(how, "C") && !strings.Contains(ended, "Close") {
			c.Close()
		}
	}
	for range 1000 {
		if ctx.watchers.Load() == 0 {
			return
		}
		time.Sleep(time.Millisecond) // the last goroutines are about to end
	}
	t.Errorf("%d watchers of the context", ctx.watchers.Load())
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestNoContextIsWatchedAfterClose has Close come while a command is about to be sent.
func TestNoContextIsWatchedAfterClose(t *testing.T) {
	done, cancel := context.WithCancel(background)
	defer cancel()
	ctx := &watchedContext{Context: done}
	c, err := NewClient(background, &memory{answers: []string{"+OK\r\n"}, pieces: []int{1 << 16}}, nil)
	must(t, err)
	h := &lease{ctx: ctx, name: "NOOP"}
	must(t, c.s.acquire(h))
	must(t, c.Close())
	wantError(t, c.s.ready(h, "NOOP"), ErrClosed, ErrNotSent)
	if n := ctx.watchers.Load(); n != 0 {
		t.Errorf("%d watchers of the context", n)
	}
}
