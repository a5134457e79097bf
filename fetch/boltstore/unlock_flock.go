//go:build unix && !aix && !android && !solaris

package boltstore

import (
	"os"
	"syscall"
)

// unlock releases the lock that bbolt has taken.
func unlock(file *os.File) { syscall.Flock(int(file.Fd()), syscall.LOCK_UN) }
