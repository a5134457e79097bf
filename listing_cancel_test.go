package pop3

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Stop takes back the entries in the channel.
func TestStopEmptiesTheChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 30 {
			entries := 3 // the feeder has ended
			if i > 0 {
				entries = 2 * channelRoom // it is blocked, and either result is possible
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

// If Stop is called while the feeder is sending, the one entry that waited for room may still be delivered, but not in
// every round.
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

// After Stop, ctx no longer affects the session.
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
		wantError(t, c.Noop(ctx), context.DeadlineExceeded) // the connection is not free yet
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

// Stop while the feeder is blocked because nothing is received, and from many goroutines.
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

// Cancellation is always an error.
func TestCanceledListing(t *testing.T) {
	t.Run("while reading", func(t *testing.T) {
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
			must(t, c.Noop(background)) // the session is open
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
