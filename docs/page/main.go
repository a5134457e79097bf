// Command page writes a web page with the benchmark plots and the interoperability matrix, from what the commands of
// the modules bench and interop have written. It needs no other file, and no network.
//
//	go run ./docs/page index.html
package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"log"
	"os"
	"path/filepath"
	"regexp"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: page FILE, in a directory of the tree")
	}
	root, err := root()
	if err != nil {
		log.Fatal(err)
	}
	page, err := build(root)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[1], page, 0o644); err != nil {
		log.Fatal(err)
	}
}

// root returns the directory with the go.work above the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.work here or above")
		}
		dir = parent
	}
}

//go:embed page.html
var layout string

// build returns the page made from the results in the tree.
func build(root string) ([]byte, error) {
	type benchmark struct {
		Plots []template.HTML
		Text  template.HTML
	}
	var content struct {
		Benchmarks []benchmark
		Matrix     template.HTML
	}
	for _, files := range [][2]string{{"RESULTS.md", "results.svg"}, {"FETCHERS.md", "fetchers.svg"}} {
		results, err := os.ReadFile(filepath.Join(root, "bench", files[0]))
		if err != nil {
			return nil, err
		}
		svg, err := os.ReadFile(filepath.Join(root, "bench", files[1]))
		if err != nil {
			return nil, err
		}
		var b benchmark
		if b.Text, err = render(results); err != nil {
			return nil, err
		}
		if b.Plots, err = halves(svg); err != nil {
			return nil, fmt.Errorf("%s: %w", files[1], err)
		}
		content.Benchmarks = append(content.Benchmarks, b)
	}
	matrix, err := os.ReadFile(filepath.Join(root, "interop", "MATRIX.md"))
	if err != nil {
		return nil, err
	}
	if content.Matrix, err = render(matrix); err != nil {
		return nil, err
	}
	t, err := template.New("page").Parse(layout)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = t.Execute(&page, content)
	return page.Bytes(), err
}

var (
	image   = regexp.MustCompile(`(?m)^!\[.*\n`)
	heading = regexp.MustCompile(`(</?h)([1-5])`)
	cell    = regexp.MustCompile(`<td( [^>]*)?>(yes|–)`)
	item    = regexp.MustCompile(`<li>`)
	note    = regexp.MustCompile(`<sup>[\d ]+</sup>`)
	number  = regexp.MustCompile(`\d+`)
)

// render converts Markdown without its images. Headings are one level lower, tables can be scrolled, and numbers of
// notes link to the items of the numbered list.
func render(markdown []byte) (template.HTML, error) {
	md := goldmark.New(goldmark.WithExtensions(extension.Table), goldmark.WithRendererOptions(html.WithUnsafe()))
	var out bytes.Buffer
	if err := md.Convert(image.ReplaceAll(markdown, nil), &out); err != nil {
		return "", err
	}
	page := heading.ReplaceAllFunc(out.Bytes(), func(tag []byte) []byte {
		tag[len(tag)-1]++
		return tag
	})
	page = bytes.ReplaceAll(page, []byte("<table>"), []byte(`<div class="scroll" tabindex="0"><table>`))
	page = bytes.ReplaceAll(page, []byte("</table>"), []byte("</table></div>"))
	page = cell.ReplaceAllFunc(page, func(tag []byte) []byte {
		class := "no"
		if bytes.HasSuffix(tag, []byte("yes")) {
			class = "yes"
		}
		return bytes.Replace(tag, []byte("<td"), []byte(`<td class="`+class+`"`), 1)
	})
	n := 0
	page = item.ReplaceAllFunc(page, func([]byte) []byte {
		n++
		return fmt.Appendf(nil, `<li id="note-%d">`, n)
	})
	page = note.ReplaceAllFunc(page, func(sup []byte) []byte {
		return number.ReplaceAll(sup, []byte(`<a href="#note-$0">$0</a>`))
	})
	return template.HTML(page), nil
}

var viewBox = regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`)

// halves returns the two plots that lie side by side in an SVG as one each, so that they fit a narrow screen.
func halves(svg []byte) ([]template.HTML, error) {
	m := viewBox.FindSubmatch(svg)
	if m == nil {
		return nil, errors.New("no viewBox")
	}
	var width, height int
	if _, err := fmt.Sscan(string(m[1])+" "+string(m[2]), &width, &height); err != nil {
		return nil, err
	}
	var plots []template.HTML
	for _, left := range []int{0, width / 2} {
		half := fmt.Sprintf(`viewBox="%d 0 %d %d"`, left, width/2, height)
		plots = append(plots, template.HTML(viewBox.ReplaceAll(svg, []byte(half))))
	}
	return plots, nil
}
