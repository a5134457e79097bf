package boltstore

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-5b1d5243/pop3/fetch"
)

var update = flag.Bool("update", false, "write testdata/export")

func export(t *testing.T, s *Store) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestExport compares with a file: the format is stable.
func TestExport(t *testing.T) {
	s := mustOpen(t, statePath(t))
	if err := s.Put(t.Context(), sampleRecords()...); err != nil {
		t.Fatal(err)
	}
	got := export(t, s)
	if *update {
		if err := os.WriteFile("testdata/export", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/export")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestImport(t *testing.T) {
	text, err := os.ReadFile("testdata/export")
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, statePath(t))
	other := fetch.Record{Key: fetch.Key{UID: "other"}, State: fetch.Done, Size: 3}
	replaced := fetch.Record{Key: fetch.Key{UID: "0001"}, State: fetch.Refused, Reason: "replaced"}
	if err := s.Put(t.Context(), other, replaced); err != nil {
		t.Fatal(err)
	}
	want := append(sampleRecords(), other)
	sortRecords(want)
	for range 2 { // again without effect
		n, err := s.Import(t.Context(), iotest.OneByteReader(bytes.NewReader(text)))
		if err != nil || n != len(want)-1 {
			t.Fatalf("%d records, %v", n, err)
		}
		if diff := cmp.Diff(want, mustLoad(t, s)); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	}
	if err := s.Delete(t.Context(), other.Key); err != nil {
		t.Fatal(err)
	}
	if got := export(t, s); got != string(text) {
		t.Error(cmp.Diff(string(text), got))
	}
}

func TestImportByHand(t *testing.T) {
	const text = "# pop3 state, format 1\r\n\n# a comment\naccount " + testAccount + "\n\n# more\ndone  a%20b   size=7\t nth=2\ndone %c3%BC time=2026-11-26T01:22:38+01:00\nend 2\n\n# the end\n"
	s := mustOpen(t, statePath(t))
	if n, err := s.Import(t.Context(), strings.NewReader(text)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	want := []fetch.Record{
		{Key: fetch.Key{UID: "a b", Nth: 2}, State: fetch.Done, Size: 7},
		{Key: fetch.Key{UID: "ü"}, State: fetch.Done, Size: -1, Time: time.Unix(1795652558, 0)},
	}
	if diff := cmp.Diff(want, mustLoad(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestImportErrors(t *testing.T) {
	const head = textFirst + "\naccount " + testAccount + "\n"
	for _, test := range []struct {
		text string
		line int
		want string
	}{
		{"", 1, "does not begin with"},
		{"# pop3 state\n", 1, "does not begin with"},
		{"# pop3 state, format 2\n", 1, "newer version"},
		{textFirst, 1, "truncated"},
		{textFirst + "\n", 2, "account is missing"},
		{textFirst + "\ndone uid\nend 1\n", 2, "account is missing"},
		{textFirst + "\naccount %4\nend 0\n", 2, "inside an escape"},
		{textFirst + "\naccount ann@pop.example.org\nend 0\n", 2, "another account"},
		{head, 3, `"end 0" is missing`},
		{head + "done uid\n", 4, `"end 1" is missing`},
		{head + "done uid\nend 2\n", 4, `"end 2" after 1 records`},
		{head + "done uid\nend 01\n", 4, `"end 01" after 1 records`},
		{head + "done uid\nend 1", 4, "truncated"},
		{head + "end 0\ndone uid\n", 4, "after the end"},
		{head + "done\nend 1\n", 3, "no unique-id"},
		{head + "new uid\nend 1\n", 3, `unknown state "new"`},
		{head + "done %zz\nend 1\n", 3, "invalid escape"},
		{head + "done a%4\nend 1\n", 3, "inside an escape"},
		{head + "done \"a\"\nend 1\n", 3, "unescaped"},
		{head + "done a\x01\nend 1\n", 3, "unescaped"},
		{head + "done ü\nend 1\n", 3, "unescaped"},
		{head + "done uid size=x\nend 1\n", 3, `"size=x"`},
		{head + "done uid size=-1\nend 1\n", 3, `"size=-1"`},
		{head + "done uid size=9223372036854775808\nend 1\n", 3, `"size=9223372036854775808"`},
		{head + "done uid nth=99999999999\nend 1\n", 3, `"nth=99999999999"`},
		{head + "done uid time=today\nend 1\n", 3, `"time=today"`},
		{head + "done uid header=00\nend 1\n", 3, "not 16 bytes"},
		{head + "done uid header=xx\nend 1\n", 3, `"header=xx"`},
		{head + "done uid only=body\nend 1\n", 3, "unknown value"},
		{head + "done uid color=red\nend 1\n", 3, "unknown field"},
		{head + "done uid size\nend 1\n", 3, `"size"`},
		{head + "done uid size=1 size=2\nend 1\n", 3, "twice"},
	} {
		s := mustOpen(t, statePath(t))
		n, err := s.Import(t.Context(), strings.NewReader(test.text))
		var lineErr *LineError
		if n != 0 || !errors.As(err, &lineErr) || lineErr.Line != test.line || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %d, %v, want line %d, %q", test.text, n, err, test.line, test.want)
		}
		if got := mustLoad(t, s); len(got) != 0 {
			t.Errorf("%q: stored %v", test.text, got)
		}
		s.Close()
	}
}

func TestImportForeign(t *testing.T) {
	now := time.Unix(1795700000, 0)
	open := func() *Store { return mustOpen(t, statePath(t)) }
	file := func(name string) *os.File {
		f, err := os.Open("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	done := func(uid string, nth int, at time.Time) fetch.Record {
		return fetch.Record{Key: fetch.Key{UID: uid, Nth: nth}, State: fetch.Done, Size: -1, Time: at}
	}

	s := open()
	known := fetch.Record{Key: fetch.Key{UID: "twin1"}, State: fetch.Refused, Size: 5}
	if err := s.Put(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	n, err := s.ImportForeign(t.Context(), ReadMpop(file("mpop-twins")), nil, now)
	if n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	want := []fetch.Record{known, done("twin1", 1, now), done("twin2", 0, now), done("twin2", 1, now), done("twin3", 0, now)}
	if diff := cmp.Diff(want, mustLoad(t, s)); diff != "" {
		t.Error(diff)
	}

	s = open()
	if n, err := s.ImportForeign(t.Context(), ReadGetmail(file("getmail-odd")), nil, now); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := mustLoad(t, s)[0]; got.Time.Unix() != 1795652571 {
		t.Errorf("the time is lost: %v", got)
	}

	// A file with several accounts needs a choice.
	s = open()
	if n, err := s.ImportForeign(t.Context(), ReadFetchmail(file("fetchmail-accounts")), nil, now); n != 0 || err == nil || !strings.Contains(err.Error(), "ann smith at localhost") {
		t.Errorf("%d, %v", n, err)
	}
	ann := func(e ForeignEntry) bool { return e.User == "ann smith" }
	if n, err := s.ImportForeign(t.Context(), ReadFetchmail(file("fetchmail-accounts")), ann, now); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}

	// All or nothing.
	s = open()
	bad := strings.NewReader("uid1\x001\nuid2\x002\nuid3\n")
	var lineErr *LineError
	if n, err := s.ImportForeign(t.Context(), ReadGetmail(bad), nil, now); n != 0 || !errors.As(err, &lineErr) || lineErr.Line != 3 {
		t.Errorf("%d, %v", n, err)
	}
	if got := mustLoad(t, s); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
}

// FuzzImport checks that accepted records survive Export and Import, and the file format.
func FuzzImport(f *testing.F) {
	text, err := os.ReadFile("testdata/export")
	if err != nil {
		f.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	f.Add(strings.Join(lines[2:6], ""))
	f.Add("refused %41\"x\" size=1 time=2026-11-26T00:22:38Z\n")
	f.Add("intent \"\" nth=0 only=header gone=0001-01-01T00:00:00Z target=a name=b reason=\"\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		var records []fetch.Record
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			r, err := parseRecord(line)
			if err != nil {
				continue
			}
			again, err := parseRecord(strings.TrimSuffix(formatRecord(r), "\n"))
			if diff := cmp.Diff(r, again); diff != "" || err != nil {
				t.Fatalf("%q: %v\n%s", line, err, diff)
			}
			records = append(records, r)
		}
		for _, r := range records {
			k, v, err := encodeRecord(r)
			if err != nil {
				t.Fatalf("%v: %v", r, err)
			}
			again, err := decodeRecord(k, v)
			r.Time, r.Gone = r.Time.Truncate(time.Second), r.Gone.Truncate(time.Second)
			if diff := cmp.Diff(r, again); diff != "" || err != nil {
				t.Fatalf("%v: %v\n%s", r, err, diff)
			}
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range sampleRecords() {
		k, v, err := encodeRecord(r)
		if err != nil {
			f.Fatal(err)
		}
		if len(v) < 200 {
			f.Add(k, v)
		}
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		r, err := decodeRecord(k, v)
		if err != nil {
			return
		}
		if r.Key.Nth < 0 || r.Size < -1 {
			t.Errorf("%v", r)
		}
		line := formatRecord(r)
		if strings.Count(line, "\n") != 1 {
			t.Errorf("%q", line)
		}
	})
}
