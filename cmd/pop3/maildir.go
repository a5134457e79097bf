package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A maildir is a folder with one file a message, as qmail invented it: written
// to tmp, then renamed into new, so that nobody ever sees half a message.
type maildir struct {
	dir  string
	host string // as it stands in file names
	sync bool   // write every message through to the disk
}

// openMaildir opens a Maildir, and makes it unless something else is there. The
// folder that it is in must exist.
func openMaildir(dir string) (*maildir, error) {
	dir = filepath.Clean(dir)
	folders := []string{"cur", "new", "tmp"}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		for _, folder := range folders {
			if info, err := os.Stat(filepath.Join(dir, folder)); err != nil || !info.IsDir() {
				return nil, fmt.Errorf("%s is not empty and no Maildir: it has no folder %q", dir, folder)
			}
		}
	}
	for _, folder := range append([]string{""}, folders...) {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	host = strings.NewReplacer("/", `\057`, ":", `\072`).Replace(host)
	return &maildir{dir: dir, host: host, sync: true}, nil
}

// deliver stores a message, all of it or none, and returns its size. What it
// writes goes to progress too.
func (d *maildir) deliver(m io.WriterTo, progress io.Writer) (size int64, err error) {
	now := time.Now()
	name := fmt.Sprintf("%d.M%dP%dR%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), rand.Text(), d.host)
	tmp := filepath.Join(d.dir, "tmp", name)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()
	if size, err = m.WriteTo(io.MultiWriter(f, progress)); err != nil {
		return size, err
	}
	if d.sync {
		if err = f.Sync(); err != nil {
			return size, err
		}
	}
	if err = f.Close(); err != nil {
		return size, err
	}
	return size, os.Rename(tmp, filepath.Join(d.dir, "new", name))
}

// commit writes the names of what was delivered through to the disk, and those
// of the folders, which may be new.
func (d *maildir) commit() error {
	if runtime.GOOS == "windows" { // where a folder cannot be synced
		return nil
	}
	parent := filepath.Dir(d.dir)
	for _, folder := range []string{filepath.Join(d.dir, "new"), d.dir, parent} {
		f, err := os.Open(folder)
		if folder == parent && errors.Is(err, fs.ErrPermission) {
			continue // not the user's to read
		}
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
