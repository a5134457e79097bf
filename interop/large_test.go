package interop

import (
	"bytes"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"strings"
	"testing"
	"time"
)

var sizes = []testCase{
	{"100,000 messages", func(e *env) {
		e.long()
		count := 100_000
		if e.Most > 0 {
			count = e.Most
			e.note(fmt.Sprintf("with %d: %s", count, e.MostWhy))
		}
		user := e.NewUserFunc(e.T, count, func(w io.Writer, i int) error {
			_, err := fmt.Fprintf(w, "%s\nbody %d\n", header("many", i+1), i+1)
			return err
		})
		start := time.Now()
		c := e.login(user)
		if n := e.count(c); n != count {
			e.Fatalf("%d messages, want %d", n, count)
		}
		e.Logf("login and STAT: %v", time.Since(start))
		start = time.Now()
		for i, entry := range e.list(c) {
			if entry.Number != i+1 || entry.Size < 100 {
				e.Fatalf("entry %d: %+v", i, entry)
			}
		}
		e.Logf("LIST: %v", time.Since(start))
		start = time.Now()
		uids := e.uidl(c)
		seen := make(map[string]bool, count)
		for i, u := range uids {
			if u.Number != i+1 || seen[u.ID] {
				e.Fatalf("unique-id %d: %+v", i, u)
			}
			seen[u.ID] = true
		}
		if len(uids) != count {
			e.Errorf("%d unique-ids", len(uids))
		}
		e.Logf("UIDL: %v", time.Since(start))
		start = time.Now()
		wanted := []int{1, count / 2, count}
		for n := 1; n <= 1000; n++ {
			wanted = append(wanted, n)
		}
		for m, err := range c.RetrAll(e.ctx, wanted) {
			e.must(err)
			if got := e.text(m, nil); !strings.HasSuffix(got, fmt.Sprintf("\r\nbody %d\r\n", m.Number)) {
				e.Fatalf("message %d: %q", m.Number, got)
			}
		}
		e.Logf("RETR of %d: %v", len(wanted), time.Since(start))
		e.must(c.Quit(e.ctx))
	}},
	{"a message of 500 MB", func(e *env) {
		e.long()
		const lines = 500_000_000 / 76
		line := "." + strings.Repeat("x", 74)
		block := []byte(strings.Repeat(line+"\n", 1000))
		user := e.NewUserFunc(e.T, 1, func(w io.Writer, _ int) error {
			if _, err := io.WriteString(w, header("big", 1)+"\n"); err != nil {
				return err
			}
			for range lines / 1000 {
				if _, err := w.Write(block); err != nil {
					return err
				}
			}
			return nil
		})
		c := e.login(user)
		start := time.Now()
		m, err := c.Retr(e.ctx, 1)
		e.must(err)
		body := &bodyHash{Hash: fnv.New64a()}
		n, err := m.WriteTo(body)
		e.must(err)
		e.Logf("%d bytes in %v", n, time.Since(start))
		want := fnv.New64a()
		for range lines / 1000 {
			want.Write(bytes.ReplaceAll(block, []byte("\n"), []byte("\r\n")))
		}
		if e.Separator {
			io.WriteString(want, "\r\n")
		}
		if !bytes.Equal(body.Sum(nil), want.Sum(nil)) {
			e.Errorf("the body of %d bytes differs from the delivered one", n)
		}
		e.must(c.Quit(e.ctx))
	}},
}

// long skips the case in short mode.
func (e *env) long() {
	e.Helper()
	if testing.Short() {
		e.Skip("long")
	}
}

// bodyHash hashes the text after the first empty line.
type bodyHash struct {
	hash.Hash
	head []byte
	body bool
}

func (b *bodyHash) Write(p []byte) (int, error) {
	if b.body {
		return b.Hash.Write(p)
	}
	b.head = append(b.head, p...)
	if _, rest, ok := bytes.Cut(b.head, []byte("\r\n\r\n")); ok {
		b.body = true
		b.Hash.Write(rest)
	}
	return len(p), nil
}
