//go:build linux

package boltstore

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLoadMemory loads 200,000 records, which take 16 MiB in the file, in a separate process. Its memory must
// not grow by the size of the file.
func TestLoadMemory(t *testing.T) {
	path := statePath(t)
	s := mustOpen(t, path)
	for chunk := range slices.Chunk(manyRecords(200_000), 1000) {
		if err := s.Put(t.Context(), chunk...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLoadMemoryChild$")
	cmd.Env = append(os.Environ(), "STATE_FILE="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var before, after int
	if _, err := fmt.Sscan(string(out), &before, &after); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("memory: %d KiB before, %d KiB at most", before, after)
	if after-before > 16<<10 {
		t.Errorf("memory grew from %d to %d KiB", before, after)
	}
}

// TestLoadMemoryChild prints the memory that it needs.
func TestLoadMemoryChild(t *testing.T) {
	path := os.Getenv("STATE_FILE")
	if path == "" {
		t.Skip("not a child")
	}
	before := peakMemory(t)
	s, err := Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, err := range s.Load(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	fmt.Println(before, peakMemory(t))
}

// peakMemory returns the largest resident memory of this process so far, in KiB.
func peakMemory(t *testing.T) (kib int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, line, _ := bytes.Cut(status, []byte("VmHWM:"))
	if _, err := fmt.Sscan(strings.TrimSpace(string(line)), &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
