package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// A Module is one of the modules of a tree.
type Module struct {
	Path string // module path
	Dir  string // directory below the root of the tree, with slashes; "." for the root module
	File *modfile.File
}

// Tag returns the name of the Git tag that makes the module available as version.
func (m Module) Tag(version string) string {
	return path.Join(m.Dir, version)
}

// Internal reports whether the module is of no use to other modules and therefore neither tagged nor installed.
func (m Module) Internal() bool {
	return slices.Contains(strings.Split(m.Dir, "/"), "internal")
}

// A Tree is a directory with a go.work and the modules in it.
type Tree struct {
	Root    string
	Modules []Module // sorted by directory, so that the root module is the first
	Work    *modfile.WorkFile
}

// OpenTree reads the tree that contains dir.
func OpenTree(dir string) (*Tree, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.work")); err == nil {
			break
		}
		parent := filepath.Dir(root)
		if parent == root {
			return nil, fmt.Errorf("no go.work in %s or above", dir)
		}
		root = parent
	}
	t := &Tree{Root: root}
	data, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		return nil, err
	}
	if t.Work, err = modfile.ParseWork("go.work", data, nil); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != root && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "vendor") {
				return filepath.SkipDir
			}
			return nil
		}
		if base != "go.mod" {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := modfile.Parse(name, data, nil)
		if err != nil {
			return err
		}
		if file.Module == nil || file.Go == nil {
			return fmt.Errorf("%s: no module or go directive", name)
		}
		t.Modules = append(t.Modules, Module{Path: file.Module.Mod.Path, Dir: filepath.ToSlash(dir), File: file})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(t.Modules, func(a, b Module) int { return strings.Compare(a.Dir, b.Dir) })
	if len(t.Modules) == 0 || t.Modules[0].Dir != "." {
		return nil, fmt.Errorf("no go.mod in %s", root)
	}
	return t, nil
}

// Dir returns the absolute directory of m.
func (t *Tree) Dir(m Module) string {
	return filepath.Join(t.Root, filepath.FromSlash(m.Dir))
}

// Module returns the module in dir, which is relative to the root.
func (t *Tree) Module(dir string) (Module, error) {
	dir = path.Clean(filepath.ToSlash(dir))
	for _, m := range t.Modules {
		if m.Dir == dir {
			return m, nil
		}
	}
	return Module{}, fmt.Errorf("no module in %s", dir)
}

// has reports whether the tree contains the module with this path.
func (t *Tree) has(modulePath string) bool {
	return slices.ContainsFunc(t.Modules, func(m Module) bool { return m.Path == modulePath })
}

// siblings returns the modules of the tree that modules of the tree require, each at every version required.
func (t *Tree) siblings() []module.Version {
	var all []module.Version
	for _, m := range t.Modules {
		for _, r := range m.File.Require {
			if t.has(r.Mod.Path) && !slices.Contains(all, r.Mod) {
				all = append(all, r.Mod)
			}
		}
	}
	module.Sort(all)
	return all
}

// Version returns the version that the modules require of each other.
func (t *Tree) Version() (string, error) {
	version := ""
	for _, s := range t.siblings() {
		if version != "" && s.Version != version {
			return "", fmt.Errorf("the modules require %s and %s of each other: run prepare", version, s.Version)
		}
		version = s.Version
	}
	if version == "" {
		return "", errors.New("no module requires another one")
	}
	return version, nil
}

// libraryRequires are the only modules that the root module may require.
var libraryRequires = []string{"github.com/google/go-cmp", "golang.org/x/sync"}

// Check returns everything that would keep the modules from being developed, installed or released together.
func (t *Tree) Check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	root := t.Modules[0]
	for _, r := range root.File.Require {
		if !slices.Contains(libraryRequires, r.Mod.Path) {
			fail("go.mod: the library must not require %s", r.Mod.Path)
		}
	}
	var used []string
	for _, u := range t.Work.Use {
		used = append(used, path.Clean(u.Path))
	}
	for _, m := range t.Modules {
		name := path.Join(m.Dir, "go.mod")
		if want := path.Join(root.Path, m.Dir); m.Path != want {
			fail("%s: the module is named %s, not %s", name, m.Path, want)
		}
		if len(m.File.Replace) > 0 || len(m.File.Exclude) > 0 {
			fail("%s: go install refuses modules with replace or exclude directives", name)
		}
		if !slices.Contains(used, m.Dir) {
			fail("go.work: no use of %s", local(m.Dir))
		}
	}
	version, err := t.Version()
	if err != nil {
		errs = append(errs, err)
	}
	replaced := make(map[module.Version]string)
	for _, r := range t.Work.Replace {
		replaced[r.Old] = path.Clean(r.New.Path)
	}
	for _, s := range t.siblings() {
		dir := path.Join(".", strings.TrimPrefix(s.Path, root.Path))
		if replaced[s] != dir {
			fail("go.work: missing: replace %s %s => %s", s.Path, s.Version, local(dir))
		}
		delete(replaced, s)
	}
	for old := range replaced {
		if t.has(old.Path) && old.Version != version {
			fail("go.work: no module requires %s %s, which is replaced", old.Path, old.Version)
		}
	}
	return errors.Join(errs...)
}

// local returns a directory as go.work names it.
func local(dir string) string {
	if dir == "." {
		return dir
	}
	return "./" + dir
}
