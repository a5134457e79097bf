package docs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// A block is a code block of a document.
type block struct {
	file     string // relative to root
	line     int    // of the code
	language string
	code     string
	// comment is an HTML comment right before the block. Readers do not see it, the tests obey it:
	//
	//	<!-- not run: REASON -->    a shell block that cannot run here
	//	<!-- given: DECLARATIONS -->    variables that a Go block uses and does not declare
	comment string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

// directive returns the text of the comment if it begins with name and a colon.
func (b block) directive(name string) (string, bool) {
	text, ok := strings.CutPrefix(b.comment, name+":")
	return strings.TrimSpace(text), ok
}

// root is the directory of the tree.
const root = ".."

// documents returns the Markdown files for users and contributors. Generated files are excluded.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "*/README.md", "*/*/README.md", ".github/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if !slices.Contains(files, filepath.Join(root, "README.md")) {
		t.Fatalf("no README.md among %q", files)
	}
	return files
}

// parse returns the code blocks of a document, and the targets of its links.
func parse(file string, source []byte) (blocks []block, links []string) {
	doc := goldmark.DefaultParser().Parse(text.NewReader(source))
	name, err := filepath.Rel(root, file)
	if err != nil {
		name = file
	}
	add := func(n ast.Node, language string) {
		b := block{file: filepath.ToSlash(name), language: language}
		lines := n.Lines()
		if lines.Len() > 0 {
			b.line = bytes.Count(source[:lines.At(0).Start], []byte("\n")) + 1
		}
		b.code = string(lines.Value(source))
		if html, ok := n.PreviousSibling().(*ast.HTMLBlock); ok {
			comment := strings.TrimSpace(string(html.Lines().Value(source)))
			comment, _ = strings.CutPrefix(comment, "<!--")
			comment, _ = strings.CutSuffix(comment, "-->")
			b.comment = strings.TrimSpace(comment)
		}
		blocks = append(blocks, b)
	}
	ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.FencedCodeBlock:
			add(n, string(n.Language(source)))
		case *ast.CodeBlock:
			add(n, "")
		case *ast.Link:
			links = append(links, string(n.Destination))
		case *ast.Image:
			links = append(links, string(n.Destination))
		}
		return ast.WalkContinue, nil
	})
	return blocks, links
}

// allBlocks returns the code blocks of all documents.
func allBlocks(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, file := range documents(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks, _ := parse(file, source)
		all = append(all, blocks...)
	}
	return all
}

// TestLanguages fails for code that no test would look at.
func TestLanguages(t *testing.T) {
	known := []string{"go", "sh", "text", "toml", "json", "ini", "yaml", "html"}
	for _, b := range allBlocks(t) {
		if !slices.Contains(known, b.language) {
			t.Errorf("%v: the language is %q: use a fence with one of %q", b, b.language, known)
		}
		if _, ok := b.directive("not run"); ok && b.language != "sh" {
			t.Errorf("%v: only shell blocks are run", b)
		}
	}
}

// TestLinks follows the links to files of the tree.
func TestLinks(t *testing.T) {
	for _, file := range documents(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, links := parse(file, source)
		for _, link := range links {
			target, _, _ := strings.Cut(link, "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), filepath.FromSlash(target))); err != nil {
				t.Errorf("%s: link to %s: %v", file, link, err)
			}
		}
	}
}

func TestParse(t *testing.T) {
	source := "# T\n\n[a](b.md#c) ![d](e.svg)\n\n<!-- not run: because -->\n```sh\nx\n```\n\n    indented\n\n- item\n\n  ```go\n  y\n  ```\n"
	blocks, links := parse(filepath.Join(root, "x.md"), []byte(source))
	want := []block{
		{file: "x.md", line: 7, language: "sh", code: "x\n", comment: "not run: because"},
		{file: "x.md", line: 10, code: "indented\n"},
		{file: "x.md", line: 15, language: "go", code: "y\n"},
	}
	if !slices.Equal(blocks, want) {
		t.Errorf("blocks %+v, want %+v", blocks, want)
	}
	if !slices.Equal(links, []string{"b.md#c", "e.svg"}) {
		t.Errorf("links %q", links)
	}
	if reason, ok := blocks[0].directive("not run"); !ok || reason != "because" {
		t.Errorf("directive %q, %v", reason, ok)
	}
}
