//go:build !unix

package fetch

// openDir returns a folder that cannot be synced here.
func openDir(string) (diskDir, error) { return unsyncedDir{}, nil }

type unsyncedDir struct{}

func (unsyncedDir) Sync() error  { return nil }
func (unsyncedDir) Close() error { return nil }
