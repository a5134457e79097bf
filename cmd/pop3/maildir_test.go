package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A folder with other things in it is left alone.
func TestOpenMaildir(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openMaildir(dir); err == nil || !strings.Contains(err.Error(), "no Maildir") {
		t.Errorf("error %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if _, err := openMaildir(filepath.Join(dir, "letter")); err == nil {
		t.Error("a file is no Maildir")
	}
	if _, err := openMaildir(filepath.Join(dir, "a", "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	for range 2 { // made, then found
		if d, err := openMaildir(dir + "/b/"); err != nil || d.commit() != nil {
			t.Error(err)
		}
	}
}

var errCut = errors.New("cut")

// cut is a message that ends in the middle.
type cut struct{}

func (cut) WriteTo(w io.Writer) (int64, error) {
	n, _ := io.WriteString(w, "half")
	return int64(n), errCut
}

func TestDeliver(t *testing.T) {
	dir, err := openMaildir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var progress strings.Builder
	for range 3 {
		if n, err := dir.deliver(bytes.NewReader([]byte("whole")), &progress); n != 5 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if n, err := dir.deliver(cut{}, &progress); n != 4 || err != errCut {
		t.Errorf("%d, %v", n, err)
	}
	if got := delivered(t, dir.dir); strings.Join(got, " ") != "whole whole whole" {
		t.Errorf("delivered %q", got)
	}
	if got := progress.String(); got != "wholewholewholehalf" {
		t.Errorf("progress %q", got)
	}
	if err := dir.commit(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(dir.dir, "new")); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.deliver(bytes.NewReader(nil), io.Discard); err == nil {
		t.Error("delivered into a folder that is gone")
	}
	if files, err := os.ReadDir(filepath.Join(dir.dir, "tmp")); err != nil || len(files) > 0 {
		t.Errorf("tmp has %d files, %v", len(files), err)
	}
}
