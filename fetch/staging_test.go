package fetch

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

func TestStageLeavesNothingAfterError(t *testing.T) {
	for _, sink := range []struct {
		name string
		make func(dir string) Sink
	}{
		{"maildir", func(dir string) Sink { return &Maildir{Dir: dir} }},
		{"eml", func(dir string) Sink { return &EML{Dir: dir} }},
		{"mbox", func(dir string) Sink { return &Mbox{Path: dir + "/box"} }},
		{"delivery", func(dir string) Sink {
			return &Delivery{Dir: dir, Func: func(context.Context, Message, io.ReadSeeker) error { return nil }}
		}},
	} {
		t.Run(sink.name, func(t *testing.T) {
			dir := t.TempDir()
			s := sink.make(dir)
			if _, err := s.Recover(t.Context(), Recovery{Account: "a", Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
			before := allFiles(t, dir)
			cut := errors.New("cut")
			body := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), iotest.ErrReader(cut))
			_, err := s.Stage(t.Context(), Message{Account: "a", Key: Key{UID: "1"}, Time: time.Now()}, body)
			if !errors.Is(err, cut) {
				t.Errorf("Stage returned %v", err)
			}
			if after := allFiles(t, dir); !slices.Equal(before, after) {
				t.Errorf("files %q, want %q", after, before)
			}
		})
	}
}

// allFiles returns the files and folders below a folder.
func allFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		files = append(files, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A failingFile cannot be synced.
type failingFile struct {
	diskFile
	closed *atomic.Int64
}

func (f failingFile) Sync() error { return errors.New("no space") }

func (f failingFile) Close() error {
	f.closed.Add(1)
	return nil
}

// TestSyncFails checks that all files are closed, and that the error is that of one.
func TestSyncFails(t *testing.T) {
	const files = 3 * parallelSyncs
	var closed atomic.Int64
	s := &staging{disk: osDisk{}, dir: t.TempDir(), unsynced: map[string]diskFile{}}
	var staged []Record
	for i := range files {
		name := strconv.Itoa(i)
		s.unsynced[name] = failingFile{closed: &closed}
		staged = append(staged, Record{Name: name})
	}
	if err := s.sync(t.Context(), staged); err == nil || err.Error() != "no space" {
		t.Errorf("sync returned %v", err)
	}
	if closed.Load() != files {
		t.Errorf("%d of %d files closed", closed.Load(), files)
	}
}
