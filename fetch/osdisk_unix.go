//go:build unix

package fetch

import (
	"errors"
	"os"
	"syscall"
)

// Package os does more than a disk needs: on each open it asks whether the file can be polled, in five system calls, and on each
// rename whether the new name is that of a folder.

func openFile(name string, flag int) (diskFile, error) {
	for {
		fd, err := syscall.Open(name, flag|syscall.O_CLOEXEC, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != syscall.EINTR {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

func rename(from, to string) error {
	for {
		err := syscall.Rename(from, to)
		if err == nil {
			return nil
		}
		if err != syscall.EINTR {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
	}
}

// openDir opens a folder to make the names in it durable.
func openDir(name string) (diskDir, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return syncedDir{d}, nil
}

type syncedDir struct{ *os.File }

// Sync ignores that some network file systems cannot do it, for which they have no error but EINVAL.
func (d syncedDir) Sync() error {
	err := d.File.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
