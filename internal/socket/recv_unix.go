//go:build unix && !aix

package socket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// A rawConn reads and writes by system calls that do not block, whatever the mode of the descriptor, and waits in the
// runtime's poller. Its functions are made once, so that a Read or Write allocates nothing.
type rawConn struct {
	net.Conn
	raw syscall.RawConn

	recv func(fd uintptr) bool
	in   []byte
	wait bool // for data to arrive
	n    int
	rerr error

	send func(fd uintptr) bool
	out  []byte
	sent int
	werr error
}

func newRawConn(nc net.Conn) *rawConn {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawConn{Conn: nc, raw: raw}
	r.recv = func(fd uintptr) bool {
		for {
			r.n, _, r.rerr = syscall.Recvfrom(int(fd), r.in, syscall.MSG_DONTWAIT)
			switch r.rerr {
			case syscall.EINTR:
				continue
			case syscall.EAGAIN:
				return !r.wait
			}
			raceAcquire(fd)
			return true
		}
	}
	r.send = func(fd uintptr) bool {
		raceRelease(fd)
		for r.sent < len(r.out) {
			n, err := syscall.SendmsgN(int(fd), r.out[r.sent:], nil, nil, syscall.MSG_DONTWAIT)
			switch err {
			case nil:
				r.sent += n
			case syscall.EINTR:
			case syscall.EAGAIN:
				return false
			default:
				r.werr = err
				return true
			}
		}
		return true
	}
	return r
}

// read returns os.ErrDeadlineExceeded if nothing has arrived and it is not to wait.
func (r *rawConn) read(p []byte, wait bool) (int, error) {
	r.in, r.wait, r.rerr = p, wait, nil
	err := r.raw.Read(r.recv)
	r.in = nil
	switch {
	case err != nil:
		return 0, err
	case r.rerr == syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case r.rerr != nil:
		return 0, r.wrap("read", "recvfrom", r.rerr)
	case r.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// pending reports whether a Read would return at once, with data or an error.
func (r *rawConn) pending() bool {
	var err error
	closed := r.raw.Control(func(fd uintptr) {
		for {
			_, _, err = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err != syscall.EINTR {
				return
			}
		}
	})
	return closed != nil || err != syscall.EAGAIN
}

func (r *rawConn) write(p []byte) (int, error) {
	r.out, r.sent, r.werr = p, 0, nil
	err := r.raw.Write(r.send)
	r.out = nil
	if err == nil && r.werr != nil {
		err = r.wrap("write", "sendmsg", r.werr)
	}
	return r.sent, err
}

// wrap returns the error that a method of package net would have returned.
func (r *rawConn) wrap(op, call string, err error) error {
	return &net.OpError{Op: op, Net: r.LocalAddr().Network(), Source: r.LocalAddr(), Addr: r.RemoteAddr(), Err: os.NewSyscallError(call, err)}
}
