package docs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/version"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// givens are the variables that every Go block without a package clause may use. Others are declared by a comment.
const givens = `
	ctx            context.Context
	c              *pop3.Client
	opts           *pop3.Options
	err            error
	addr           string
	user, password string
	n              int
`

// libraries are packages of other modules that Go blocks may use without an import.
var libraries = map[string]string{
	"sasl":   "github.com/emersion/go-sasl",
	"oauth2": "golang.org/x/oauth2",
}

// packages returns the import path of each package that a block may use, by its name: those of this tree, libraries,
// and the standard library.
var packages = sync.OnceValues(func() (map[string]string, error) {
	all := make(map[string]string)
	for _, pattern := range []string{"std", "github.com/seed-5b1d5243/pop3/..."} {
		out, err := exec.Command("go", "list", "-f", "{{.Name}} {{.ImportPath}}", pattern).Output()
		if err != nil {
			return nil, fmt.Errorf("go list %s: %w", pattern, err)
		}
		for line := range strings.Lines(string(out)) {
			name, importPath, _ := strings.Cut(strings.TrimSpace(line), " ")
			parts := strings.Split(importPath, "/")
			if name == "main" || slices.Contains(parts, "internal") || slices.Contains(parts, "vendor") {
				continue
			}
			if old, ok := all[name]; !ok || pattern != "std" || strings.Count(importPath, "/") < strings.Count(old, "/") {
				all[name] = importPath
			}
		}
	}
	maps.Copy(all, libraries)
	all["rand"], all["template"] = "math/rand/v2", "html/template"
	return all, nil
})

// TestGo compiles every Go block.
func TestGo(t *testing.T) {
	work, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	if newest := regexp.MustCompile(`(?m)^go (.+)$`).FindSubmatch(work); newest == nil {
		t.Fatal("go.work names no Go version")
	} else if version.Compare(runtime.Version(), "go"+string(newest[1])) < 0 {
		t.Skipf("the documents use modules for Go %s", newest[1])
	}
	blocks := slices.DeleteFunc(allBlocks(t), func(b block) bool { return b.language != "go" })
	if len(blocks) == 0 {
		t.Fatal("no Go block")
	}
	for _, b := range blocks {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			if err := compile(t.TempDir(), b); err != nil {
				t.Error(err)
			}
		})
	}
}

// compile vets a Go block: a complete file, declarations, or statements.
func compile(dir string, b block) error {
	source, err := program(b)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "block.go")
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return err
	}
	var out []byte
	if strings.HasPrefix(b.code, "package ") {
		out, err = exec.Command("go", "vet", file).CombinedOutput()
	} else {
		out, err = exec.Command("go", "build", "-o", os.DevNull, file).CombinedOutput() // vet objects to a return in the middle
	}
	if err != nil {
		return fmt.Errorf("%v: %w\n%s\n%s", b, err, out, source)
	}
	return nil
}

// program makes a file of a Go block.
func program(b block) ([]byte, error) {
	if strings.HasPrefix(b.code, "package ") {
		return []byte(b.code), nil
	}
	var imports, given []string
	if declarations, ok := b.directive("given"); ok {
		for _, d := range strings.FieldsFunc(declarations, func(r rune) bool { return r == ';' || r == '\n' }) {
			if d = strings.TrimSpace(d); strings.HasPrefix(d, "import ") {
				imports = append(imports, d)
			} else if d != "" {
				given = append(given, "var "+d)
			}
		}
	}
	body := b.code
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+b.code, 0); err != nil {
		if body, given, err = function(b, given); err != nil {
			return nil, err
		}
	}
	text := strings.Join(given, "\n") + "\nvar (" + givens + ")\n\n" + body
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+strings.Join(imports, "\n")+"\n"+text, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", b, err)
	}
	more, err := missingImports(file)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "package p\n\n%s\n%s\n%s", strings.Join(imports, "\n"), strings.Join(more, "\n"), text)
	return out.Bytes(), nil
}

// function makes a function of the statements in a block. Variables that they declare count as used, and so do those
// given, which it declares itself.
func function(b block, given []string) (string, []string, error) {
	code := strings.Join(given, "\n") + "\n" + b.code
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+code+"\n}", parser.SkipObjectResolution)
	if err != nil {
		return "", nil, fmt.Errorf("%v: neither declarations nor statements: %w", b, err)
	}
	var used strings.Builder
	body := file.Decls[0].(*ast.FuncDecl).Body
	for _, statement := range body.List {
		switch s := statement.(type) {
		case *ast.AssignStmt:
			for _, left := range s.Lhs {
				if name, ok := left.(*ast.Ident); ok && s.Tok == token.DEFINE && name.Name != "_" {
					fmt.Fprintf(&used, "_ = %s\n", name.Name)
				}
			}
		case *ast.DeclStmt:
			for _, spec := range s.Decl.(*ast.GenDecl).Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for _, name := range v.Names {
						fmt.Fprintf(&used, "_ = %s\n", name.Name)
					}
				}
			}
		}
	}
	result, end := "error", "return nil"
	ast.Inspect(body, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) == 0 {
			result, end = "", ""
		}
		_, inner := n.(*ast.FuncLit)
		return !inner
	})
	return fmt.Sprintf("func _() %s {\n%s\n%s%s\n}\n", result, code, &used, end), nil, nil
}

// missingImports returns imports for the packages that a file uses and does not import.
func missingImports(file *ast.File) ([]string, error) {
	known, err := packages()
	if err != nil {
		return nil, err
	}
	declared := make(map[string]bool)
	for _, i := range file.Imports {
		name := path.Base(strings.Trim(i.Path.Value, `"`))
		declared[strings.TrimPrefix(name, "go-")] = true
		if i.Name != nil {
			declared[i.Name.Name] = true
		}
	}
	ast.Inspect(file, func(n ast.Node) bool { // a variable may have the name of a package
		switch n := n.(type) {
		case *ast.ValueSpec:
			for _, name := range n.Names {
				declared[name.Name] = true
			}
		case *ast.Field:
			for _, name := range n.Names {
				declared[name.Name] = true
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if name, ok := left.(*ast.Ident); ok && n.Tok == token.DEFINE {
					declared[name.Name] = true
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if name, ok := e.(*ast.Ident); ok {
					declared[name.Name] = true
				}
			}
		}
		return true
	})
	imports := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && !declared[x.Name] && known[x.Name] != "" {
				imports[fmt.Sprintf("import %q", known[x.Name])] = true
			}
		}
		return true
	})
	return slices.Sorted(maps.Keys(imports)), nil
}

func TestCompile(t *testing.T) {
	for _, test := range []struct {
		name, comment, code string
		ok                  bool
	}{
		{"program", "", "package main\n\nfunc main() {}\n", true},
		{"program that does not compile", "", "package main\n\nfunc main() { x }\n", false},
		{"program that vet objects to", "", "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Printf(\"%d\", \"x\") }\n", false},
		{"declarations", "", "func login(c *pop3.Client) error {\n\treturn c.Login(context.Background(), \"user\", password)\n}\n", true},
		{"statements", "", "m, err := c.Retr(ctx, 1)\nif err != nil {\n\treturn err\n}\n", true},
		{"return without a value", "", "if err := c.Noop(ctx); err != nil {\n\tlog.Print(err)\n\treturn\n}\n", true},
		{"given", "given: w io.Writer; numbers []int", "for m, err := range c.RetrAll(ctx, numbers) {\n\tif err != nil {\n\t\treturn err\n\t}\n\tm.WriteTo(w)\n}\n", true},
		{"not given", "", "m.WriteTo(w)\n", false},
		{"other method", "", "c.Delete(ctx, 1)\n", false},
		{"wrong type", "", "c.Dele(ctx, \"1\")\n", false},
		{"no Go", "", "pop3 fetch\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := compile(t.TempDir(), block{file: "test.md", line: 1, language: "go", code: test.code, comment: test.comment})
			if (err == nil) != test.ok {
				t.Errorf("compile returned %v", err)
			}
		})
	}
}
