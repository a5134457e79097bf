//go:build unix

package pop3

import "syscall"

const canReadNow = true

var errNothingYet error = syscall.EAGAIN

func readNow(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err == syscall.EWOULDBLOCK {
			err = syscall.EAGAIN
		}
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
