package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// WriteProxy packs every module as version into dir, in the layout of a module proxy.
// See https://go.dev/ref/mod#goproxy-protocol.
func (t *Tree) WriteProxy(dir, version string) error {
	for _, m := range t.Modules {
		if err := t.pack(dir, module.Version{Path: m.Path, Version: version}, t.Dir(m)); err != nil {
			return fmt.Errorf("packing %s: %w", m.Path, err)
		}
	}
	return nil
}

func (t *Tree) pack(proxy string, v module.Version, source string) error {
	escaped, err := module.EscapePath(v.Path)
	if err != nil {
		return err
	}
	dir := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := func(name string, data []byte) error {
		return os.WriteFile(filepath.Join(dir, name), data, 0o644)
	}
	if err := write("list", []byte(v.Version+"\n")); err != nil {
		return err
	}
	info := fmt.Sprintf("{\"Version\":%q,\"Time\":%q}\n", v.Version, time.Now().UTC().Format(time.RFC3339))
	if err := write(v.Version+".info", []byte(info)); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	if err := write(v.Version+".mod", mod); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, v.Version+".zip"))
	if err != nil {
		return err
	}
	if err := zip.CreateFromDir(f, v, source); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// A Sandbox runs Go commands that see the tree as published by a module proxy.
type Sandbox struct {
	Dir     string // temporary: proxy, module cache, programs
	Version string // of all modules of the tree
	env     []string
}

// NewSandbox packs the tree. Unless fresh is set, modules that the user's module cache contains are not downloaded
// again; that cache does not know which versions are the newest, so that a query for them must be fresh.
func (t *Tree) NewSandbox(ctx context.Context, fresh bool) (*Sandbox, error) {
	version, err := t.Version()
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "go", "env", "-json", "GOCACHE", "GOFLAGS", "GOMODCACHE", "GONOSUMDB", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	values := make(map[string]string)
	if err := json.Unmarshal(out, &values); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	dir, err := os.MkdirTemp("", "pop3-release-")
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Dir: dir, Version: version}
	if err := t.WriteProxy(s.path("proxy"), version); err != nil {
		s.Close()
		return nil, err
	}
	proxies := []string{fileURL(s.path("proxy"))}
	if !fresh {
		proxies = append(proxies, fileURL(filepath.Join(values["GOMODCACHE"], "cache", "download")))
	}
	if p := values["GOPROXY"]; p != "" {
		proxies = append(proxies, p)
	}
	maps.Copy(values, map[string]string{
		"GOBIN":      s.path("bin"),
		"GOENV":      "off",
		"GOFLAGS":    strings.TrimSpace(values["GOFLAGS"] + " -modcacherw -trimpath"), // without paths the build cache serves every sandbox
		"GOMODCACHE": s.path("modules"),
		"GONOPROXY":  "",                                                           // any value makes Go look for commands in cached modules alone
		"GONOSUMDB":  strings.Trim(values["GONOSUMDB"]+","+t.Modules[0].Path, ","), // not released; all others are verified
		"GOPRIVATE":  "",
		"GOPROXY":    strings.Join(proxies, ","),
		"GOWORK":     "off",
	})
	s.env = os.Environ()
	for name, value := range values {
		s.env = append(s.env, name+"="+value)
	}
	return s, nil
}

// Close removes everything that the sandbox contains.
func (s *Sandbox) Close() error {
	return os.RemoveAll(s.Dir)
}

func (s *Sandbox) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// command returns a command that runs in dir.
func (s *Sandbox) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.Clone(s.env), "PWD="+dir)
	return cmd
}

// run prints a command and runs it, with its output on ours.
func (s *Sandbox) run(ctx context.Context, dir, name string, args ...string) error {
	line := filepath.Base(name) + " " + strings.Join(args, " ")
	fmt.Println("$", line)
	cmd := s.command(ctx, dir, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// download is run for commands that use the network: they are tried three times.
func (s *Sandbox) download(ctx context.Context, dir, name string, args ...string) error {
	for pause := 5 * time.Second; ; pause *= 3 {
		err := s.run(ctx, dir, name, args...)
		if err == nil || pause > 15*time.Second {
			return err
		}
		fmt.Println("retrying:", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fileURL returns the file URL of an absolute path.
func fileURL(name string) string {
	name = filepath.ToSlash(name)
	if !strings.HasPrefix(name, "/") { // a drive letter
		name = "/" + name
	}
	return "file://" + name
}
