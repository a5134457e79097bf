//go:build unix

package fetch

import (
	"errors"
	"os"
	"syscall"
)

// syncDir makes the names in a folder durable. Some network file systems cannot do that, and have no error for it but EINVAL.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err = d.Sync(); errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
