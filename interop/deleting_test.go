package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

var deleting = []testCase{
	{"DELE, RSET and QUIT", func(e *env) {
		c, user := e.open(some(4)...)
		e.must(c.Dele(e.ctx, 2))
		if got := numbers(e.list(c)); !slices.Equal(got, []int{1, 3, 4}) {
			if !e.LFSize {
				e.Errorf("LIST after DELE 2: %v", got)
			}
			e.note("LIST keeps a deleted message, with size 0")
		}
		switch err := c.Dele(e.ctx, 2); {
		case e.DeleTwice:
			e.must(err)
			e.note("DELE twice is +OK")
		default:
			e.refused(err)
		}
		e.must(c.Rset(e.ctx))
		if n := e.count(c); n != 4 {
			e.Errorf("%d messages after RSET, want 4", n)
		}
		e.must(c.Dele(e.ctx, 1))
		e.must(c.Dele(e.ctx, 3))
		want := e.uidl(c)
		want = slices.DeleteFunc(want, func(u pop3.UID) bool { return u.Number == 1 || u.Number == 3 })
		e.must(c.Quit(e.ctx))

		left := e.uidl(e.left(user, 2))
		if len(left) != 2 || left[0].ID != want[0].ID || left[1].ID != want[1].ID {
			e.Errorf("left are %v, want %v", left, want)
		}
	}},
	{"hanging up deletes nothing", func(e *env) {
		c, user := e.open(some(2)...)
		e.must(c.Dele(e.ctx, 1))
		e.must(c.Close())
		if n := e.count(e.login(user)); n != 2 {
			e.Errorf("%d messages left, want 2", n)
		}
	}},
	{"RETR and DELE inside the loop over LIST", func(e *env) {
		c, user := e.open(some(20)...)
		listing, err := c.List(e.ctx)
		e.must(err)
		n := 0
		for entry := range listing.C() {
			text := e.text(c.Retr(e.ctx, entry.Number))
			if !strings.HasSuffix(text, "body of message "+strings.Repeat("x", entry.Number-1)+"\r\n") {
				e.Errorf("message %d: %q", entry.Number, text)
			}
			e.must(c.Dele(e.ctx, entry.Number))
			n++
		}
		e.must(listing.Err())
		e.must(c.Quit(e.ctx))
		if n != 20 {
			e.Errorf("%d messages read, want 20", n)
		}
		e.left(user, 0)
	}},
}

var sharing = []testCase{
	{"a second session", func(e *env) {
		_, user := e.open(some(1)...)
		c := e.dial()
		e.must(c.User(e.ctx, user))
		err := c.Pass(e.ctx, e.Password(user))
		if !e.Lock {
			e.must(err)
			if e.Waits {
				e.note("allowed, but STAT waits until the first has ended")
			} else {
				e.note("allowed")
			}
			return
		}
		if err := e.refused(err); err.Code != pop3.CodeInUse || !err.Temporary() {
			e.Errorf("got %v, want [IN-USE]", err)
		}
		e.note("`[IN-USE]`")
	}},
	{"a message deleted by another session", func(e *env) {
		if e.Lock || e.Waits {
			e.note("cannot be: see the row above")
			e.lacks()
		}
		c, user := e.open(some(3)...)
		other := e.login(user)
		if n := e.count(other); n != 3 {
			e.Fatalf("%d messages, want 3", n)
		}
		e.must(c.Dele(e.ctx, 2))
		e.must(c.Quit(e.ctx))
		e.left(user, 2).Close()

		ctx := e.ctx
		if e.Gone == "silence" {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
		}
		m, err := other.Retr(ctx, 2)
		var text []byte
		if err == nil {
			text, err = io.ReadAll(m)
		}
		outcome := "something else"
		switch {
		case err == nil && strings.HasSuffix(e.message(text), "body of message x\r\n"):
			outcome = "the message"
		case errors.Is(err, context.DeadlineExceeded):
			outcome = "silence"
		case errors.Is(err, io.ErrUnexpectedEOF):
			outcome = "closed"
		default:
			if _, ok := as[*pop3.ServerError](err); ok {
				outcome = "error"
			}
		}
		if outcome != e.Gone {
			e.Errorf("RETR gets %s, want %s: %q, %v", outcome, e.Gone, text, err)
		}
		e.note("RETR gets: " + outcome)
		if err := other.Noop(e.ctx); outcome == "error" || outcome == "the message" {
			e.must(err)
		} else if !errors.Is(err, net.ErrClosed) {
			e.Errorf("after that: %v", err)
		}
	}},
}

func numbers(entries []pop3.Entry) []int {
	var list []int
	for _, e := range entries {
		list = append(list, e.Number)
	}
	return list
}
