package main

import (
	"context"
	"errors"
	"fmt"
	"go/version"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
)

// WriteWorkspace writes a go.work of the modules that the installed Go version can build: the go.work of the tree
// needs the Go version of the newest module. It is used by means of the environment variable GOWORK.
func (t *Tree) WriteWorkspace(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go env GOVERSION: %w", err)
	}
	work, err := t.workspace(strings.TrimSpace(string(out)))
	if err != nil {
		return err
	}
	return os.WriteFile(file, modfile.Format(work.Syntax), 0o644)
}

// workspace returns a go.work, with absolute directories, of the modules that this Go version can build.
func (t *Tree) workspace(goVersion string) (*modfile.WorkFile, error) {
	usable := make(map[string]Module)
	for _, m := range t.Modules {
		if version.Compare("go"+m.File.Go.Version, goVersion) <= 0 {
			usable[m.Path] = m
		}
	}
	for n := -1; n != len(usable); { // without a module go those that require it
		n = len(usable)
		for _, m := range usable {
			for _, r := range m.File.Require {
				if _, ok := usable[r.Mod.Path]; !ok && t.has(r.Mod.Path) {
					delete(usable, m.Path)
				}
			}
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("%s can build none of the modules", goVersion)
	}
	work := &modfile.WorkFile{Syntax: &modfile.FileSyntax{}}
	newest := ""
	var errs []error
	for _, m := range t.Modules {
		if _, ok := usable[m.Path]; !ok {
			continue
		}
		if newest == "" || version.Compare("go"+m.File.Go.Version, "go"+newest) > 0 {
			newest = m.File.Go.Version
		}
		errs = append(errs, work.AddUse(t.Dir(m), ""))
	}
	errs = append(errs, work.AddGoStmt(newest))
	for _, r := range t.Work.Replace {
		if _, ok := usable[r.Old.Path]; ok {
			errs = append(errs, work.AddReplace(r.Old.Path, r.Old.Version, filepath.Join(t.Root, filepath.FromSlash(r.New.Path)), r.New.Version))
		}
	}
	return work, errors.Join(errs...)
}
