package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tempDir makes the folder in which the demo makes its own.
func tempDir(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // Windows
	return dir
}

func TestDemo(t *testing.T) {
	e := newEnv(t)
	temp := tempDir(t)
	r := e.run("demo", "-n", "1100").check(t, 0, "mailbox    1100 messages, on 127.0.0.1:", "first run  1100 messages fetched", " messages/s, ", " MB/s\n",
		"second run nothing new among 1100 messages, in ", "peak heap  ")
	if r.stderr != "" {
		t.Errorf("stderr %q: a bar though it is no terminal?", r.stderr)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%d folders left, %v", len(left), err)
	}
}

func TestDemoKeep(t *testing.T) {
	e := newEnv(t)
	temp := tempDir(t)
	e.run("demo", "-keep", "-n", "3").check(t, 0, "kept       "+temp)
	dirs, err := filepath.Glob(filepath.Join(temp, "pop3-demo-*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("folders %q, %v", dirs, err)
	}
	got := delivered(t, filepath.Join(dirs[0], "Maildir"))
	if len(got) != 3 || !strings.Contains(got[0], "Subject: message 1\n") || !strings.Contains(got[2], "\n.\n") {
		t.Errorf("delivered %.300q", got)
	}
}

func TestDemoInterrupted(t *testing.T) {
	e := newEnv(t)
	temp := tempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.runContext(ctx, "demo", "-n", "3").check(t, 130, "pop3 demo: interrupted: ")
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%d folders left, %v", len(left), err)
	}
}
