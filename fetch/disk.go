package fetch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A disk is the part of package os that sinks use. Tests replace it by one that stops at any step, and that loses data that were not
// synced.
type disk interface {
	open(name string, flag int) (diskFile, error) // a new file has mode 0600
	rename(from, to string) error
	link(from, to string) error // does not replace a file
	remove(name string) error
	mkdir(name string) error // with mode 0700
	stat(name string) (fs.FileInfo, error)
	sameFile(a, b fs.FileInfo) bool
	readDir(name string) ([]string, error)
	syncDir(name string) error
	openDir(name string) (diskDir, error)
}

// A diskDir is an open folder of a disk. Its Sync makes the names in it durable, also after the folder was moved elsewhere.
type diskDir interface {
	Sync() error
	Close() error
}

// A diskFile is an open file of a disk.
type diskFile interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// osDisk is the disk of the operating system.
type osDisk struct{}

func (osDisk) open(name string, flag int) (diskFile, error) { return openFile(name, flag) }
func (osDisk) rename(from, to string) error                 { return rename(from, to) }
func (osDisk) link(from, to string) error                   { return os.Link(from, to) }
func (osDisk) remove(name string) error                     { return os.Remove(name) }
func (osDisk) mkdir(name string) error                      { return os.Mkdir(name, 0o700) }
func (osDisk) stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }
func (osDisk) sameFile(a, b fs.FileInfo) bool               { return os.SameFile(a, b) }
func (osDisk) openDir(name string) (diskDir, error)         { return openDir(name) }

func (osDisk) syncDir(name string) error {
	d, err := openDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osDisk) readDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// makeDir creates a folder and its parents, as far as they do not exist, durably.
func makeDir(d disk, name string) error {
	info, err := d.stat(name)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is not a folder", name)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := makeDir(d, parent); err != nil {
			return err
		}
	}
	if err := d.mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncDir(parent)
}

// commitTo moves files into the folder dir with move, and makes their names durable. The folder is opened before, so that files
// which were moved into it are durable even if it is then moved elsewhere. It returns how many files were moved; if their names
// cannot be made durable, they are moved back with undo.
func commitTo(d disk, dir string, staged []Record, move func(Record) error, undo func(Record)) (n int, err error) {
	folder, err := d.openDir(dir)
	if err != nil {
		return 0, err
	}
	defer folder.Close()
	for n < len(staged) && err == nil {
		if err = move(staged[n]); err == nil {
			n++
		}
	}
	if syncErr := folder.Sync(); syncErr != nil {
		for _, r := range staged[:n] { // they are fetched again
			undo(r)
		}
		folder.Sync() // so that no crash brings them back
		return 0, errors.Join(err, syncErr)
	}
	return n, err
}

// inFolder returns the path of a file in a folder. Unlike filepath.Join it does not clean the path, since it is called three times
// per message.
func inFolder(dir, name string) string { return dir + string(filepath.Separator) + name }

// exists reports whether there is a file of this name.
func exists(d disk, name string) (bool, error) {
	_, err := d.stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
