//go:build unix

package fetch

import (
	"errors"
	"os"
	"syscall"
)

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
