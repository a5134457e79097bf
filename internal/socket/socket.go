// Package socket limits each wait for the peer of a connection, and reads data that has arrived without waiting for
// more.
package socket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// maxProbeWait limits the wait for data that has arrived below TLS.
const maxProbeWait = time.Second

// probeWait is how long a probe waits for a Read that it had to start in a goroutine.
const probeWait = time.Millisecond

// Conn is a connection whose Reads and Writes are bounded by a timeout each. One goroutine may read while another writes;
// Close may come from any.
//
// A TCP or Unix connection is read and written by system calls that never block the thread, so that Close and deadlines also
// work if its descriptor has been put into blocking mode, as [net.TCPConn.File] followed by [os.File.Fd] does. Any other
// connection is used through its methods, and is closed if its deadlines do not end a Read or Write in time.
type Conn struct {
	net.Conn
	timeout     time.Duration // longest wait in one Read or Write; none if not positive
	noDeadlines bool          // deadlines are not supported (a channel of golang.org/x/crypto/ssh)
	raw         *rawConn      // nil if the methods of Conn must be used
	below       *rawConn      // the socket below a TLS connection of the caller's, or nil
	closing     sync.Once
	closed      chan struct{} // closed by Close

	readBy, writeBy time.Time // the deadlines that are set, if raw is not nil

	probing      bool        // Read takes only the data that has arrived
	ahead        *readAhead  // a Read that outlasted a probe; nil if there is none
	unboundWrite bool        // Write has no limit, since the peer may have to wait for our reading first
	watchdog     *time.Timer // closes the connection if nothing is read while an unbound Write is waited for
}

// New takes over nc and clears its deadlines. A timeout that is not positive sets no limit.
func New(nc net.Conn, timeout time.Duration) *Conn {
	c := &Conn{Conn: nc, timeout: timeout, noDeadlines: nc.SetDeadline(time.Time{}) != nil, closed: make(chan struct{})}
	switch nc := nc.(type) {
	case *net.TCPConn, *net.UnixConn: // not a type that embeds one: its Read may be another
		c.raw = newRawConn(nc)
	case *tls.Conn:
		switch below := nc.NetConn().(type) {
		case *net.TCPConn, *net.UnixConn:
			c.below = newRawConn(below)
		}
	}
	return c
}

// Probe sets whether Read takes only the data that has arrived. It then returns [os.ErrDeadlineExceeded] if there is none,
// which crypto/tls takes for a temporary error.
func (c *Conn) Probe(on bool) { c.probing = on }

// Read reads data that has arrived, waiting for it at most as long as the timeout, or not at all while probing.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if n > 0 {
		c.StartWatchdog()
	}
	return n, err
}

func (c *Conn) read(p []byte) (int, error) {
	switch {
	case c.probing && c.raw != nil:
		return c.probeRaw(p)
	case c.probing && c.below != nil:
		return c.probeTLS(p)
	case c.probing:
		return c.probe(p)
	case c.ahead != nil:
		return c.await(p)
	case c.raw == nil:
		c.setDeadline(c.Conn.SetReadDeadline)
		return c.bound(c.Conn.Read, p)
	case c.timeout <= 0:
		return c.raw.read(p, true)
	}
	// Setting a deadline costs a tenth of a round trip on loopback. A deadline is therefore extended only after half of it
	// has elapsed, and a timeout that fires early because of this is retried.
	for due := time.Now().Add(c.timeout); ; {
		if due.Sub(c.readBy) > c.timeout/2 {
			c.readBy = due
			c.Conn.SetReadDeadline(due)
		}
		n, err := c.raw.read(p, true)
		if n > 0 || !early(err, c.readBy, due) {
			return n, err
		}
		c.readBy = time.Time{}
	}
}

// Write writes p, waiting for the peer at most as long as the timeout, unless writes are unbound.
func (c *Conn) Write(p []byte) (int, error) {
	switch {
	case c.raw == nil && c.unboundWrite:
		return c.Conn.Write(p)
	case c.raw == nil:
		c.setDeadline(c.Conn.SetWriteDeadline)
		return c.bound(c.Conn.Write, p)
	case c.timeout <= 0 || c.unboundWrite:
		return c.raw.write(p)
	}
	written := 0
	for due := time.Now().Add(c.timeout); ; {
		if due.Sub(c.writeBy) > c.timeout/2 {
			c.writeBy = due
			c.Conn.SetWriteDeadline(due)
		}
		n, err := c.raw.write(p[written:])
		if written += n; !early(err, c.writeBy, due) {
			return written, err
		}
		c.writeBy = time.Time{}
	}
}

// early reports whether err is the timeout of a deadline that was set for an earlier wait than the one until due.
func early(err error, set, due time.Time) bool {
	return err != nil && errors.Is(err, os.ErrDeadlineExceeded) && set.Before(due)
}

// setDeadline sets a deadline before each Read or Write: a connection such as a [tls.Conn] keeps a write timeout for good,
// so none may fire early.
func (c *Conn) setDeadline(set func(time.Time) error) {
	if c.timeout > 0 && !c.noDeadlines {
		set(time.Now().Add(c.timeout))
	}
}

// bound limits a Read or Write of a connection whose deadlines are missing or cannot be relied on, by closing it.
func (c *Conn) bound(do func([]byte) (int, error), p []byte) (int, error) {
	if c.timeout <= 0 {
		return do(p)
	}
	limit := c.timeout
	if !c.noDeadlines {
		limit += c.timeout / 4 // the deadline comes first if it works
	}
	timer := time.AfterFunc(limit, func() { c.Close() })
	n, err := do(p)
	if !timer.Stop() && err != nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// Close closes the connection without waiting for the peer: below TLS, whose own Close may wait. A panic of the connection's Close is
// returned as an error, since Close is also called in goroutines where no caller could recover it.
func (c *Conn) Close() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the connection's Close panicked: %v", v)
		}
	}()
	c.closing.Do(func() { close(c.closed) })
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return c.Conn.Close()
	}
	below := t.NetConn()
	if s, ok := below.(interface {
		CloseRead() error
		CloseWrite() error
	}); ok {
		// If the descriptor is in blocking mode, its Close would wait for a Read or Write in progress.
		s.CloseRead()
		s.CloseWrite()
	}
	return below.Close()
}

// UnboundWrites sets whether a Write may wait for the peer without limit. StartWatchdog then limits the wait.
func (c *Conn) UnboundWrites(on bool) {
	c.unboundWrite, c.watchdog = on, nil
	if on && c.timeout > 0 {
		c.watchdog = time.AfterFunc(c.timeout, func() { c.Close() })
		c.watchdog.Stop()
	}
	c.writeBy = time.Time{}
	c.Conn.SetWriteDeadline(time.Time{})
}

// StartWatchdog limits a wait for an unbound Write. Each Read that returns data restarts it.
func (c *Conn) StartWatchdog() {
	if c.watchdog != nil {
		c.watchdog.Reset(c.timeout)
	}
}

// StopWatchdog ends the wait. It returns err, or a timeout if the watchdog caused err.
func (c *Conn) StopWatchdog(err error) error {
	if c.watchdog != nil && !c.watchdog.Stop() && err != nil {
		return os.ErrDeadlineExceeded
	}
	return err
}

// probeRaw reads the data that the kernel has received.
func (c *Conn) probeRaw(p []byte) (int, error) {
	if !c.readBy.IsZero() && !time.Now().Before(c.readBy) { // a deadline in the past would prevent the system call
		c.readBy = time.Time{}
		c.Conn.SetReadDeadline(time.Time{})
	}
	return c.raw.read(p, false)
}

// A readAhead is a Read in a separate goroutine. It may block for any time, also if the connection ignores its
// deadlines.
type readAhead struct {
	done chan struct{} // closed when the fields below are set
	buf  [2048]byte
	data []byte // of buf, not yet taken
	err  error
}

// probe reads data that has arrived at a connection whose only means is a blocking Read. The Read continues if there is
// no data yet.
func (c *Conn) probe(p []byte) (int, error) {
	if c.ahead == nil {
		c.startAhead()
	}
	return c.takeWithin(probeWait, p)
}

// probeTLS reads data that has arrived at a TLS connection over a socket. On a busy machine a Read in a goroutine may not
// even begin within probeWait, so that one is started only if there is something for it to read, and then waited for.
func (c *Conn) probeTLS(p []byte) (int, error) {
	switch {
	case c.ahead == nil:
		// With a deadline in the past, Read returns the data that TLS has buffered, and nothing of the socket.
		c.Conn.SetReadDeadline(time.Unix(1, 0))
		n, err := c.Conn.Read(p)
		c.Conn.SetReadDeadline(time.Time{})
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if !c.below.pending() {
			return 0, os.ErrDeadlineExceeded
		}
		c.startAhead()
	case !c.below.pending(): // a part of a record has been read
		return c.takeWithin(0, p)
	}
	return c.takeWithin(maxProbeWait, p)
}

// startAhead starts a Read in a goroutine.
func (c *Conn) startAhead() {
	c.ahead = &readAhead{done: make(chan struct{})}
	if c.timeout > 0 && !c.noDeadlines {
		c.Conn.SetReadDeadline(time.Time{}) // await has its own limit
	}
	go c.ahead.read(c.Conn)
}

// takeWithin is take if the Read returns within a time.
func (c *Conn) takeWithin(limit time.Duration, p []byte) (int, error) {
	if !c.arrived() && limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-c.ahead.done:
		case <-timer.C:
		}
	}
	if c.arrived() { // also if both were ready
		return c.take(p)
	}
	return 0, os.ErrDeadlineExceeded
}

func (a *readAhead) read(r io.Reader) {
	returned := false
	defer func() {
		if !returned {
			recover() // the panic of a connection's Read, in a goroutine that no caller could protect
			a.err = errors.New("the connection's Read panicked")
		}
		close(a.done)
	}()
	var n int
	n, a.err = r.Read(a.buf[:])
	a.data = a.buf[:n]
	returned = true
}

// await waits for the Read that a probe started.
func (c *Conn) await(p []byte) (int, error) {
	var timeout <-chan time.Time
	if c.timeout > 0 {
		timer := time.NewTimer(c.timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-c.ahead.done:
	case <-c.closed: // also if that does not end the Read
		return 0, net.ErrClosed
	case <-timeout: // the Read ends when the caller closes the connection
		return 0, os.ErrDeadlineExceeded
	}
	n, err := c.take(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return c.read(p) // an earlier deadline of the connection
	}
	return n, err
}

// take returns the result of the Read that a probe started.
func (c *Conn) take(p []byte) (int, error) {
	a := c.ahead
	n := copy(p, a.data)
	if a.data = a.data[n:]; len(a.data) > 0 {
		return n, nil
	}
	c.ahead = nil
	return n, a.err
}

// arrived reports whether the Read that a probe started has returned.
func (c *Conn) arrived() bool {
	select {
	case <-c.ahead.done:
		return true
	default:
		return false
	}
}
