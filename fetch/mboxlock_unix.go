//go:build unix

package fetch

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// haveFcntl reports whether fcntlLock excludes other processes.
const haveFcntl = true

// fcntlLock locks a file for writing, or returns errWouldBlock.
func fcntlLock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	ctlErr := conn.Control(func(fd uintptr) {
		for {
			if err = syscall.FcntlFlock(fd, syscall.F_SETLK, &lock); err != syscall.EINTR {
				return
			}
		}
	})
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return errWouldBlock
	}
	return errors.Join(ctlErr, err)
}

// processAlive reports whether there may be a process with this ID.
func processAlive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// noLinks reports whether a link failed because there cannot be one.
func noLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EXDEV)
}
