package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// Prepare lets the modules require this version of each other.
func (t *Tree) Prepare(version string) error {
	if err := checkVersion(version); err != nil {
		return err
	}
	for _, m := range t.Modules {
		changed := false
		for _, r := range m.File.Require {
			if t.has(r.Mod.Path) && r.Mod.Version != version {
				if err := m.File.AddRequire(r.Mod.Path, version); err != nil {
					return err
				}
				changed = true
			}
		}
		if !changed {
			continue
		}
		data, err := m.File.Format()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(t.Dir(m), "go.mod"), data, 0o644); err != nil {
			return err
		}
	}
	for _, r := range t.Work.Replace {
		if old, dir := r.Old, r.New.Path; t.has(old.Path) && old.Version != version {
			if err := t.Work.DropReplace(old.Path, old.Version); err != nil {
				return err
			}
			if err := t.Work.AddReplace(old.Path, version, dir, ""); err != nil {
				return err
			}
		}
	}
	t.Work.Cleanup()
	return os.WriteFile(filepath.Join(t.Root, "go.work"), modfile.Format(t.Work.Syntax), 0o644)
}

// checkVersion refuses a version that modules without a major version in their paths cannot have.
func checkVersion(version string) error {
	if semver.Canonical(version) != version {
		return fmt.Errorf("%s is not a version like v0.2.0", version)
	}
	if major := semver.Major(version); major != "v0" && major != "v1" {
		return fmt.Errorf("%s needs module paths that end in /%s", version, major)
	}
	return nil
}

// Tag creates the tags of a release in the local repository, or none if anything is missing.
func (t *Tree) Tag(ctx context.Context, version string) error {
	if err := t.checkRelease(ctx, version); err != nil {
		return fmt.Errorf("%s cannot be released:\n%w", version, err)
	}
	var tags []string
	for _, m := range t.Modules {
		if m.Internal() {
			continue
		}
		tag := m.Tag(version)
		if _, err := t.git(ctx, "tag", "--annotate", "--message", "pop3 "+version, tag); err != nil {
			for _, created := range tags {
				_, undo := t.git(ctx, "tag", "--delete", created)
				err = errors.Join(err, undo)
			}
			return err
		}
		tags = append(tags, tag)
	}
	fmt.Printf("tagged; to publish:\n\n\tgit push --atomic origin main %s\n", strings.Join(tags, " "))
	return nil
}

// checkRelease returns everything that is missing for a release of HEAD.
func (t *Tree) checkRelease(ctx context.Context, version string) error {
	if err := checkVersion(version); err != nil {
		return err
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := t.Check(); err != nil {
		errs = append(errs, err)
	}
	for _, s := range t.siblings() {
		if s.Version != version {
			fail("go.mod files require %s %s: run prepare, commit, run .ci/run", s.Path, s.Version)
		}
	}

	changes, err := os.ReadFile(filepath.Join(t.Root, "CHANGELOG.md"))
	if err != nil {
		errs = append(errs, err)
	} else if !describes(string(changes), version) {
		fail("CHANGELOG.md has no section about %s", version)
	}

	git := func(args ...string) string {
		out, err := t.git(ctx, args...)
		if err != nil {
			errs = append(errs, err)
		}
		return out
	}
	if status := git("status", "--porcelain"); status != "" {
		fail("uncommitted changes:\n%s", status)
	}
	if branch := git("branch", "--show-current"); branch != "main" {
		fail("the branch is %q, not main", branch)
	}
	existing := strings.Fields(git("tag", "--list"))
	for _, tag := range existing {
		if semver.IsValid(tag) && semver.Compare(tag, version) > 0 {
			fail("%s is older than the tag %s", version, tag)
		}
		for _, m := range t.Modules {
			if tag == m.Tag(version) {
				fail("the tag %s exists", tag)
			}
		}
	}
	head := git("rev-parse", "HEAD")
	passed := git("rev-parse", "--git-path", "ci-passed")
	if !filepath.IsAbs(passed) {
		passed = filepath.Join(t.Root, passed)
	}
	if commit, err := os.ReadFile(passed); err != nil || strings.TrimSpace(string(commit)) != head {
		fail(".ci/run has not passed on this commit")
	}
	return errors.Join(errs...)
}

var heading = regexp.MustCompile(`(?m)^## .*$`)

// describes reports whether a change log has a section about version that is not empty.
func describes(changelog, version string) bool {
	number := strings.TrimPrefix(version, "v")
	sections := heading.FindAllStringIndex(changelog, -1)
	for i, s := range sections {
		end := len(changelog)
		if i+1 < len(sections) {
			end = sections[i+1][0]
		}
		title := strings.Fields(changelog[s[0]:s[1]])
		if len(title) > 1 && strings.TrimPrefix(strings.Trim(title[1], "[]"), "v") == number {
			return strings.TrimSpace(changelog[s[1]:end]) != ""
		}
	}
	return false
}

// git runs Git in the tree and returns its output.
func (t *Tree) git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", t.Root}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
