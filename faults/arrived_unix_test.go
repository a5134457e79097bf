//go:build unix

package faults

import (
	"net"
	"runtime"
	"syscall"
)

const canSeeArrivals = true

// arrived returns when n unread bytes have arrived.
func arrived(conn *net.TCPConn, octets int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, octets)
	for here := 0; here < octets; runtime.Gosched() {
		raw.Control(func(fd uintptr) {
			here, _, err = syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		})
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR || err == nil && here == 0 {
			return
		}
	}
}
