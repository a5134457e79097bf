package interop

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
	"github.com/seed-5b1d5243/pop3"
)

var reading = []testCase{
	{"STAT and LIST", func(e *env) {
		c, _ := e.open(some(7)...)
		count, total, err := c.Stat(e.ctx)
		e.must(err)
		entries := e.list(c)
		var sum int64
		for i, entry := range entries {
			if entry.Number != i+1 {
				e.Errorf("entry %d has the number %d", i, entry.Number)
			}
			sum += entry.Size
			size, err := c.Size(e.ctx, entry.Number)
			e.must(err)
			if size != entry.Size {
				e.Errorf("LIST %d returns %d, LIST listed %d", entry.Number, size, entry.Size)
			}
		}
		if count != 7 || len(entries) != 7 || sum != total {
			e.Errorf("STAT returns %d messages of %d octets, LIST %d of %d; want 7", count, total, len(entries), sum)
		}
		e.refused(second(c.Size(e.ctx, 8)))
		e.must(c.Quit(e.ctx))
	}},
	{"an empty mailbox", func(e *env) {
		c, _ := e.open()
		if n := e.count(c); n != 0 || len(e.list(c)) != 0 || len(e.uidl(c)) != 0 {
			e.Errorf("it has %d messages", n)
		}
		e.must(c.Quit(e.ctx))
	}},
	{"UIDL", func(e *env) {
		c, user := e.open(some(7)...)
		uids := e.uidl(c)
		seen := map[string]bool{}
		for _, u := range uids {
			seen[u.ID] = true
			id, err := c.UID(e.ctx, u.Number)
			if pe, ok := as[*pop3.ProtocolError](err); ok {
				e.note("`UIDL n` is answered without the number: a *ProtocolError, but in sync")
				e.Log(pe)
				continue
			}
			e.must(err)
			if id != u.ID {
				e.Errorf("UIDL %d returns %q, UIDL listed %q", u.Number, id, u.ID)
			}
		}
		if len(uids) != 7 || len(seen) != 7 {
			e.Errorf("%d unique-ids, %d of them different; want 7", len(uids), len(seen))
		}
		e.refused(second(c.UID(e.ctx, 8)))
		e.must(c.Quit(e.ctx))
		if again := e.uidl(e.login(user)); !slices.Equal(uids, again) {
			e.Errorf("the next session has other unique-ids: %s", cmp.Diff(uids, again))
		}
	}},
	{"RETR, byte for byte", func(e *env) {
		for _, s := range samplesFor(e.Traits) {
			c, _ := e.open(s.text)
			size, err := c.Size(e.ctx, 1)
			e.must(err)
			got := e.text(c.Retr(e.ctx, 1))
			want := delivered(e.Traits, s.text)
			switch {
			case got == want:
			case e.AddsHeaders && strings.HasSuffix(got, want):
				e.note("headers added on delivery")
			default:
				e.explain(s.name, got, want)
			}
			if e.Separator {
				e.note("the empty line between two messages of the mbox comes with the first")
				size -= 2
			}
			switch diff := int64(len(got)) - size; {
			case diff == 0:
			case diff == 2 && e.SizeShort && !strings.HasSuffix(s.text, "\n"):
				e.note("LIST is 2 short for a message without a final newline")
			case e.LFSize:
				e.note("LIST counts a line end as one octet")
			case s.name == "8-bit header" && strings.Contains(got, "Cannot display"):
			default:
				e.Errorf("%s: LIST lists %d octets, RETR has %d", s.name, size, len(got))
			}
			e.must(c.Noop(e.ctx))
			c.Close()
		}
	}},
	{"TOP", func(e *env) {
		head := header("top", 1) + "X-Dot: a\n .b\n"
		c, _ := e.open(head + "\n.one\ntwo\nthree\n")
		whole := e.text(c.Retr(e.ctx, 1))
		head, body, ok := strings.Cut(whole, "\r\n\r\n")
		if !ok {
			e.Fatalf("no body in %q", whole)
		}
		lines := strings.SplitAfter(body, "\r\n")
		for n, want := range []string{"", lines[0], lines[0] + lines[1], body, body} {
			got := e.text(c.Top(e.ctx, 1, n))
			want = head + "\r\n\r\n" + want
			if e.Separator { // which is a line of the body too
				got, want = strings.TrimRight(got, "\r\n"), strings.TrimRight(want, "\r\n")
			}
			if got == head+"\r\n\r\n\r\n"+strings.TrimPrefix(want, head+"\r\n\r\n") {
				e.note("an empty line too many before the body")
				continue
			}
			if got != want {
				e.Errorf("TOP 1 %d: %s", n, cmp.Diff(got, want))
			}
		}
		e.refused(second(c.Top(e.ctx, 2, 0)))
		e.must(c.Quit(e.ctx))
	}},
	{"NOOP and commands of any kind", func(e *env) {
		c, _ := e.open(some(2)...)
		e.must(c.Noop(e.ctx))
		_, err := c.Cmd(e.ctx, "NOOP")
		e.must(err)
		if a, b := e.text(c.CmdMultiline(e.ctx, "RETR", "2")), e.text(c.Retr(e.ctx, 2)); a != b {
			e.Errorf("CmdMultiline has %q, Retr %q", a, b)
		}
		e.refused(second(c.Cmd(e.ctx, "XNONE")))
		e.refused(second(c.CmdMultiline(e.ctx, "XNONE")))
		e.must(c.Noop(e.ctx))
		e.must(c.Quit(e.ctx))
	}},
	{"no such message", func(e *env) {
		c, _ := e.open(some(1)...)
		e.refused(second(c.Retr(e.ctx, 9)))
		e.refused(c.Dele(e.ctx, 9))
		e.must(c.Noop(e.ctx))
		e.must(c.Quit(e.ctx))
	}},
	{"three goroutines at once", func(e *env) {
		c, _ := e.open(some(3)...)
		var wg sync.WaitGroup
		for n := 1; n <= 3; n++ {
			wg.Go(func() {
				m, err := c.Retr(e.ctx, n)
				if err != nil {
					e.Error(err)
					return
				}
				text, err := io.ReadAll(m)
				if err != nil || !strings.HasSuffix(e.message(text), "body of message "+strings.Repeat("x", n-1)+"\r\n") {
					e.Errorf("message %d: %q, %v", n, text, err)
				}
			})
		}
		wg.Wait()
		e.must(c.Quit(e.ctx))
	}},
	{"a message closed half read", func(e *env) {
		c, _ := e.open(append(some(1), samples[2].text)...)
		m, err := c.Retr(e.ctx, 2)
		e.must(err)
		if _, err := io.ReadFull(m, make([]byte, 500)); err != nil {
			e.Error(err)
		}
		e.must(m.Close())
		e.must(c.Dele(e.ctx, 1))
		e.must(c.Quit(e.ctx))
	}},
}

// explain notes a known change that the server makes to a message, and fails the case for any other.
func (e *env) explain(name, got, want string) {
	switch {
	case name == "headers only" && got == want+"\r\n":
		e.note("an empty line added after headers without a body")
	case name == "dots" && strings.ReplaceAll(want, ">From", "From") == got:
		e.note("the \">\" of \">From\" taken off")
	case name == "8-bit header" && strings.Contains(got, "Cannot display"):
		e.note("a message with 8-bit headers comes wrapped in a notice, unless after UTF8")
	case name == "8-bit header" && strings.HasSuffix(got, strings.ReplaceAll(want, "\xc3\xa9", "XX")):
		e.note("bytes above 127 in headers replaced by X")
	default:
		e.Errorf("%s: %s", name, cmp.Diff(want, got))
	}
}

func (e *env) list(c *pop3.Client) []pop3.Entry {
	e.Helper()
	return collect(e, c.List)
}

func (e *env) uidl(c *pop3.Client) []pop3.UID {
	e.Helper()
	return collect(e, c.UIDL)
}

// collect reads a listing to its end.
func collect[T pop3.Entry | pop3.UID](e *env, list func(context.Context) (*pop3.Listing[T], error)) []T {
	e.Helper()
	l, err := list(e.ctx)
	e.must(err)
	var all []T
	for item, err := range l.All() {
		e.must(err)
		all = append(all, item)
	}
	return all
}

// second returns the error of a call whose result is not needed.
func second[T any](_ T, err error) error { return err }
