package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// Tidy runs go mod tidy in the modules of these directories, or in all.
func (t *Tree) Tidy(ctx context.Context, dirs []string) error {
	modules := t.Modules
	if len(dirs) > 0 {
		modules = nil
		for _, dir := range dirs {
			m, err := t.Module(dir)
			if err != nil {
				return err
			}
			modules = append(modules, m)
		}
	}
	s, err := t.NewSandbox(ctx, true)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, m := range modules {
		fmt.Println("#", m.Path)
		if err := t.update(ctx, s, m, "mod", "tidy"); err != nil {
			return err
		}
	}
	return nil
}

// Get runs go get in the module of dir.
func (t *Tree) Get(ctx context.Context, dir string, packages []string) error {
	m, err := t.Module(dir)
	if err != nil {
		return err
	}
	s, err := t.NewSandbox(ctx, true)
	if err != nil {
		return err
	}
	defer s.Close()
	return t.update(ctx, s, m, append([]string{"get"}, packages...)...)
}

// update runs a Go command that may change go.mod and go.sum of m.
func (t *Tree) update(ctx context.Context, s *Sandbox, m Module, args ...string) error {
	err := s.run(ctx, t.Dir(m), "go", args...)
	return errors.Join(err, t.dropSums(t.Dir(m)))
}

// dropSums removes from the go.sum in dir the checksums of modules of the tree, which change with each commit.
func (t *Tree) dropSums(dir string) error {
	name := filepath.Join(dir, "go.sum")
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if kept := t.withoutSiblings(data); !bytes.Equal(kept, data) {
		return os.WriteFile(name, kept, 0o644)
	}
	return nil
}

// withoutSiblings returns the lines of a go.sum that are not about modules of the tree.
func (t *Tree) withoutSiblings(sums []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(sums) {
		name, _, _ := strings.Cut(string(line), " ")
		if !t.has(name) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// verifyAlone checks that m is tidy and that all of its packages and tests compile without the workspace, with the
// versions that its go.mod selects. It works on a copy of the files that the proxy serves.
func (t *Tree) verifyAlone(ctx context.Context, s *Sandbox, m Module) error {
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	dir := s.path("alone", filepath.FromSlash(m.Dir), "src")
	file := s.path("proxy", filepath.FromSlash(escaped), "@v", s.Version+".zip")
	if err := zip.Unzip(dir, module.Version{Path: m.Path, Version: s.Version}, file); err != nil {
		return err
	}
	before := make(map[string][]byte)
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		before[name] = t.withoutSiblings(data)
	}
	if err := s.download(ctx, dir, "go", "mod", "tidy"); err != nil {
		return err
	}
	for name, old := range before {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if !bytes.Equal(t.withoutSiblings(data), old) {
			return fmt.Errorf("%s is not tidy: go run ./internal/release tidy %s", filepath.ToSlash(filepath.Join(m.Dir, name)), m.Dir)
		}
	}
	return s.run(ctx, dir, "go", "vet", "./...")
}
