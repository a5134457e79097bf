package boltstore

import (
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

type readerFunc func(io.Reader) iter.Seq2[ForeignEntry, error]

func collect(seq iter.Seq2[ForeignEntry, error]) (entries []ForeignEntry, err error) {
	for e, err := range seq {
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// TestReadFiles reads files that mpop 1.4.18, getmail 6.18.11, and fetchmail 6.4.37 have written.
func TestReadFiles(t *testing.T) {
	joe := func(e ForeignEntry) ForeignEntry { e.User, e.Host = "joe@example.org", "127.0.0.1"; return e }
	ann := func(e ForeignEntry) ForeignEntry { e.User, e.Host = "ann smith", "localhost"; return e }
	list := func(of func(ForeignEntry) ForeignEntry, uids ...string) (entries []ForeignEntry) {
		for _, uid := range uids {
			entries = append(entries, of(ForeignEntry{UID: uid}))
		}
		return entries
	}
	at := func(seconds int64, uids ...string) []ForeignEntry {
		return list(func(e ForeignEntry) ForeignEntry { e.Time = time.Unix(seconds, 0); return e }, uids...)
	}
	plain := list(joe, "00000001.trial", "00000002.trial", "00000003.trial")
	long := strings.Repeat("x", 128) // cut by fetchmail
	for _, test := range []struct {
		file string
		read readerFunc
		want []ForeignEntry
	}{
		{"mpop-accounts", ReadMpop, append(list(ann, "ABC1", "ABC2", "abc1"), plain...)},
		{"mpop-odd", ReadMpop, list(joe, `"q2"`, `%41:4`, `..1`, `<5@x>`, `\n3`)},
		{"mpop-space", ReadMpop, list(joe, "a b  1", "a b  2", "a b  3", "a b  4", "a b  5")},
		{"mpop-twins", ReadMpop, list(joe, "twin1", "twin1", "twin2", "twin2", "twin3")},
		{"getmail-plain", ReadGetmail, at(1795652570, "00000003.trial", "00000002.trial", "00000001.trial", "00000005.trial", "00000004.trial")},
		{"getmail-odd", ReadGetmail, at(1795652571, `\n3`, `%41:4`, `<5@x>`, `"q2"`, `..1`)},
		{"fetchmail-accounts", ReadFetchmail, append(append([]ForeignEntry{}, plain...), list(ann, "ABC1", "abc1", "ABC2")...)},
		{"fetchmail-odd", ReadFetchmail, list(joe, `..1`, `"q2"`, `\n3`, `%41:4`, `<5@x>`)},
		{"fetchmail-space", ReadFetchmail, list(joe, "a", "a", "a", "a", "a")},
		{"fetchmail-8bit", ReadFetchmail, list(joe, "\xe9\xff1", "\xe9\xff2", "\xe9\xff3", "\xe9\xff4", "\xe9\xff5")},
		{"fetchmail-long", ReadFetchmail, list(joe, long, long, long, long, long)},
		{"fetchmail-twins", ReadFetchmail, list(joe, "twin1", "twin1", "twin2", "twin2", "twin3")},
	} {
		f, err := os.Open(filepath.Join("testdata", test.file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := collect(test.read(iotest.OneByteReader(f)))
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.file, diff)
		}
	}
}

func TestReadErrors(t *testing.T) {
	const head = "# comment\n# comment\n"
	for _, test := range []struct {
		name string
		read readerFunc
		text string
		line int
		want string // part of the error
	}{
		{"mpop without list", ReadMpop, head + "uid\n", 3, `"uid" outside a list`},
		{"mpop after the list", ReadMpop, " 1 host joe\nuid1\nuid2\n", 3, `"uid2" outside a list`},
		{"mpop comment after the list", ReadMpop, " 1 host joe\n#uid\n#uid\n", 3, `"#uid" outside a list`},
		{"mpop count", ReadMpop, head + " x host joe\n", 3, `number of unique-ids "x"`},
		{"mpop zero", ReadMpop, " 0 host joe\n", 1, `number of unique-ids "0"`},
		{"mpop negative", ReadMpop, " -1 host joe\n", 1, `number of unique-ids "-1"`},
		{"mpop huge", ReadMpop, " 99999999999999999999 host joe\n", 1, `number of unique-ids`},
		{"mpop no user", ReadMpop, " 1 host\nuid\n", 1, `no user name`},
		{"mpop no host", ReadMpop, " 1  joe\nuid\n", 1, `no host`},
		{"mpop missing ids", ReadMpop, " 3 host joe\nuid1\n", 3, "2 unique-ids of joe at host are missing"},
		{"mpop empty id", ReadMpop, " 2 host joe\n\nuid\n", 2, `malformed unique-id ""`},
		{"mpop truncated", ReadMpop, " 2 host joe\nuid1\nuid", 3, "truncated"},
		{"mpop NUL", ReadMpop, " 1 host joe\nui\x00d\n", 2, `malformed`},
		{"getmail no NUL", ReadGetmail, "uid\x001\nuid 2\n", 2, `no NUL after the unique-id "uid 2"`},
		{"getmail time", ReadGetmail, "uid\x00yesterday\n", 1, `time "yesterday"`},
		{"getmail two NULs", ReadGetmail, "uid\x00\x001\n", 1, `time "\x001"`},
		{"getmail empty id", ReadGetmail, "\x001\n", 1, "empty"},
		{"getmail truncated", ReadGetmail, "uid\x001\nuid2\x0017956", 2, "truncated"},
		{"fetchmail no id", ReadFetchmail, "joe@host uid\njoe@host\n", 2, "no unique-id"},
		{"fetchmail empty id", ReadFetchmail, "joe@host \n", 1, "no unique-id"},
		{"fetchmail no host", ReadFetchmail, "joe uid\n", 1, `"joe" is not USER@HOST`},
		{"fetchmail empty host", ReadFetchmail, "joe@ uid\n", 1, `"joe@" is not USER@HOST`},
		{"fetchmail empty user", ReadFetchmail, "@host uid\n", 1, `"@host" is not USER@HOST`},
		{"fetchmail blank in host", ReadFetchmail, "joe@host x uid\n", 1, `is not USER@HOST`},
		{"fetchmail truncated", ReadFetchmail, "joe@host uid\njoe@host ui", 2, "truncated"},
		{"fetchmail NUL", ReadFetchmail, "joe@host u\x00id\n", 1, "NUL"},
		{"mpop long line", ReadMpop, " 1 host joe\n" + strings.Repeat("x", maxLine+1) + "\n", 2, "longer than"},
		{"a file of getmail", ReadMpop, "uid\x001\n", 1, "outside a list"},
		{"a file of mpop", ReadFetchmail, head + " 1 host joe\nuid\n", 1, "is not USER@HOST"},
	} {
		_, err := collect(test.read(strings.NewReader(test.text)))
		var lineErr *LineError
		if !errors.As(err, &lineErr) || lineErr.Line != test.line || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want line %d, %q", test.name, err, test.line, test.want)
		}
	}
}

// TestReadStops checks that a failing reader ends the sequence, and that the caller can end it.
func TestReadStops(t *testing.T) {
	for _, test := range []struct {
		read readerFunc
		text string
	}{
		{ReadMpop, " 2 host joe\nuid1\nuid2\n"},
		{ReadGetmail, "uid1\x001\nuid2\x002\n"},
		{ReadFetchmail, "joe@host uid1\njoe@host uid2\n"},
	} {
		failing := io.MultiReader(strings.NewReader(test.text), iotest.ErrReader(io.ErrClosedPipe))
		entries, err := collect(test.read(failing))
		if len(entries) != 2 || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%q: %d entries, %v", test.text, len(entries), err)
		}
		for range test.read(strings.NewReader(test.text)) {
			break
		}
	}
}

func FuzzReadMpop(f *testing.F)      { fuzzReader(f, ReadMpop, "mpop-") }
func FuzzReadGetmail(f *testing.F)   { fuzzReader(f, ReadGetmail, "getmail-") }
func FuzzReadFetchmail(f *testing.F) { fuzzReader(f, ReadFetchmail, "fetchmail-") }

// fuzzReader checks that each line that is accepted is in the file, and that chunks of another size make no difference.
func fuzzReader(f *testing.F, read readerFunc, prefix string) {
	names, err := filepath.Glob("testdata/" + prefix + "*")
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text := string(b)
		entries, err := collect(read(strings.NewReader(text)))
		again, errAgain := collect(read(iotest.OneByteReader(strings.NewReader(text))))
		if diff := cmp.Diff(entries, again); diff != "" || (err == nil) != (errAgain == nil) {
			t.Fatalf("chunks make a difference: %v, %v\n%s", err, errAgain, diff)
		}
		for _, e := range entries {
			if e.UID == "" || strings.ContainsAny(e.UID, "\x00\n") {
				t.Errorf("unique-id %q", e.UID)
			}
			at := strings.Index(text, e.UID)
			if at < 0 {
				t.Fatalf("%q is not in the file", e.UID)
			}
			text = text[at+len(e.UID):] // entries are in the order of the file
			if read1 := e.User + e.Host; strings.Contains(read1, "\n") {
				t.Errorf("account %q at %q", e.User, e.Host)
			}
		}
		var lineErr *LineError
		if err != nil && (!errors.As(err, &lineErr) || lineErr.Line < 1 || lineErr.Line > strings.Count(string(b), "\n")+2) {
			t.Errorf("error %v", err)
		}
	})
}
