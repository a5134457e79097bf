//go:build !unix || aix || android || solaris

package boltstore

import "os"

// unlock does nothing: closing the file releases the lock.
func unlock(*os.File) {}
