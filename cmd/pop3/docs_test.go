package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
)

// The configurations in the documentation have no mistakes.
func TestDocumentedConfigurations(t *testing.T) {
	onUnix(t)
	page, err := os.ReadFile("../../docs/fetch.md")
	if err != nil {
		t.Fatal(err)
	}
	configurations := []string{exampleConfiguration}
	for i, part := range strings.Split(string(page), "```toml\n") {
		if i > 0 {
			block, _, _ := strings.Cut(part, "```")
			configurations = append(configurations, block)
		}
	}
	if len(configurations) < 4 {
		t.Errorf("%d configurations", len(configurations))
	}
	for _, text := range configurations {
		name := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(name); err != nil {
			t.Error(err)
		}
	}
}

// The documentation names every type of event and every exit status.
func TestDocumentedEvents(t *testing.T) {
	page, err := os.ReadFile("../../docs/fetch.md")
	if err != nil {
		t.Fatal(err)
	}
	types := []string{"problem", "plan", "account", "summary", "status"}
	for _, name := range eventTypes {
		types = append(types, name)
	}
	for _, name := range types {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("the type %q is missing", name)
		}
	}
	for _, s := range aboutStatus[:8] {
		if !strings.Contains(string(page), "\n| "+s[0]+" | ") {
			t.Errorf("the status %s is missing", s[0])
		}
	}
}
