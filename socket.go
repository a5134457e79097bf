package pop3

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// How long a session must have been idle for a look at what has arrived. Where that takes a wait, it is not worth one
// between commands that follow each other closely; where it takes a system call, that is a tenth of a round trip on loopback.
const (
	lookPause = 100 * time.Microsecond
	waitPause = 10 * time.Millisecond
	probeWait = time.Millisecond
)

// socket is the connection below TLS. It bounds each wait for the peer, and can read without waiting.
type socket struct {
	net.Conn
	timeout  time.Duration // longest wait in one Read or Write; not positive: none
	readBy   time.Time     // the deadlines that are set
	writeBy  time.Time
	probing  bool        // Read takes what is there and does not wait
	patient  bool        // Write waits for ever: the peer may have to wait for our reading first
	watchdog *time.Timer // closes the socket in a guarded wait for the writer; nil while there is no patient one
	timeless bool        // deadlines are not supported (a channel of golang.org/x/crypto/ssh)

	raw  syscall.RawConn // nil where looking takes a wait
	look func(fd uintptr) bool
	into []byte
	n    int
	err  error
}

func newSocket(nc net.Conn, timeout time.Duration) *socket {
	s := &socket{Conn: nc, timeout: timeout, timeless: nc.SetReadDeadline(time.Time{}) != nil} // which sets none
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn: // and nothing that embeds one: its Read may be another
		raw, err := nc.(syscall.Conn).SyscallConn()
		if err != nil || !canReadNow {
			break
		}
		s.raw = raw
		s.look = func(fd uintptr) bool {
			s.n, s.err = readNow(fd, s.into)
			return true
		}
	}
	return s
}

// worthProbing reports whether something may have arrived in so long a pause that is worth the look.
func (s *socket) worthProbing(pause time.Duration) bool {
	if s.raw == nil {
		return pause >= waitPause
	}
	return pause >= lookPause
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.read(p)
	if n > 0 {
		s.guard()
	}
	return n, err
}

// Setting a deadline costs a tenth of a round trip on loopback. So one is moved only when half of it is used up, and a
// timeout that comes before its time is waited out.
func (s *socket) read(p []byte) (int, error) {
	switch {
	case s.probing:
		return s.readNow(p)
	case s.timeout <= 0:
		return s.Conn.Read(p)
	case s.timeless:
		return s.closingAfter(s.Conn.Read, p)
	}
	for due := time.Now().Add(s.timeout); ; {
		if due.Sub(s.readBy) > s.timeout/2 {
			s.readBy = due
			s.Conn.SetReadDeadline(due)
		}
		n, err := s.Conn.Read(p)
		if n > 0 || !early(err, s.readBy, due) {
			return n, err
		}
		s.readBy = time.Time{}
	}
}

func (s *socket) Write(p []byte) (int, error) {
	if s.timeout <= 0 || s.patient {
		return s.Conn.Write(p)
	}
	if s.timeless {
		return s.closingAfter(s.Conn.Write, p)
	}
	written := 0
	for due := time.Now().Add(s.timeout); ; {
		if due.Sub(s.writeBy) > s.timeout/2 {
			s.writeBy = due
			s.Conn.SetWriteDeadline(due)
		}
		n, err := s.Conn.Write(p[written:])
		if written += n; !early(err, s.writeBy, due) {
			return written, err
		}
		s.writeBy = time.Time{}
	}
}

// closingAfter bounds a Read or Write where there are no deadlines. A timeout is the end of the session anyway.
func (s *socket) closingAfter(do func([]byte) (int, error), p []byte) (int, error) {
	timer := time.AfterFunc(s.timeout, func() { s.Close() })
	n, err := do(p)
	if !timer.Stop() && err != nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// Close closes at once: it goes below TLS, whose Close may wait for the peer. It may come from any goroutine.
func (s *socket) Close() error {
	if t, ok := s.Conn.(*tls.Conn); ok {
		return t.NetConn().Close()
	}
	return s.Conn.Close()
}

// early reports whether err is the timeout of a deadline that was set for an earlier wait than the one until due.
func early(err error, set, due time.Time) bool {
	return err != nil && errors.Is(err, os.ErrDeadlineExceeded) && set.Before(due)
}

// waitForever lets writes wait without end, or no longer.
func (s *socket) waitForever(on bool) {
	s.patient, s.watchdog = on, nil
	if on && s.timeout > 0 {
		s.watchdog = time.AfterFunc(s.timeout, func() { s.Close() })
		s.watchdog.Stop()
	}
	s.writeBy = time.Time{}
	s.Conn.SetWriteDeadline(time.Time{})
}

// guard bounds a wait for a write that waits without end itself. It counts anew from each octet that comes.
func (s *socket) guard() {
	if s.watchdog != nil {
		s.watchdog.Reset(s.timeout)
	}
}

// unguard ends the wait, and returns what became of it.
func (s *socket) unguard(err error) error {
	if s.watchdog != nil && !s.watchdog.Stop() && err != nil {
		return os.ErrDeadlineExceeded
	}
	return err
}

// readNow says os.ErrDeadlineExceeded where nothing has arrived, which crypto/tls takes for a passing error.
func (s *socket) readNow(p []byte) (int, error) {
	if s.timeless {
		return 0, os.ErrDeadlineExceeded
	}
	if s.raw == nil {
		s.readBy = time.Time{}
		s.Conn.SetReadDeadline(time.Now().Add(probeWait))
		n, err := s.Conn.Read(p)
		s.Conn.SetReadDeadline(time.Time{})
		return n, err
	}
	if !s.readBy.IsZero() && !time.Now().Before(s.readBy) { // a deadline that has passed would keep the socket from being looked at
		s.readBy = time.Time{}
		s.Conn.SetReadDeadline(time.Time{})
	}
	s.into = p
	err := s.raw.Read(s.look)
	s.into = nil
	switch {
	case err != nil:
		return 0, err
	case s.err == errNothingYet:
		return 0, os.ErrDeadlineExceeded
	case s.err != nil:
		return 0, os.NewSyscallError("read", s.err)
	case s.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return s.n, nil
}
