package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

var background = context.Background()

// texts is a maildrop small enough for a fault at each byte.
var texts = []string{
	"Subject: one\r\n\r\nfirst\r\nsecond\r\n",
	"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nend\r\n",
	"Subject: blank\r\n\r\na\r\n\r\n.b\r\n",
	"Subject: stays\r\n\r\n\r\n.\r\n",
}

// broken is a violated guarantee.
type broken struct{ what string }

func (b *broken) Error() string { return "BROKEN PROMISE: " + b.what }

func brokenf(format string, args ...any) error { return &broken{fmt.Sprintf(format, args...)} }

// talk is one session with every kind of command on the maildrop of texts, deleting all but the last message.
type talk struct {
	open   func() (*pop3.Client, error)
	user   string
	secret string
	done   func(step string) error // called after each completed step
	noop   string                  // the server's response to NOOP; if "", any

	quit bool // QUIT was called
}

// run continues until the first error, which it returns. An error other than *broken is due to the connection.
func (k *talk) run() error {
	c, err := k.open()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := k.work(c); err != nil {
		var no *pop3.ServerError
		if errors.As(err, new(*broken)) || errors.As(err, &no) || errors.Is(err, pop3.ErrInsecureLogin) {
			return err
		}
		if later := c.Noop(background); !errors.Is(later, pop3.ErrClosed) {
			return brokenf("after %v NOOP says %v, want ErrClosed", err, later)
		}
		if _, later := c.Retr(background, 1); !errors.Is(later, pop3.ErrClosed) {
			return brokenf("after %v RETR says %v, want ErrClosed", err, later)
		}
		return err
	}
	return nil
}

func (k *talk) work(c *pop3.Client) error {
	ctx := background
	if err := k.done("greeting"); err != nil {
		return err
	}
	if err := c.Login(ctx, k.user, k.secret); err != nil {
		return err
	}
	if err := k.done("login"); err != nil {
		return err
	}
	var total int64
	for _, text := range texts {
		total += int64(len(text))
	}
	if err := k.stat(c, len(texts), total); err != nil {
		return err
	}
	uids, err := k.uidl(c)
	if err != nil {
		return err
	}
	if err := k.listAndRetr(c); err != nil {
		return err
	}
	for i, text := range texts {
		size, err := c.Size(ctx, i+1)
		if err == nil && size != int64(len(text)) {
			err = brokenf("LIST %d: %d, want %d", i+1, size, len(text))
		}
		if err = k.answered("LIST n", err); err != nil {
			return err
		}
		uid, err := c.UID(ctx, i+1)
		if err == nil && uid != uids[i] {
			err = brokenf("UIDL %d: %q, want %q", i+1, uid, uids[i])
		}
		if err = k.answered("UIDL n", err); err != nil {
			return err
		}
	}
	m, err := c.Top(ctx, 1, 1)
	if err := k.message("TOP", m, err, "Subject: one\r\n\r\nfirst\r\n"); err != nil {
		return err
	}
	n := 0
	for m, err := range c.RetrAll(ctx, []int{1, 2, 3, 4}) {
		if err := k.message("RetrAll", m, err, texts[n]); err != nil {
			return err
		}
		n++
	}
	if n != len(texts) {
		return brokenf("RetrAll ended without an error after %d messages", n)
	}
	_, err = c.Retr(ctx, 99)
	if err := k.refused("RETR 99", err); err != nil {
		return err
	}
	if m, err = c.Retr(ctx, 2); err != nil {
		return err
	}
	piece := make([]byte, 3)
	if _, err := io.ReadFull(m, piece); err != nil || string(piece) != texts[1][:3] {
		if err == nil {
			err = brokenf("RETR 2 begins with %q", piece)
		}
		return err
	}
	if err := k.answered("Close", m.Close()); err != nil {
		return err
	}
	if err := k.answered("DeleAll", c.DeleAll(ctx, []int{1, 3})); err != nil {
		return err
	}
	if err := k.answered("DELE", c.Dele(ctx, 2)); err != nil {
		return err
	}
	if err := k.refused("DELE again", c.Dele(ctx, 2)); err != nil {
		return err
	}
	text, err := c.Cmd(ctx, "NOOP")
	if err == nil && k.noop != "" && text != k.noop {
		err = brokenf("NOOP says %q, want %q", text, k.noop)
	}
	if err := k.answered("NOOP", err); err != nil {
		return err
	}
	if err := k.stat(c, 1, int64(len(texts[3]))); err != nil {
		return err
	}
	k.quit = true
	return k.answered("QUIT", c.Quit(ctx))
}

func (k *talk) answered(step string, err error) error {
	if err != nil {
		return err
	}
	return k.done(step)
}

// refused checks for a *ServerError.
func (k *talk) refused(step string, err error) error {
	var no *pop3.ServerError
	if err == nil {
		return brokenf("%s: no error", step)
	}
	if !errors.As(err, &no) {
		return err
	}
	return k.done(step)
}

func (k *talk) stat(c *pop3.Client, count int, size int64) error {
	n, octets, err := c.Stat(background)
	if err == nil && (n != count || octets != size) {
		err = brokenf("STAT says %d %d, want %d %d", n, octets, count, size)
	}
	return k.answered("STAT", err)
}

func (k *talk) uidl(c *pop3.Client) (uids []string, err error) {
	l, err := c.UIDL(background)
	if err != nil {
		return nil, err
	}
	for u := range l.C() {
		uids = append(uids, u.ID)
		if u.Number != len(uids) {
			return nil, brokenf("UIDL: number %d, want %d", u.Number, len(uids))
		}
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	if len(uids) != len(texts) {
		return nil, brokenf("UIDL: complete with %d entries", len(uids))
	}
	return uids, k.done("UIDL")
}

// listAndRetr retrieves each message inside the loop over the listing.
func (k *talk) listAndRetr(c *pop3.Client) error {
	l, err := c.List(background)
	if err != nil {
		return err
	}
	n := 0
	for e, err := range l.All() {
		if err != nil {
			return err
		}
		if e.Number != n+1 || e.Size != int64(len(texts[n])) {
			return brokenf("LIST: %v", e)
		}
		m, err := c.Retr(background, e.Number)
		if err := k.message("RETR", m, err, texts[n]); err != nil {
			return err
		}
		n++
	}
	if n != len(texts) {
		return brokenf("LIST: complete with %d entries", n)
	}
	return nil
}

// message checks that a message is complete, or a prefix of it with an error.
func (k *talk) message(step string, m *pop3.Message, err error, want string) error {
	if err != nil {
		return err
	}
	got, err := io.ReadAll(m)
	if err == nil && string(got) != want || !strings.HasPrefix(want, string(got)) {
		return brokenf("%s %d reads %q, %v; want %q", step, m.Number, got, err, want)
	}
	return k.answered(step, err)
}

// becauseOf reports whether a fault of this kind may cause err.
func becauseOf(k kind, err error) bool {
	if errors.Is(err, io.EOF) || errors.As(err, new(*broken)) || errors.As(err, new(*pop3.ServerError)) || errors.Is(err, pop3.ErrBusy) {
		return false
	}
	if k == inject {
		return true
	}
	if errors.As(err, new(*pop3.ProtocolError)) {
		return false
	}
	switch k {
	case stall, lose:
		return errors.Is(err, os.ErrDeadlineExceeded)
	case cut, reset, halfClose:
		return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pop3.ErrClosed)
	}
	return false
}

// agrees checks the remaining messages against the result of QUIT.
func agrees(left, all []string, quit bool, err error) error {
	kept := slices.Equal(left, all)
	committed := slices.Equal(left, all[len(all)-1:])
	switch {
	case !quit && !kept:
		return brokenf("QUIT was not called, and %v of %v is left", left, all)
	case quit && err == nil && !committed:
		return brokenf("QUIT said nil, and %v of %v is left", left, all)
	case !kept && !committed:
		return brokenf("half committed: %v of %v is left", left, all)
	}
	return nil
}

// connections is a Dialer that keeps references to its connections. Otherwise the garbage collector could close leaked
// ones before the descriptors are counted.
type connections struct {
	mu   sync.Mutex
	made []net.Conn
}

func (d *connections) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.made = append(d.made, conn)
	}
	return conn, err
}

// left returns how many are still open. A goroutine that met the end of a session may take a moment to close one.
func (d *connections) left() (open int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	limit := time.Now().Add(10 * time.Second)
	for _, conn := range d.made {
		for conn.SetDeadline(time.Time{}) == nil {
			if time.Now().After(limit) {
				open++
				break
			}
			runtime.Gosched()
		}
	}
	return open
}

// nothingLeft checks that no goroutine or descriptor of the test is left.
func nothingLeft(t *testing.T, goroutines, descriptors int) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		g, d := runtime.NumGoroutine(), openDescriptors()
		if g <= goroutines && d <= descriptors {
			return
		}
		if time.Now().After(limit) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines and %d descriptors, %d and %d before\n%s", g, d, goroutines, descriptors, buf[:runtime.Stack(buf, true)])
		}
	}
}

func openDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not available on this system
	}
	return len(entries)
}
