// Package mailtest provides mailboxes for the tests of the examples.
package mailtest

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// Serve starts a server with implicit TLS for the length of the test, and returns options that trust it. The user is
// "user", the password "secret".
func Serve(t *testing.T, m pop3test.Maildrop) (*pop3test.Server, *pop3.Options) {
	t.Helper()
	srv := pop3test.NewTLSServer(m)
	t.Cleanup(srv.Close)
	return srv, &pop3.Options{TLSConfig: srv.TLSConfig()}
}

// Cut returns m, but drops the connection in the middle of message n, the given number of times; every time if that is
// negative.
func Cut(m pop3test.Maildrop, n, times int) pop3test.Maildrop {
	c := &cut{Maildrop: m, n: n}
	c.left.Store(int64(times))
	return c
}

type cut struct {
	pop3test.Maildrop
	n    int
	left atomic.Int64
}

func (c *cut) WriteMessage(w io.Writer, n int) error {
	if n != c.n || c.left.Add(-1) == -1 {
		return c.Maildrop.WriteMessage(w, n)
	}
	return c.Maildrop.WriteMessage(&half{w, c.Size(n) / 2}, n)
}

// half fails after n bytes.
type half struct {
	w    io.Writer
	left int64
}

func (h *half) Write(p []byte) (int, error) {
	if int64(len(p)) <= h.left {
		h.left -= int64(len(p))
		return h.w.Write(p)
	}
	n, err := h.w.Write(p[:h.left])
	h.left -= int64(n)
	return n, errors.Join(err, errors.New("connection dropped by the test"))
}
