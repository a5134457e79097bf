package fetch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// An emlTrial is an EML in a real folder.
type emlTrial struct {
	*EML
	t *testing.T
}

func newEMLTrial(t *testing.T) *emlTrial {
	e := &emlTrial{&EML{Dir: filepath.Join(t.TempDir(), "a", "mail")}, t}
	e.recover()
	return e
}

func (e *emlTrial) recover(intents ...Record) []Outcome {
	e.t.Helper()
	outcomes, err := e.Recover(e.t.Context(), Recovery{Account: "joe", Now: mboxTime, Intents: intents})
	if err != nil {
		e.t.Fatal(err)
	}
	return outcomes
}

func (e *emlTrial) stage(uid, text string) Record {
	e.t.Helper()
	m := Message{Account: "joe", Key: Key{UID: uid}, Time: mboxTime}
	name, err := e.Stage(e.t.Context(), m, strings.NewReader(text))
	if err != nil {
		e.t.Fatal(err)
	}
	r := Record{Key: m.Key, Name: name, Time: mboxTime}
	if err := e.Sync(e.t.Context(), []Record{r}); err != nil {
		e.t.Fatal(err)
	}
	return r
}

func (e *emlTrial) commit(staged ...Record) {
	e.t.Helper()
	if n, err := e.Commit(e.t.Context(), staged); n != len(staged) || err != nil {
		e.t.Fatal(n, err)
	}
}

// want checks the files in Dir, and that none is staged.
func (e *emlTrial) want(records ...Record) {
	e.t.Helper()
	var want []string
	for _, r := range records {
		want = append(want, r.Name)
	}
	slices.Sort(want)
	if got := visible(e.t, e.Dir); !slices.Equal(got, want) {
		e.t.Errorf("the folder has %q, want %q", got, want)
	}
	if got := visible(e.t, e.staging.dir); len(got) > 0 {
		e.t.Errorf("staged: %q", got)
	}
}

// visible returns the names in a folder, except hidden ones.
func visible(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestEML(t *testing.T) {
	const text = "Subject: x\r\n\r\nFrom here\r\nbare\nbare\r.\r\n"
	for _, lf := range []bool{false, true} {
		e := newEMLTrial(t)
		e.LF = lf
		r := e.stage("../etc/passwd", text)
		if got := visible(t, e.Dir); len(got) > 0 {
			t.Errorf("staged and visible: %q", got)
		}
		e.commit(r)
		e.want(r)
		if form := regexp.MustCompile(`^20261106T002238Z\.[0-9a-f]{32}\.eml$`); !form.MatchString(r.Name) {
			t.Errorf("name %q", r.Name)
		}
		name := filepath.Join(e.Dir, r.Name)
		want := text
		if lf {
			want = strings.ReplaceAll(text, "\r\n", "\n")
		}
		if got, err := os.ReadFile(name); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
		if runtime.GOOS == "windows" {
			continue
		}
		for name, want := range map[string]fs.FileMode{name: 0o600, e.Dir: 0o700, e.staging.dir: 0o700} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, %v, want mode %o", name, info.Mode(), err, want)
			}
		}
	}
}

// TestEMLNames stages the same unique-id again in the same second, in each place that may have its name already.
func TestEMLNames(t *testing.T) {
	e := newEMLTrial(t)
	first := e.stage("1", "first")
	e.commit(first)
	second := e.stage("1", "second")
	third := e.stage("1", "third")
	e.commit(second, third)
	e.want(first, second, third)
	if got, err := os.ReadFile(filepath.Join(e.Dir, first.Name)); string(got) != "first" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestEMLRecover(t *testing.T) {
	old := mboxTime.Add(-31 * time.Hour)
	for _, test := range []struct {
		name    string
		age     time.Time
		between func(e *emlTrial, r Record)
		want    Outcome
		there   bool
	}{
		{"staged", mboxTime, func(*emlTrial, Record) {}, OutcomeDelivered, true},
		{"staged, old", old, func(*emlTrial, Record) {}, OutcomeDelivered, true},
		{"renamed", mboxTime, func(e *emlTrial, r Record) { e.commit(r) }, OutcomeDelivered, true},
		{"renamed, old", old, func(e *emlTrial, r Record) { e.commit(r) }, OutcomeDelivered, true},
		{"renamed and moved", mboxTime, func(e *emlTrial, r Record) { e.commit(r); os.Remove(filepath.Join(e.Dir, r.Name)) }, OutcomeDelivered, false},
		{"renamed and moved, old", old, func(e *emlTrial, r Record) { e.commit(r); os.Remove(filepath.Join(e.Dir, r.Name)) }, OutcomeForgotten, false},
	} {
		e := newEMLTrial(t)
		left := e.stage("left without an intent", "x")
		r := e.stage("1", "x")
		r.Time = test.age
		test.between(e, r)
		if got := e.recover(r); got[0] != test.want {
			t.Errorf("%s: outcome %v", test.name, got)
		}
		if test.there {
			e.want(r)
		} else {
			e.want()
		}
		if found, err := e.staging.has(left.Name); found || err != nil {
			t.Errorf("%s: what has no intent is left, %v", test.name, err)
		}
	}
}

// TestEMLSharedFolder has two accounts deliver to one folder. Neither changes the messages that the other has staged.
func TestEMLSharedFolder(t *testing.T) {
	joe := newEMLTrial(t)
	ann := &emlTrial{&EML{Dir: joe.Dir}, t}
	r := joe.stage("1", "x")
	if _, err := ann.Recover(t.Context(), Recovery{Account: "ann"}); err != nil {
		t.Fatal(err)
	}
	joe.commit(r)
	joe.want(r)
}

func TestEMLRefuses(t *testing.T) {
	e := newEMLTrial(t)
	r := e.stage("1", "x")
	bad := r
	bad.Name = "../" + r.Name
	if _, err := e.Recover(t.Context(), Recovery{Account: "joe", Intents: []Record{bad}}); err == nil {
		t.Error("a name outside of the folder is accepted")
	}
	// The folder vanishes, as if its disk were not mounted.
	if err := os.Rename(e.Dir, e.Dir+".gone"); err != nil {
		t.Fatal(err)
	}
	if n, err := e.Commit(t.Context(), []Record{r}); n != 0 || err == nil {
		t.Errorf("delivered %d to nowhere, %v", n, err)
	}
	if err := os.Mkdir(e.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Recover(t.Context(), Recovery{Account: "joe", Intents: []Record{r}}); err == nil || !strings.Contains(err.Error(), "vanished") {
		t.Errorf("error %v", err)
	}
	if _, err := e.Stage(t.Context(), Message{}, strings.NewReader("x")); err == nil {
		t.Error("staged nowhere")
	}
	// A file is in the place of the folder.
	file := &EML{Dir: filepath.Join(t.TempDir(), "file")}
	if err := os.WriteFile(file.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Recover(t.Context(), Recovery{Account: "joe"}); err == nil || !strings.Contains(err.Error(), file.Dir) {
		t.Errorf("error %v", err)
	}
}
