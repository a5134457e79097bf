package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// A Mistake is something in the file that must be changed.
type Mistake struct {
	Line    int
	Account string // "" outside of an account
	Text    string
}

// Mistakes are all mistakes of a file, in the order of its lines.
type Mistakes struct {
	File string
	List []Mistake
}

// Error has a line for each mistake.
func (m *Mistakes) Error() string {
	var lines []string
	for _, e := range m.List {
		account := ""
		if e.Account != "" {
			account = e.Account + ": "
		}
		lines = append(lines, fmt.Sprintf("%s:%d: %s%s", m.File, e.Line, account, e.Text))
	}
	return strings.Join(lines, "\n")
}

// maxSize limits the amount of data read, in case the path is wrong.
const maxSize = 1 << 20

// Load reads a file. If it has mistakes, the error is a *Mistakes with all of them.
func Load(name string) (*Config, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a folder, not a configuration file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxSize)
	}
	l := &loader{config: &Config{File: name}, text: string(data), mode: info.Mode().Perm()}
	l.load()
	if len(l.mistakes) > 0 {
		slices.SortStableFunc(l.mistakes, func(a, b Mistake) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &Mistakes{name, l.mistakes}
	}
	return l.config, nil
}

type loader struct {
	config   *Config
	text     string
	mode     os.FileMode
	meta     toml.MetaData
	mistakes []Mistake
	broken   []int // indices of the lines that were not understood and are left out
}

func (l *loader) mistake(line int, account, format string, args ...any) {
	l.mistakes = append(l.mistakes, Mistake{line, account, fmt.Sprintf(format, args...)})
}

func (l *loader) load() {
	top, ok := l.parse()
	if !ok {
		return
	}
	var defaults *table
	var accounts []*table
	for _, key := range l.order(top) {
		prim := top[key]
		line := l.line(prim)
		values, ok := l.table(prim)
		if !ok {
			l.topLevel(key, prim, line)
			continue
		}
		t := &table{name: key, line: line, values: values}
		switch {
		case key == "defaults":
			defaults = t
		case strings.HasPrefix(key, brokenTable):
		case !isAccountName(key):
			l.mistake(line, "", "invalid name of an account %q: letters, digits, and any of ._@+- may be in it", key)
		default:
			accounts = append(accounts, t)
		}
	}
	if defaults != nil {
		l.account(defaults, nil) // its own mistakes, once
	}
	for _, t := range accounts {
		if a := l.account(t, defaults); a != nil {
			l.config.Accounts = append(l.config.Accounts, a)
		}
	}
	if len(accounts) == 0 && len(l.mistakes) == 0 {
		l.mistake(1, "", "there is no account: add a table such as [work]")
	}
}

// topLevel takes a key outside of any table.
func (l *loader) topLevel(key string, prim toml.Primitive, line int) {
	v := l.value(prim)
	var err error
	switch key {
	case "state_dir":
		l.config.StateDir, err = file(v)
	case "jobs":
		l.config.Jobs, err = integer(v, 1, 1000)
	case "per_host":
		l.config.PerHost, err = integer(v, 1, 1000)
	default:
		hint := ""
		if slices.ContainsFunc(Keys, func(k Key) bool { return k.Name == key }) {
			hint = ": it belongs in the table of an account, such as [work]"
		}
		l.mistake(line, "", "unknown key %q%s", key, hint)
		return
	}
	if err != nil {
		l.mistake(line, "", "%s: %v", key, err)
	}
}

// brokenTable begins the name of a table whose header was not understood.
const brokenTable = "broken-table-"

// parse parses the file. A line that is not TOML is noted and left out, so that mistakes after it are found too.
func (l *loader) parse() (map[string]toml.Primitive, bool) {
	lines := strings.Split(l.text, "\n")
	for {
		var top map[string]toml.Primitive
		var err error
		text := strings.Join(lines, "\n")
		l.meta, err = toml.Decode(text, &top)
		if err == nil {
			return top, true
		}
		var parse toml.ParseError
		if !errors.As(err, &parse) {
			l.mistake(1, "", "%v", err)
			return nil, false
		}
		start := min(max(parse.Position.Start, 0), len(text))
		i := strings.Count(text[:start], "\n") // Position.Line is one too many for an unexpected line end
		line := strings.TrimSpace(lines[i])
		l.mistake(i+1, "", "%s", syntaxMistake(parse, line))
		if slices.Contains(l.broken, i) || startsEarlier(parse, line) {
			return nil, false // leaving this line out does not help
		}
		l.broken = append(l.broken, i)
		lines[i] = ""
		if strings.HasPrefix(line, "[") {
			lines[i] = fmt.Sprintf("[%s%d]", brokenTable, i)
		}
	}
}

// startsEarlier reports whether an earlier line is to blame, such as one with an open bracket, because this one is good
// by itself.
func startsEarlier(err toml.ParseError, line string) bool {
	var any map[string]any
	_, alone := toml.Decode(line, &any)
	return alone == nil && !strings.Contains(err.Message, "already")
}

var secretLine = regexp.MustCompile(`(?i)pass|secret|token|proxy|url`)

// syntaxMistake describes a line that is not TOML. It does not quote a line that may hold a secret.
func syntaxMistake(err toml.ParseError, line string) string {
	if secretLine.MatchString(line) {
		return "not TOML: strings need quotes, brackets must be closed, and a key must not be repeated"
	}
	return "not TOML: " + strings.ReplaceAll(err.Message, "\n", " ")
}

// order returns the keys of the top level in the order of the file.
func (l *loader) order(top map[string]toml.Primitive) []string {
	var keys []string
	for _, k := range l.meta.Keys() {
		if _, ok := top[k[0]]; ok && !slices.Contains(keys, k[0]) {
			keys = append(keys, k[0])
		}
	}
	return keys
}

// A locator fails to decode any value; the error contains the position of the value.
type locator struct{}

func (*locator) UnmarshalTOML(any) error { return errors.New("here") }

// line returns the line of a value. A table that only the headers of tables within imply is where the first of them is.
func (l *loader) line(prim toml.Primitive) int {
	var parse toml.ParseError
	if errors.As(l.meta.PrimitiveDecode(prim, &locator{}), &parse) && parse.Position.Line > 0 {
		return parse.Position.Line
	}
	first := 0
	values, _ := l.table(prim)
	for _, v := range values {
		if n := l.line(v); first == 0 || n < first {
			first = n
		}
	}
	return max(first, 1)
}

// table returns the keys of a table; ok is false for a value of another type.
func (l *loader) table(prim toml.Primitive) (values map[string]toml.Primitive, ok bool) {
	if _, ok := l.value(prim).(map[string]any); !ok {
		return nil, false
	}
	return values, l.meta.PrimitiveDecode(prim, &values) == nil
}

func (l *loader) value(prim toml.Primitive) (v any) {
	if err := l.meta.PrimitiveDecode(prim, &v); err != nil {
		return nil
	}
	return v
}

func isAccountName(s string) bool {
	if s == "" || len(s) > 200 || strings.ContainsRune(".-", rune(s[0])) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r >= 0x80 || !isAlphanumeric(byte(r)) && !strings.ContainsRune("._@+-", r)
	})
}

// exposed reports whether others can read the file.
func (l *loader) exposed() bool { return runtime.GOOS != "windows" && l.mode&0o077 != 0 }
