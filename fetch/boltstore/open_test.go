package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-5b1d5243/pop3/fetch"
)

func TestOpenModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	path := filepath.Join(t.TempDir(), "new", "folder", "x.state")
	mustOpen(t, path)
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

// TestOpenLocked opens a file that is open, here and in another process.
func TestOpenLocked(t *testing.T) {
	path := statePath(t)
	s := mustOpen(t, path)
	begin := time.Now()
	_, err := Open(path, testAccount)
	if !errors.Is(err, fetch.ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOpenInChild$")
	cmd.Env = append(os.Environ(), "STATE_FILE="+path)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(fetch.ErrLocked.Error())) {
		t.Errorf("another process: %v\n%s", err, out)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	mustOpen(t, path)
}

// TestOpenInChild is the other process of TestOpenLocked.
func TestOpenInChild(t *testing.T) {
	path := os.Getenv("STATE_FILE")
	if path == "" {
		t.Skip("not a child")
	}
	_, err := Open(path, testAccount)
	fmt.Println(err)
}

func TestOpenAccount(t *testing.T) {
	path := statePath(t)
	if _, err := Open(path, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file, no account: %v", err)
	}
	mustOpen(t, path).Close()
	_, err := Open(path, "ann@pop.example.org")
	if !errors.Is(err, ErrAccount) || !strings.Contains(err.Error(), testAccount) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	s, err := Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Account() != testAccount || s.Path() != path {
		t.Errorf("account %q in %q", s.Account(), s.Path())
	}
}

// setMeta changes a value in the bucket meta.
func setMeta(t *testing.T, path string, key, value []byte) {
	t.Helper()
	s := mustOpen(t, path)
	defer s.Close()
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(key, value) }); err != nil {
		t.Fatal(err)
	}
}

// TestOpenRefuses opens files that are not state files, and checks that the error names them and that they do not change.
func TestOpenRefuses(t *testing.T) {
	write := func(b []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	good := func(change func(t *testing.T, path string)) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			s := mustOpen(t, path)
			if err := s.Put(t.Context(), manyRecords(1000)...); err != nil {
				t.Fatal(err)
			}
			s.Close()
			change(t, path)
		}
	}
	truncate := func(size int64) func(t *testing.T, path string) {
		return good(func(t *testing.T, path string) {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
		})
	}
	random := make([]byte, 100_000)
	for i := range random {
		random[i] = byte(i * i * 7 >> 3)
	}
	for _, test := range []struct {
		name string
		make func(t *testing.T, path string)
		want error
	}{
		{"empty", write(nil), ErrDamaged},
		{"one byte", write([]byte{0}), ErrDamaged},
		{"zeros", write(make([]byte, 65536)), ErrDamaged},
		{"text", write([]byte("# pop3 state, format 1\n")), ErrDamaged},
		{"long text", write(bytes.Repeat([]byte("text\n"), 10_000)), ErrDamaged},
		{"random", write(random), ErrDamaged},
		{"truncated to nothing", truncate(0), ErrDamaged},
		{"truncated to a meta page", truncate(4096), ErrDamaged},
		{"truncated to meta pages", truncate(8192), ErrDamaged},
		{"truncated in a page", truncate(20_000), ErrDamaged},
		{"truncated to half", truncate(32768), ErrDamaged},
		{"folder", func(t *testing.T, path string) { os.Mkdir(path, 0o700) }, ErrDamaged},
		{"another database", func(t *testing.T, path string) {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			db.Close()
		}, ErrDamaged},
		{"newer format", good(func(t *testing.T, path string) { setMeta(t, path, versionKey, []byte("2")) }), ErrNewer},
		{"no format", good(func(t *testing.T, path string) { setMeta(t, path, versionKey, nil) }), ErrDamaged},
		{"format 0", good(func(t *testing.T, path string) { setMeta(t, path, versionKey, []byte("0")) }), ErrDamaged},
		{"no account", good(func(t *testing.T, path string) { setMeta(t, path, accountKey, nil) }), ErrDamaged},
		{"short header", good(func(t *testing.T, path string) { setMeta(t, path, headerKey, []byte("x")) }), ErrDamaged},
		{"wrong header", good(func(t *testing.T, path string) { setMeta(t, path, headerKey, make([]byte, 36)) }), ErrDamaged},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.state")
			test.make(t, path)
			before, _ := os.ReadFile(path)
			for range 2 { // the first leaves no lock
				s, err := Open(path, testAccount)
				if err == nil {
					s.Close()
				}
				var ferr *FileError
				if !errors.Is(err, test.want) || !errors.As(err, &ferr) || ferr.Path != path || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want %v", err, test.want)
				}
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Errorf("the file was changed, from %d bytes to %d", len(before), len(after))
			}
		})
	}
}

func TestOpenSymlink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.state")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), path); err != nil {
		t.Skip(err)
	}
	if _, err := Open(path, testAccount); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target of the link: %v", err)
	}
}

func TestOpenBelowFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(file, "x.state")
	var ferr *FileError
	if _, err := Open(path, testAccount); !errors.As(err, &ferr) || ferr.Path != path || strings.Count(err.Error(), path) != 1 {
		t.Errorf("error %v", err)
	}
}

// TestCreateInterrupted opens a file after another process died while it made it.
func TestCreateInterrupted(t *testing.T) {
	path := statePath(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	left := unfinished(path, "123")
	other := unfinished(path+"x", "123")
	for _, name := range []string{left, other} {
		if err := os.WriteFile(name, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustOpen(t, path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v, want the file and %s", entries, err, other)
	}
}

// TestOpenAtOnce has several goroutines make the same file. One of them has it.
func TestOpenAtOnce(t *testing.T) {
	path := statePath(t)
	const n = 8
	type result struct {
		s   *Store
		err error
	}
	results := make(chan result)
	for range n {
		go func() {
			s, err := Open(path, testAccount)
			results <- result{s, err}
		}()
	}
	opened := 0
	for range n {
		r := <-results
		switch {
		case r.err == nil:
			opened++
			defer r.s.Close()
		case !errors.Is(r.err, fetch.ErrLocked):
			t.Error(r.err)
		}
	}
	if opened != 1 {
		t.Errorf("%d opened it", opened)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 1 {
		t.Errorf("left: %v", entries)
	}
}

func TestFileName(t *testing.T) {
	long := strings.Repeat("x", 300)
	seen := map[string]string{}
	for account, want := range map[string]string{
		"joe@pop.example.org": "joe@pop.example.org.state",
		"Joe@pop.example.org": "%4Aoe@pop.example.org.state",
		"a/b\\c:d%e f":        "a%2Fb%5Cc%3Ad%25e%20f.state",
		"..":                  "%2E..state",
		".hidden":             "%2Ehidden.state",
		"":                    ".state",
		"\xff":                "%FF.state",
		long:                  "",
		long + "y":            "",
	} {
		got := FileName(account)
		if want != "" && got != want {
			t.Errorf("%q has %q, want %q", account, got, want)
		}
		if len(got) > 255 || filepath.Base(got) != got || seen[strings.ToLower(got)] != "" {
			t.Errorf("%q has %q, as %q", account, got, seen[strings.ToLower(got)])
		}
		seen[strings.ToLower(got)] = account + " "
	}
}
