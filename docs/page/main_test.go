package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBuild builds the page from the results in the tree.
func TestBuild(t *testing.T) {
	root, err := root()
	if err != nil {
		t.Fatal(err)
	}
	data, err := build(root)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, part := range []string{"<svg ", `viewBox="0 0 `, "raw socket", "bare UIDL and LIST", "dovecot", `<td class="yes">yes`} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	if strings.Contains(page, "<img") {
		t.Error("the page refers to an image file")
	}
	for _, link := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `id="`+link[1]+`"`) {
			t.Errorf("nothing has the id %q", link[1])
		}
	}
}

func TestRender(t *testing.T) {
	got, err := render([]byte("# Title\n\n![plot](plot.svg)\n\n| a | b |\n|---|---|\n| yes <sup>1 2</sup> | – |\n\n1. first\n2. second\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"<h2>Title</h2>",
		`<div class="scroll" tabindex="0"><table>`,
		`<td class="yes">yes <sup><a href="#note-1">1</a> <a href="#note-2">2</a></sup></td>`,
		`<td class="no">–</td>`,
		`<li id="note-2">second</li>`,
	} {
		if !strings.Contains(string(got), part) {
			t.Errorf("%s\nlacks %s", got, part)
		}
	}
}

func TestHalves(t *testing.T) {
	plots, err := halves([]byte(`<svg viewBox="0 0 100 40"><rect width="100" height="40"/></svg>`))
	if err != nil || len(plots) != 2 {
		t.Fatal(plots, err)
	}
	for i, want := range []string{`viewBox="0 0 50 40"`, `viewBox="50 0 50 40"`} {
		if !strings.Contains(string(plots[i]), want) {
			t.Errorf("%s lacks %s", plots[i], want)
		}
		if d := xml.NewDecoder(strings.NewReader(string(plots[i]))); d != nil {
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if _, err := halves([]byte("<svg/>")); err == nil {
		t.Error("no error for an SVG without a viewBox")
	}
}

func TestMissingResults(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bench"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := build(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("build returned %v", err)
	}
}
