package boltstore

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// TestStore puts, replaces, and deletes records, and finds the rest after opening the file again.
func TestStore(t *testing.T) {
	path := statePath(t)
	s := mustOpen(t, path)
	if got := mustLoad(t, s); len(got) != 0 {
		t.Errorf("a new file has %v", got)
	}
	want := sampleRecords()
	if err := s.Put(t.Context(), want...); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if want[i].State == fetch.Intent {
			want[i].State, want[i].Target, want[i].Name = fetch.Done, "", ""
		}
	}
	if err := s.Put(t.Context(), want...); err != nil {
		t.Fatal(err)
	}
	gone := want[3].Key
	if err := s.Delete(t.Context(), gone, gone, fetch.Key{UID: "unknown"}); err != nil {
		t.Fatal(err)
	}
	want = slices.Delete(want, 3, 4)
	for range 2 {
		if diff := cmp.Diff(want, mustLoad(t, s)); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, path)
	}
}

func TestLoadStates(t *testing.T) {
	s := mustOpen(t, statePath(t))
	records := sampleRecords()
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	for _, states := range [][]fetch.State{{fetch.Intent}, {fetch.Refused, fetch.Intent}, {fetch.Done}, {fetch.Done, fetch.Intent, fetch.Refused}, {99}} {
		var want []fetch.Record
		for _, r := range records {
			if slices.Contains(states, r.State) {
				want = append(want, r)
			}
		}
		if diff := cmp.Diff(want, mustLoad(t, s, states...)); diff != "" {
			t.Errorf("%v: (-want +got)\n%s", states, diff)
		}
	}
	for range s.Load(t.Context()) {
		break
	}
}

// TestLoadChunks loads more records than fit in a chunk, and some numbers at its edge.
func TestLoadChunks(t *testing.T) {
	s := mustOpen(t, statePath(t))
	records := manyRecords(3*loadChunk + 1)
	put := 0
	for _, n := range []int{1, loadChunk - 1, loadChunk, loadChunk + 1, 2 * loadChunk, 3*loadChunk + 1} {
		if err := s.Put(t.Context(), records[put:n]...); err != nil {
			t.Fatal(err)
		}
		put = n
		if diff := cmp.Diff(records[:n], mustLoad(t, s)); diff != "" {
			t.Errorf("%d records: (-want +got)\n%s", n, diff)
		}
	}
}

// TestLoadWhileChanged checks that a sequence reports a change instead of a mixture, and that the change is not blocked by it.
func TestLoadWhileChanged(t *testing.T) {
	s := mustOpen(t, statePath(t))
	records := manyRecords(maxJournal + loadChunk) // more than the journal has
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	var last error
	n := 0
	for _, err := range s.Load(t.Context()) {
		if last = err; err != nil {
			break
		}
		if n++; n == 10 {
			if err := s.Delete(t.Context(), records[2*loadChunk].Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last == nil || errors.Is(last, ErrDamaged) || n != loadChunk {
		t.Errorf("after %d records: %v", n, last)
	}
}

func TestPutInvalid(t *testing.T) {
	s := mustOpen(t, statePath(t))
	good := fetch.Record{Key: fetch.Key{UID: "good"}, State: fetch.Done}
	for _, bad := range []fetch.Record{
		{Key: fetch.Key{UID: "bad"}},
		{Key: fetch.Key{UID: "bad"}, State: 99},
		{Key: fetch.Key{UID: "bad", Nth: -1}, State: fetch.Done},
	} {
		if err := s.Put(t.Context(), good, bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
	if got := mustLoad(t, s); len(got) != 0 {
		t.Errorf("a part of a batch is stored: %v", got)
	}
}

func TestContextAndClose(t *testing.T) {
	s := mustOpen(t, statePath(t))
	record := fetch.Record{Key: fetch.Key{UID: "uid"}, State: fetch.Done}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	load := func(ctx context.Context) (err error) {
		for _, err = range s.Load(ctx) {
		}
		return err
	}
	check := func(ctx context.Context, want error) {
		t.Helper()
		for name, err := range map[string]error{"Put": s.Put(ctx, record), "Delete": s.Delete(ctx, record.Key), "Load": load(ctx)} {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
	check(canceled, context.Canceled)
	if got := mustLoad(t, s); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	check(t.Context(), ErrClosed)
}
