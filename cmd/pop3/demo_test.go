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
	temp := tempDir(t)
	r := start(t, t.Context(), "demo", "-n", "1100")
	r.check(t, 0, "LIST      1100 messages in", "UIDL      1100 messages in", "RETR      1100 messages in",
		" messages/s\n", " MB/s", "peak heap ")
	if r.stderr != "" {
		t.Errorf("stderr %q: a bar though it is no terminal?", r.stderr)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%d folders left, %v", len(left), err)
	}
}

func TestDemoKeep(t *testing.T) {
	temp := tempDir(t)
	start(t, t.Context(), "demo", "-keep", "-n", "3").check(t, 0, "kept      "+temp)
	dirs, err := filepath.Glob(filepath.Join(temp, "pop3-demo-*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("folders %q, %v", dirs, err)
	}
	got := delivered(t, dirs[0])
	if len(got) != 3 || !strings.Contains(got[0], "Subject: message 1\r\n") || !strings.Contains(got[2], "\r\n.\r\n") {
		t.Errorf("delivered %.300q", got)
	}
}

func TestDemoInterrupted(t *testing.T) {
	temp := tempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start(t, ctx, "demo", "-n", "3").check(t, 130, "pop3 demo: interrupted: ")
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%d folders left, %v", len(left), err)
	}
}
