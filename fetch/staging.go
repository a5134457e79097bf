package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// maxUnsynced bounds the files that are open between Stage and Sync.
	maxUnsynced = 128

	// parallelSyncs is how many files are synced at a time. File systems write them together.
	parallelSyncs = 16
)

// A staging holds the messages of one account that are written but not delivered, each in a file of a folder that belongs to this
// account and target alone. It is safe for concurrent use.
type staging struct {
	disk disk
	dir  string
	name func(m Message) string // if not nil, makes up a new name at each call

	mu       sync.Mutex
	unsynced map[string]diskFile
}

// stagingName returns the name of the folder of an account.
func stagingName(prefix, account string) string {
	sum := sha256.Sum256([]byte(account))
	return stagingPrefix(prefix) + hex.EncodeToString(sum[:8])
}

func stagingPrefix(prefix string) string { return "." + prefix + "pop3-" }

// openStaging returns the staging in a folder, which it creates. If intents exist, the folder must exist: that a message is no
// longer in it would otherwise mean that it is delivered.
func openStaging(d disk, dir string, intents int) (*staging, error) {
	found, err := exists(d, dir)
	if err != nil {
		return nil, err
	}
	if !found && intents > 0 {
		return nil, fmt.Errorf("%s has vanished, and with it the messages that were not yet delivered", dir)
	}
	if err := makeDir(d, dir); err != nil {
		return nil, err
	}
	return &staging{disk: d, dir: dir, unsynced: make(map[string]diskFile)}, nil
}

func (s *staging) path(name string) string { return inFolder(s.dir, name) }

// checkName checks that the name of an intent is that of a file of a staging.
func checkName(intent Record) error {
	if intent.Name == "" || filepath.Base(intent.Name) != intent.Name {
		return fmt.Errorf("the state has %q as the name of a file", intent.Name)
	}
	return nil
}

// has reports whether a message is staged.
func (s *staging) has(name string) (bool, error) { return exists(s.disk, s.path(name)) }

// stage writes a message to a new file. The name depends on the time and on the Key. taken reports whether the target has the name.
func (s *staging) stage(m Message, suffix string, taken func(name string) (bool, error), write func(f diskFile) error) (name string, err error) {
	f, name, err := s.create(m, suffix, taken)
	if err != nil {
		return "", err
	}
	complete, path := false, s.path(name) // write may panic
	defer func() {
		if !complete {
			f.Close()
			s.disk.remove(path)
		}
	}()
	if err := write(f); err != nil {
		return "", err
	}
	s.mu.Lock()
	wait := len(s.unsynced) < maxUnsynced
	if wait {
		s.unsynced[name] = f
	}
	s.mu.Unlock()
	if !wait {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return "", err
		}
	}
	complete = true
	return name, nil
}

func (s *staging) create(m Message, suffix string, taken func(name string) (bool, error)) (f diskFile, name string, err error) {
	base := m.Time.UTC().Format("20060102T150405Z") + "." + m.Key.Digest(m.Account)
	for n := 0; ; n++ {
		name = base + suffix
		if n > 0 { // the same unique-id again within a second
			name = base + "." + strconv.Itoa(n) + suffix
		}
		if s.name != nil {
			name = s.name(m)
		}
		used, err := taken(name)
		if err != nil {
			return nil, "", err
		}
		if used {
			continue
		}
		f, err := s.disk.open(s.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if !errors.Is(err, fs.ErrExist) {
			return f, name, err
		}
	}
}

// sync makes messages durable.
func (s *staging) sync(ctx context.Context, staged []Record) error {
	files := s.take(staged)
	var next atomic.Int64
	var group errgroup.Group
	for range min(parallelSyncs, len(files)) {
		group.Go(func() (err error) {
			for i := next.Add(1); i <= int64(len(files)); i = next.Add(1) {
				f := files[i-1]
				if fileErr := errors.Join(f.Sync(), f.Close()); err == nil {
					err = fileErr
				}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.disk.syncDir(s.dir)
}

// take returns the files of messages that are not synced, to sync or to close them.
func (s *staging) take(staged []Record) (files []diskFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range staged {
		if f := s.unsynced[r.Name]; f != nil {
			delete(s.unsynced, r.Name)
			files = append(files, f)
		}
	}
	return files
}

// discard removes messages.
func (s *staging) discard(staged []Record) {
	for _, f := range s.take(staged) {
		f.Close()
	}
	for _, r := range staged {
		s.disk.remove(s.path(r.Name))
	}
}

// close closes the files that an earlier run of this process has left open.
func (s *staging) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.unsynced {
		f.Close()
	}
	clear(s.unsynced)
}

// clean removes the files of earlier runs, after their intents are settled.
func (s *staging) clean(keep ...string) error {
	names, err := s.disk.readDir(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(keep, name) {
			if err := s.disk.remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// maxIntentAge is the age of an intent after which a message that is nowhere counts as lost instead of delivered. Programs remove
// old temporary files after 36 hours.
const maxIntentAge = 30 * time.Hour

// expired reports whether an intent is older than maxIntentAge.
func expired(intent Record, now time.Time) bool { return now.Sub(intent.Time) > maxIntentAge }
