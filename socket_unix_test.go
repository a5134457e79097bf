//go:build unix && !aix

package pop3

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// awaitData waits until data has arrived at a TCP connection, and leaves it there.
func awaitData(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	must(t, err)
	for n := 0; n <= 0; time.Sleep(time.Millisecond) {
		must(t, raw.Control(func(fd uintptr) {
			n, _, err = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		}))
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			t.Fatal(err)
		}
	}
}
