package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// lockTimeout is how long Open waits for another process to close the file.
const lockTimeout = 250 * time.Millisecond

// Open opens the state file of an account. It creates the file, with mode 0600, if it does not exist, and the folder that contains
// it, with mode 0700. If account is empty, the file must exist, and may be that of any account.
//
// The file stays locked until Close, or until the process ends. If it is locked by another Store, here or in another process, the
// error wraps fetch.ErrLocked. Other errors wrap ErrDamaged, ErrNewer, ErrAccount, or an error of the operating system. Nothing is
// written to a file that Open has refused.
func Open(path, account string) (*Store, error) {
	s, err := open(path, account)
	if err != nil {
		return nil, fileError(path, err)
	}
	return s, nil
}

func open(path, account string) (*Store, error) {
	for range 3 {
		info, err := os.Lstat(path)
		switch {
		case err == nil:
			return openExisting(path, account, info)
		case !errors.Is(err, fs.ErrNotExist) || account == "":
			return nil, err
		}
		if err := create(path, account); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("vanishes when it is created")
}

func openExisting(path, account string, info fs.FileInfo) (*Store, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is %s", ErrDamaged, fileType(info.Mode()))
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrDamaged) // bbolt would begin it again
	}
	s := &Store{path: path}
	db, file, err := openDB(path)
	if err != nil {
		return nil, err
	}
	s.db, s.file = db, file
	panicked, err := guard(func() error { return db.View(func(tx *bbolt.Tx) error { return s.check(tx, account) }) })
	if err != nil {
		if panicked {
			abandon(s.file)
		} else {
			db.Close()
		}
		return nil, err
	}
	removeUnfinished(path)
	if err := syncNames(path); err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

func fileType(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	default:
		return "not a regular file"
	}
}

// openDB opens the file, and returns the bbolt.DB and its file.
func openDB(path string) (db *bbolt.DB, file *os.File, err error) {
	options := *bbolt.DefaultOptions
	options.Timeout = lockTimeout
	options.NoStatistics = true
	options.FreelistType = bbolt.FreelistMapType
	options.OpenFile = func(name string, flag int, perm fs.FileMode) (f *os.File, err error) {
		file, err = os.OpenFile(name, flag&^os.O_CREATE, perm)
		return file, err
	}
	panicked, err := guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &options)
		return err
	})
	var perr *fs.PathError
	var serr *os.SyscallError
	var errno syscall.Errno
	switch {
	case panicked:
		abandon(file)
	case err == nil, errors.As(err, &perr), errors.As(err, &serr), errors.As(err, &errno):
	case errors.Is(err, berrors.ErrTimeout):
		err = fetch.ErrLocked
	case errors.Is(err, berrors.ErrVersionMismatch):
		err = fmt.Errorf("%w: %v", ErrNewer, err)
	default: // bbolt has found something wrong
		err = fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return db, file, err
}

// abandon closes the file of a bbolt.DB that has panicked. DB.Close could block, because a mutex may still be locked.
func abandon(file *os.File) {
	unlock(file) // the memory map keeps the file open
	file.Close()
}

// check compares the format and the account of the file, and checks its structure.
func (s *Store) check(tx *bbolt.Tx, account string) error {
	if err := checkRoot(tx); err != nil {
		return err
	}
	if err := checkPages(tx); err != nil {
		return err
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("%w: it has no format version", ErrDamaged)
	}
	version, err := strconv.Atoi(string(meta.Get(versionKey)))
	switch {
	case err != nil || version < 1:
		return fmt.Errorf("%w: it has no valid format version", ErrDamaged)
	case version > formatVersion:
		return fmt.Errorf("%w: it has format %d, and this version reads formats up to %d", ErrNewer, version, formatVersion)
	}
	if s.account = string(meta.Get(accountKey)); s.account == "" {
		return fmt.Errorf("%w: it names no account", ErrDamaged)
	}
	if account != "" && s.account != account {
		return fmt.Errorf("%w, %q; not %q", ErrAccount, s.account, account)
	}
	if _, err := readHeader(tx); err != nil {
		return err
	}
	for _, name := range [][]byte{recordsBucket, journalBucket} {
		if err := checkTree(tx, name, s.file); err != nil {
			return err
		}
	}
	return nil
}

// guard runs fn and returns a panic as an error. bbolt panics if it meets a damaged page, and a page that the file does not have
// is a fault of its memory map. fn must not call code of a caller of this package.
func guard(fn func() error) (panicked bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			panicked, err = true, fmt.Errorf("%w: %v", ErrDamaged, v)
		}
	}()
	return false, fn()
}

// unfinished is the pattern of files that create has not finished.
func unfinished(path, random string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new-"+random)
}

// create makes a new file. It is complete before it has its name, so that an interruption leaves no empty or partial one. If
// another process makes the same file at the same time, one of the two remains.
func create(path, account string) error {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(unfinished(path, "*"))) // with mode 0600
	if err != nil {
		return err
	}
	name := f.Name()
	defer os.Remove(name)
	if err := f.Close(); err != nil {
		return err
	}
	db, file, err := openDB(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process has made the file, and has removed this one
	}
	if err != nil {
		return err
	}
	defer file.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		for _, name := range [][]byte{recordsBucket, journalBucket} {
			if _, err = tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err = meta.Put(versionKey, strconv.AppendInt(nil, formatVersion, 10)); err != nil {
			return err
		}
		if err = meta.Put(accountKey, []byte(account)); err != nil {
			return err
		}
		return writeHeader(tx, header{})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	switch err := os.Link(name, path); { // does not replace a file
	case err == nil, errors.Is(err, fs.ErrExist):
	case errors.Is(err, fs.ErrNotExist):
		return nil // as above
	default: // no hard links in this file system
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
		if err := os.Rename(name, path); err != nil {
			return err
		}
	}
	return nil
}

// makeDir creates a folder and its parents, as far as they do not exist, durably.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncNames makes the names of the file and of its folder durable, which an earlier process may not have come to. A file that is lost
// after a power failure would have everything fetched again.
func syncNames(path string) error {
	dir := filepath.Dir(path)
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// removeUnfinished removes the files that an interrupted create has left. The file at path is locked, so it exists.
func removeUnfinished(path string) {
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if name := filepath.Join(filepath.Dir(path), e.Name()); strings.HasPrefix(name, unfinished(path, "")) {
			os.Remove(name)
		}
	}
}
