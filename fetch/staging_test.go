package fetch

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
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
