package docs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestShell runs every shell block that no comment excepts, in the root of the tree, with an empty home directory.
func TestShell(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	ran := 0
	for _, b := range allBlocks(t) {
		if b.language != "sh" {
			continue
		}
		t.Run(b.String(), func(t *testing.T) {
			if reason, ok := b.directive("not run"); ok {
				if reason == "" {
					t.Fatalf("%v: a block is excepted without a reason", b)
				}
				t.Skip("excepted:", reason)
			}
			ran++
			if err := shell(t.Context(), t.TempDir(), b); err != nil {
				t.Error(err)
			}
		})
	}
	if ran == 0 {
		t.Error("no shell block was run")
	}
}

// goEnv contains the directories of the Go command, which a command must find although its home directory is empty.
var goEnv = sync.OnceValues(func() ([]string, error) {
	var env []string
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOFLAGS"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return nil, fmt.Errorf("go env %s: %w", name, err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env, nil
})

func shell(ctx context.Context, home string, b block) error {
	env, err := goEnv()
	if err != nil {
		return err
	}
	// The go command leaves a process behind that writes telemetry while the home directory is being removed.
	telemetry := filepath.Join(home, ".config", "go", "telemetry")
	if err := errors.Join(os.MkdirAll(telemetry, 0o755), os.WriteFile(filepath.Join(telemetry, "mode"), []byte("off"), 0o644)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", b.code)
	cmd.Dir = root
	cmd.Env = append(slices.Concat(os.Environ(), env), "HOME="+home, "XDG_CACHE_HOME=", "XDG_STATE_HOME=", "XDG_CONFIG_HOME=")
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s\n%s", b, errors.Join(err, ctx.Err()), b.code, out)
	}
	return nil
}

func TestShellFails(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	for code, ok := range map[string]bool{
		"test -f go.work\ngo version\n":      true,
		"true\nfalse\ntrue\n":                false,
		"false | true\n":                     false,
		"echo $undefined\n":                  false,
		"touch ~/file\ntest ! -e file\n":     true,
		"go run ./no/such/package\n":         false,
		"go doc . Dial >/dev/null # there\n": true,
	} {
		home := t.TempDir()
		err := shell(t.Context(), home, block{file: "test.md", language: "sh", code: code})
		if (err == nil) != ok {
			t.Errorf("%q: %v", code, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "file")); err == nil {
		t.Error("a block wrote to the tree")
	}
}
