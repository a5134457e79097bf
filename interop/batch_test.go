package interop

import (
	"io"
	"slices"
	"strings"

	"github.com/seed-5b1d5243/pop3"
)

var batches = []testCase{
	{"RetrAll, TopAll and DeleAll", func(e *env) {
		c, user := e.open(some(40)...)
		e.batch(c)
		var all []int
		for n := 40; n >= 1; n-- {
			all = append(all, n)
		}
		e.must(c.DeleAll(e.ctx, all[:20]))
		if caps, err := c.Capabilities(e.ctx); err != nil || !caps.Has("PIPELINING") {
			e.note("one at a time")
		}
		e.must(c.Quit(e.ctx))
		e.left(user, 20)
	}},
	{"batches without pipelining", func(e *env) {
		user := e.NewUser(e.T, some(40)...)
		opts := e.options()
		opts.NoPipelining = true
		c, err := pop3.Dial(e.ctx, e.Addr, opts)
		e.opened(c, err)
		e.must(c.Login(e.ctx, user, e.Password(user)))
		e.batch(c)
		e.must(c.Quit(e.ctx))
	}},
	{"a batch left half way", func(e *env) {
		c, _ := e.open(some(40)...)
		var all []int
		for n := 1; n <= 40; n++ {
			all = append(all, n)
		}
		for m, err := range c.RetrAll(e.ctx, all) {
			e.must(err)
			if m.Number == 5 {
				break
			}
		}
		if got := e.text(c.Retr(e.ctx, 7)); !strings.HasSuffix(got, "message xxxxxx\r\n") {
			e.Errorf("message 7: %q", got)
		}
		e.must(c.Quit(e.ctx))
	}},
}

// batch retrieves some messages, out of order, one of them twice, and one that does not exist.
func (e *env) batch(c *pop3.Client) {
	e.Helper()
	wanted := []int{3, 1, 40, 99, 3, 2}
	for _, top := range []bool{false, true} {
		seq := c.RetrAll(e.ctx, wanted)
		if top {
			seq = c.TopAll(e.ctx, wanted, 0)
		}
		var got []int
		for m, err := range seq {
			e.must(err)
			got = append(got, m.Number)
			text, err := io.ReadAll(m)
			if m.Number == 99 {
				if _, ok := as[*pop3.ServerError](err); !ok {
					e.Errorf("message 99: %q, %v, want -ERR", text, err)
				}
				continue
			}
			e.must(err)
			end := "body of message " + strings.Repeat("x", m.Number-1) + "\r\n"
			if strings.HasSuffix(e.message(text), end) == top {
				e.Errorf("top %v, message %d: %q", top, m.Number, text)
			}
		}
		if !slices.Equal(got, wanted) {
			e.Errorf("got %v, want %v", got, wanted)
		}
	}
}
