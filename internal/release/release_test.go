package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// TestCheckThisTree fails if a module of this tree cannot be released.
func TestCheckThisTree(t *testing.T) {
	tree, err := OpenTree(".")
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Check(); err != nil {
		t.Error(err)
	}
}

// files of a small tree that is ready to be released as v0.2.0.
var files = map[string]string{
	"go.mod":          "module example.org/lib\n\ngo 1.25.0\n",
	"lib.go":          "package lib\n",
	"store/go.mod":    "module example.org/lib/store\n\ngo 1.26.0\n\nrequire example.org/lib v0.2.0\n",
	"store/store.go":  "package store\n",
	"cmd/tool/go.mod": "module example.org/lib/cmd/tool\n\ngo 1.25.0\n\nrequire (\n\texample.org/lib v0.2.0 // indirect\n\texample.org/lib/store v0.2.0\n)\n",
	"go.work": "go 1.26.0\n\nuse (\n\t.\n\t./cmd/tool\n\t./store\n)\n\n" +
		"replace example.org/lib v0.2.0 => .\n\nreplace example.org/lib/store v0.2.0 => ./store\n",
	"CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n## [0.2.0] - 2026-01-02\n\n- More.\n\n## 0.1.0\n\n- All.\n",
}

// A fixture is a repository that contains files.
type fixture struct {
	t    *testing.T
	root string
}

func newFixture(t *testing.T) *fixture {
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
	for _, role := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+role+"_NAME", "Tester")
		t.Setenv("GIT_"+role+"_EMAIL", "tester@example.org")
	}
	f := &fixture{t, t.TempDir()}
	for name, text := range files {
		f.write(name, text)
	}
	f.git("init", "--quiet", "--initial-branch=main")
	f.commit()
	return f
}

func (f *fixture) write(name, text string) {
	f.t.Helper()
	name = filepath.Join(f.root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// commit commits everything, and lets it pass .ci/run.
func (f *fixture) commit() {
	f.t.Helper()
	f.git("add", "--all")
	f.git("commit", "--quiet", "--message", "test")
	f.write(".git/ci-passed", f.git("rev-parse", "HEAD"))
}

func (f *fixture) git(args ...string) string {
	f.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = f.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %s: %v\n%s", args, err, out)
	}
	return string(out)
}

func (f *fixture) open() *Tree {
	f.t.Helper()
	tree, err := OpenTree(filepath.Join(f.root, "store"))
	if err != nil {
		f.t.Fatal(err)
	}
	return tree
}

func TestTag(t *testing.T) {
	f := newFixture(t)
	if err := f.open().Tag(t.Context(), "v0.2.0"); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(f.git("tag", "--list")), []string{"cmd/tool/v0.2.0", "store/v0.2.0", "v0.2.0"}; !slices.Equal(got, want) {
		t.Errorf("tags %q, want %q", got, want)
	}
}

func TestTagRefused(t *testing.T) {
	const version = "v0.2.0"
	for _, test := range []struct {
		name    string
		version string
		change  func(*fixture)
		want    string
	}{
		{"not a version", "0.2.0", func(*fixture) {}, "0.2.0 is not a version"},
		{"short version", "v0.2", func(*fixture) {}, "v0.2 is not a version"},
		{"major version", "v2.0.0", func(*fixture) {}, "needs module paths"},
		{"uncommitted", version, func(f *fixture) { f.write("lib.go", "package lib // changed\n") }, "M lib.go"},
		{"untracked", version, func(f *fixture) { f.write("new.go", "package lib\n") }, "?? new.go"},
		{"other branch", version, func(f *fixture) { f.git("switch", "--quiet", "--create", "other") }, `the branch is "other"`},
		{"detached", version, func(f *fixture) { f.git("switch", "--quiet", "--detach") }, `the branch is ""`},
		{"tag exists", version, func(f *fixture) { f.git("tag", "store/v0.2.0") }, "the tag store/v0.2.0 exists"},
		{"newer tag", version, func(f *fixture) { f.git("tag", "v0.10.0") }, "older than the tag v0.10.0"},
		{"CI not run", version, func(f *fixture) { f.git("commit", "--quiet", "--allow-empty", "--message", "next") }, ".ci/run has not passed"},
		{"CI never run", version, func(f *fixture) { os.Remove(filepath.Join(f.root, ".git", "ci-passed")) }, ".ci/run has not passed"},
		{"no change log", version, func(f *fixture) { f.git("rm", "--quiet", "CHANGELOG.md"); f.commit() }, "CHANGELOG.md"},
		{"not in the change log", version, func(f *fixture) {
			f.write("CHANGELOG.md", "## Unreleased\n\n- More.\n\n## 0.2.01\n\n- No.\n")
			f.commit()
		}, "no section about v0.2.0"},
		{"empty section", version, func(f *fixture) { f.write("CHANGELOG.md", "## v0.2.0\n\n## 0.1.0\n\n- All.\n"); f.commit() }, "no section about v0.2.0"},
		{"requirement of another version", version, func(f *fixture) {
			f.write("store/go.mod", strings.Replace(files["store/go.mod"], "v0.2.0", "v0.1.0", 1))
			f.commit()
		}, "require example.org/lib v0.1.0"},
		{"not prepared", "v0.3.0", func(f *fixture) {
			f.write("CHANGELOG.md", "## v0.3.0\n\n- More.\n")
			f.commit()
		}, "require example.org/lib/store v0.2.0: run prepare"},
		{"replace", version, func(f *fixture) {
			f.write("cmd/tool/go.mod", files["cmd/tool/go.mod"]+"\nreplace example.org/lib => ../..\n")
			f.commit()
		}, "cmd/tool/go.mod: go install refuses"},
		{"library requires more", version, func(f *fixture) {
			f.write("go.mod", files["go.mod"]+"\nrequire example.org/other v1.0.0\n")
			f.commit()
		}, "must not require example.org/other"},
		{"wrong name", version, func(f *fixture) {
			f.write("store/go.mod", strings.Replace(files["store/go.mod"], "lib/store", "lib/shop", 1))
			f.commit()
		}, "named example.org/lib/shop"},
		{"module without workspace", version, func(f *fixture) {
			f.write("more/go.mod", "module example.org/lib/more\n\ngo 1.25.0\n")
			f.commit()
		}, "go.work: no use of ./more"},
		{"missing replacement", version, func(f *fixture) {
			f.write("go.work", strings.Replace(files["go.work"], "replace example.org/lib/store v0.2.0 => ./store\n", "", 1))
			f.commit()
		}, "missing: replace example.org/lib/store v0.2.0 => ./store"},
		{"old replacement", version, func(f *fixture) {
			f.write("go.work", files["go.work"]+"\nreplace example.org/lib v0.1.0 => .\n")
			f.commit()
		}, "no module requires example.org/lib v0.1.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			test.change(f)
			before := f.git("tag", "--list")
			err := f.open().Tag(t.Context(), test.version)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Tag returned %v, want an error that contains %q", err, test.want)
			}
			if after := f.git("tag", "--list"); after != before {
				t.Errorf("Tag created tags:\n%s", after)
			}
		})
	}
}

func TestPrepare(t *testing.T) {
	f := newFixture(t)
	if err := f.open().Prepare("v0.3.0"); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		got, err := os.ReadFile(filepath.Join(f.root, name))
		if err != nil {
			t.Fatal(err)
		}
		want := text
		if name != "CHANGELOG.md" {
			want = strings.ReplaceAll(text, "v0.2.0", "v0.3.0")
		}
		if string(got) != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestWorkspace(t *testing.T) {
	tree := newFixture(t).open()
	for goVersion, want := range map[string][]string{
		"go1.25.4": {"."}, // cmd/tool requires store, which requires Go 1.26
		"go1.26.0": {".", "cmd/tool", "store"},
	} {
		work, err := tree.workspace(goVersion)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := modfile.ParseWork("go.work", modfile.Format(work.Syntax), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range parsed.Use {
			dir, err := filepath.Rel(tree.Root, u.Path)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, filepath.ToSlash(dir))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: modules %q, want %q", goVersion, got, want)
		}
		if want := min(len(want), 2); len(parsed.Replace) != want {
			t.Errorf("%s: %d replacements, want %d", goVersion, len(parsed.Replace), want)
		}
	}
	if _, err := tree.workspace("go1.24.0"); err == nil {
		t.Error("go1.24.0 can build modules for 1.25")
	}
}

// TestSandbox lets a command of the tree be installed from the proxy alone.
func TestSandbox(t *testing.T) {
	f := newFixture(t)
	f.write("cmd/tool/main.go", "package main\n\nimport _ \"example.org/lib/store\"\n\nfunc main() { println(\"installed\") }\n")
	f.write("store/store.go", "package store\n\nimport _ \"example.org/lib\"\n")
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOPRIVATE", "example.org")
	s, err := f.open().NewSandbox(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.run(t.Context(), t.TempDir(), "go", "install", "example.org/lib/cmd/tool@v0.2.0"); err != nil {
		t.Fatal(err)
	}
	if err := s.run(t.Context(), t.TempDir(), s.path("bin", "tool")); err != nil {
		t.Error(err)
	}
	tree := f.open()
	if err := tree.verifyVersions(s.path("bin", "tool"), "v0.2.0"); err != nil {
		t.Error(err)
	}
	if err := tree.verifyVersions(s.path("bin", "tool"), "v0.3.0"); err == nil {
		t.Error("v0.2.0 counts as v0.3.0")
	}
}

func TestWithoutSiblings(t *testing.T) {
	tree := newFixture(t).open()
	const kept = "example.org/library v1.0.0 h1:x=\nexample.org/library v1.0.0/go.mod h1:y=\n"
	sums := "example.org/lib v0.2.0 h1:a=\nexample.org/lib/store v0.2.0/go.mod h1:b=\n" + kept
	if got := tree.withoutSiblings([]byte(sums)); string(got) != kept {
		t.Errorf("%q, want %q", got, kept)
	}
}

func TestFirstProgram(t *testing.T) {
	const text = "# A\n\n```go\nx := 1\n```\n\n```go\npackage main\n\nfunc main() {}\n```\n\n```go\npackage main\n```\n"
	got, err := firstProgram([]byte(text))
	if want := "package main\n\nfunc main() {}\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := firstProgram([]byte("# A\n")); err == nil {
		t.Errorf("no program: %q", got)
	}
}
