package pop3

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A connection that can only be asked what has arrived by waiting a moment is asked after a pause alone.
const (
	probePause = 50 * time.Millisecond
	probeWait  = time.Millisecond
)

// socket is the connection below TLS. It bounds each wait for the peer, and can read without waiting.
type socket struct {
	net.Conn
	timeout time.Duration // longest wait in one Read or Write; not positive: none
	probing bool          // Read takes what is there and does not wait
	patient bool          // Write waits for ever: the peer may have to wait for our reading first

	raw  syscall.RawConn // nil where the connection has none
	look func(fd uintptr) bool
	into []byte
	n    int
	err  error
}

func newSocket(nc net.Conn, timeout time.Duration) *socket {
	s := &socket{Conn: nc, timeout: timeout}
	if sc, ok := nc.(syscall.Conn); ok && canReadNow {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
			s.look = func(fd uintptr) bool {
				s.n, s.err = readNow(fd, s.into)
				return true
			}
		}
	}
	return s
}

// canProbe reports whether a look at the socket costs next to nothing after so long a pause.
func (s *socket) canProbe(pause time.Duration) bool { return s.raw != nil || pause >= probePause }

func (s *socket) Read(p []byte) (int, error) {
	if s.probing {
		return s.readNow(p)
	}
	if s.timeout > 0 {
		s.Conn.SetReadDeadline(time.Now().Add(s.timeout))
	}
	return s.Conn.Read(p)
}

func (s *socket) Write(p []byte) (int, error) {
	if s.timeout > 0 && !s.patient {
		s.Conn.SetWriteDeadline(time.Now().Add(s.timeout))
	}
	return s.Conn.Write(p)
}

// readNow says os.ErrDeadlineExceeded where nothing has arrived, which crypto/tls takes for a passing error.
func (s *socket) readNow(p []byte) (int, error) {
	if s.raw == nil {
		s.Conn.SetReadDeadline(time.Now().Add(probeWait))
		n, err := s.Conn.Read(p)
		s.Conn.SetReadDeadline(time.Time{})
		return n, err
	}
	s.Conn.SetReadDeadline(time.Time{}) // one that has passed would keep the socket from being looked at
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
