//go:build !unix

package fetch

import "os"

func openFile(name string, flag int) (diskFile, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func rename(from, to string) error { return os.Rename(from, to) }

// openDir returns a folder that cannot be synced here.
func openDir(string) (diskDir, error) { return unsyncedDir{}, nil }

type unsyncedDir struct{}

func (unsyncedDir) Sync() error  { return nil }
func (unsyncedDir) Close() error { return nil }
