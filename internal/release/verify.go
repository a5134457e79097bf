package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Verify proves that users can install the tree: each module compiles on its own, a new module can import the library
// and build the program in README.md, and every command can be installed.
func (t *Tree) Verify(ctx context.Context) error {
	if err := t.Check(); err != nil {
		return err
	}
	s, err := t.NewSandbox(ctx, false)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, m := range t.Modules {
		fmt.Printf("\n# %s %s without the workspace\n", m.Path, s.Version)
		if err := t.verifyAlone(ctx, s, m); err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
	}
	fmt.Println("\n# a new module that imports the library")
	if err := t.verifyImport(ctx, s); err != nil {
		return err
	}
	fmt.Println("\n# the commands")
	return t.verifyCommands(ctx, s)
}

// verifyImport builds the program in README.md in a new module.
func (t *Tree) verifyImport(ctx context.Context, s *Sandbox) error {
	const importer = "example.org/importer"
	library := t.Modules[0].Path
	readme, err := os.ReadFile(filepath.Join(t.Root, "README.md"))
	if err != nil {
		return err
	}
	program, err := firstProgram(readme)
	if err != nil {
		return err
	}
	dir := s.path("importer")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := s.run(ctx, dir, "go", "mod", "init", importer); err != nil {
		return err
	}
	if err := s.download(ctx, dir, "go", "get", library+"@"+s.Version); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), program, 0o644); err != nil {
		return err
	}
	if err := s.run(ctx, dir, "go", "build", "-o", s.path("importer.exe"), "."); err != nil {
		return err
	}
	fmt.Println("$ go mod graph")
	graph, err := s.command(ctx, dir, "go", "mod", "graph").Output()
	if err != nil {
		return fmt.Errorf("go mod graph: %w", err)
	}
	os.Stdout.Write(graph)
	for _, name := range strings.Fields(string(graph)) {
		name, _, _ = strings.Cut(name, "@")
		allowed := append([]string{importer, library, "go", "toolchain"}, libraryRequires...)
		if !slices.Contains(allowed, name) {
			return fmt.Errorf("importers of the library get %s into their module graph", name)
		}
	}
	return nil
}

// firstProgram returns the first Go block of a Markdown file that is a program.
func firstProgram(markdown []byte) ([]byte, error) {
	for _, block := range bytes.Split(markdown, []byte("\n```go\n"))[1:] {
		program, _, ok := bytes.Cut(block, []byte("\n```\n"))
		if ok && bytes.HasPrefix(program, []byte("package main\n")) {
			return append(program, '\n'), nil
		}
	}
	return nil, errors.New("README.md contains no program")
}

// verifyCommands installs the commands of all modules, and runs the demo of cmd/pop3.
func (t *Tree) verifyCommands(ctx context.Context, s *Sandbox) error {
	dir := s.path("empty")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, m := range t.Modules {
		if m.Internal() {
			continue
		}
		list := s.command(ctx, s.path("alone", filepath.FromSlash(m.Dir), "src"), "go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
		list.Stderr = os.Stderr
		out, err := list.Output()
		if err != nil {
			return fmt.Errorf("go list in %s: %w", m.Dir, err)
		}
		for _, command := range strings.Fields(string(out)) {
			if err := s.download(ctx, dir, "go", "install", command+"@"+s.Version); err != nil {
				return err
			}
			if err := t.verifyVersions(s.path("bin", path.Base(command)), s.Version); err != nil {
				return err
			}
			if command == path.Join(t.Modules[0].Path, "cmd/pop3") {
				if err := s.verifyPOP3(ctx, dir); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// verifyPOP3 runs the demo, and checks that the command knows its version.
func (s *Sandbox) verifyPOP3(ctx context.Context, dir string) error {
	program := s.path("bin", "pop3")
	if err := s.run(ctx, dir, program, "demo"); err != nil {
		return err
	}
	fmt.Println("$ pop3 version")
	out, err := s.command(ctx, dir, program, "version").Output()
	if err != nil {
		return fmt.Errorf("pop3 version: %w", err)
	}
	os.Stdout.Write(out)
	if !strings.Contains(string(out), s.Version) {
		return fmt.Errorf("pop3 version does not print %s", s.Version)
	}
	return nil
}

// verifyVersions checks that a program was made of released modules alone.
func (t *Tree) verifyVersions(program, version string) error {
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	for _, m := range append(info.Deps, &info.Main) {
		if t.has(m.Path) && (m.Version != version || m.Replace != nil) {
			return fmt.Errorf("%s contains %s %s, not %s", program, m.Path, m.Version, version)
		}
	}
	return nil
}
