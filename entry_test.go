package pop3

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// TestPlainLines compares the fast path for listings with the parser of single lines: both must agree, and the fast
// path must stop at the first line that is not plain.
func TestPlainLines(t *testing.T) {
	const maxLine = 40
	for _, tt := range []struct {
		lines string
		plain int // lines taken
	}{
		{"1 120\r\n2 200\r\n", 2},
		{"1 120\r\n2 200 octets\r\n3 1\r\n", 1},
		{"1  120\r\n", 0},
		{"1\t120\r\n", 0},
		{" 1 120\r\n", 0},
		{"1 120 \r\n", 0},
		{"1\r\n", 0},
		{"1 \r\n", 0},
		{"0 1\r\n", 0},
		{"1 1\n2 2\r\n", 0},
		{"1 1\r2 2\r\n", 0},
		{"1 1\r\r\n", 0},
		{"1 -1\r\n", 0},
		{".\r\n", 0},
		{"\r\n", 0},
		{"2147483647 123456789012345678\r\n", 1},
		{"1234567890123456789 1\r\n", 0},
		{"0000000000000000001 1\r\n", 0},
		{"1 1234567890123456789\r\n", 0},
		{"00001 0\r\n", 1},
		{strings.Repeat("0", 17) + "1 " + strings.Repeat("0", 18) + "\r\n", 1},
	} {
		checkPlain(t, entries, tt.lines, maxLine, tt.plain)
		checkPlain(t, entries, tt.lines, 3, 0)
	}
	for _, tt := range []struct {
		lines string
		plain int
	}{
		{"1 a\r\n2 b c\r\n3 \xe4.\r\n", 3},
		{"1  a\r\n", 0},
		{"1 \ta\r\n", 0},
		{"1 a\tb\r\n", 0},
		{"1 a\r\n2 b \r\n", 1},
		{"1 a\t\r\n", 0},
		{" 1 a\r\n", 0},
		{"1 \r\n", 0},
		{"1\r\n", 0},
		{"1 abc\n2 def\r\n", 0},
		{"1 abc\n", 0},
		{"0 a\r\n", 0},
		{"1 a\r\r\n", 0},
		{"1234567890123456789 a\r\n", 0},
		{"1 " + strings.Repeat("x", maxLine-2) + "\r\n", 1},
		{"1 " + strings.Repeat("x", maxLine-1) + "\r\n", 0},
	} {
		checkPlain(t, uids, tt.lines, maxLine, tt.plain)
	}
}

func checkPlain[T Entry | UID](t *testing.T, f *form[T], lines string, maxLine, plain int) {
	t.Helper()
	var want []T
	taken := ""
	for line := range strings.Lines(lines) {
		if len(want) < plain {
			e, reason := f.line([]byte(strings.TrimSuffix(line, "\r\n")))
			if reason != "" {
				t.Fatalf("%q: %s", line, reason)
			}
			want = append(want, e)
			taken += line
		}
	}
	got, used := f.plain(make([]T, 0, 5), []byte(lines), lines, maxLine)
	if !slices.Equal(got, want) || used != len(taken) {
		t.Errorf("%q, lines of %d: %v, %d; want %v, %d", lines, maxLine, got, used, want, len(taken))
	}
	if got, used := f.plain(nil, []byte(lines), lines, maxLine); len(got) > 0 || used > 0 {
		t.Errorf("%q without room: %v, %d", lines, got, used)
	}
}

func TestHasControl(t *testing.T) {
	for length := 1; length < 20; length++ {
		for at := range length {
			for c := range 256 {
				b := bytes.Repeat([]byte{0x80}, length)
				b[at] = byte(c)
				if got, want := hasControl(b), c < ' ' || c == 0x7f; got != want {
					t.Fatalf("%q: %v, want %v", b, got, want)
				}
			}
		}
	}
}

// TestEmptyLines has empty and blank lines before, between and after the entries, and a listing with no other line.
// They are always skipped.
func TestEmptyLines(t *testing.T) {
	for name, empty := range map[string]string{"empty": "", "blank": " ", "tab": `\t`, "blanks": `  \t `} {
		for where, lines := range map[string]string{
			"before":  "S: %\nS: 1 120\nS: 2 200",
			"between": "S: 1 120\nS: %\nS: %\nS: 2 200",
			"after":   "S: 1 120\nS: 2 200\nS: %",
			"all":     "S: %\nS: 1 120\nS: %\nS: 2 200\nS: %\nS: %",
			"alone":   "S: %\nS: %",
		} {
			t.Run(name+" "+where, func(t *testing.T) {
				lines := "\nS: +OK\n" + strings.ReplaceAll(lines, "%", empty) + "\nS: ."
				want := 2
				if where == "alone" {
					want = 0
				}
				bothViews(t, func(t *testing.T, byC bool) {
					c := dialogue(t, nil, "\nC: LIST"+lines+"\nC: UIDL"+lines+"\nC: NOOP\nS: +OK")
					l, err := c.List(background)
					must(t, err)
					if got, err := collect(l, byC); err != nil || !slices.Equal(got, []Entry{{1, 120}, {2, 200}}[:want]) {
						t.Errorf("List: %v, %v", got, err)
					}
					u, err := c.UIDL(background)
					must(t, err)
					if got, err := collect(u, byC); err != nil || !slices.Equal(got, []UID{{1, "120"}, {2, "200"}}[:want]) {
						t.Errorf("UIDL: %v, %v", got, err)
					}
					must(t, c.Noop(background))
				})
			})
		}
	}
}

// Empty lines count toward the limit of a listing.
func TestEmptyLinesWithoutEnd(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, &Options{MaxEntries: 1000}, `
			C: LIST
			S: +OK
			!repeat 1000000 
			!expect-close`)
		l, err := c.List(background)
		must(t, err)
		_, err = collect(l, byC)
		wantError(t, err, ErrTooManyEntries)
	})
}

func TestParseEntry(t *testing.T) {
	for _, test := range []struct {
		line string
		want Entry // zero if refused
	}{
		{"1 120", Entry{1, 120}},
		{" 1 120", Entry{1, 120}},
		{"\t 1\t120", Entry{1, 120}},
		{"1 120 ", Entry{1, 120}},
		{"1 120 \t", Entry{1, 120}},
		{" 1 120 more of it\t", Entry{1, 120}},
		{"", Entry{}},
		{" ", Entry{}},
		{"1 ", Entry{}},
		{" 1", Entry{}},
		{"\u00a01 120", Entry{}},
		{"\v1 120", Entry{}},
	} {
		if got, reason := parseEntry([]byte(test.line)); got != test.want || (reason == "") != (test.want != Entry{}) {
			t.Errorf("%q is %v, %q; want %v", test.line, got, reason, test.want)
		}
	}
}

func TestParseUID(t *testing.T) {
	for _, test := range []struct {
		line string
		want UID // zero if refused
	}{
		{"1 a", UID{1, "a"}},
		{" 1 a", UID{1, "a"}},
		{"\t1\ta", UID{1, "a"}},
		{"1 a ", UID{1, "a"}},
		{"1 a\t", UID{1, "a"}},
		{"1 a b  \t ", UID{1, "a b"}},
		{" 1  a b", UID{1, "a b"}},
		{"1 \u00a0", UID{1, "\u00a0"}},
		{"", UID{}},
		{" 1", UID{}},
		{"1 ", UID{}},
		{"1 \t ", UID{}},
		{"1 a\tb", UID{}},
		{"1 a\r", UID{}},
	} {
		if got, reason := parseUID([]byte(test.line)); got != test.want || (reason == "") != (test.want != UID{}) {
			t.Errorf("%q is %v, %q; want %v", test.line, got, reason, test.want)
		}
	}
}
