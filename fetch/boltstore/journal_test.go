package boltstore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// copyOf returns a copy of a file that a Store has open, as it would be after a crash.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "copy.state")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// journaled returns the number of records in the journal of a file that is not open.
func journaled(t *testing.T, path string) (n uint64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		h, err := readHeader(tx)
		n = h.journaled
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestJournal compares a Store with a map, as after a crash between any two calls.
func TestJournal(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	path := statePath(t)
	s := mustOpen(t, path)
	all := manyRecords(3 * maxJournal)
	want := make(map[fetch.Key]fetch.Record)
	longest := uint64(0)
	for step := range 300 {
		switch n := rng.IntN(20); {
		case n < 14: // as a batch of messages is put
			batch := make([]fetch.Record, 0, 64)
			first := rng.IntN(len(all) - 64)
			for _, r := range all[first : first+64] {
				r.State = fetch.State(1 + rng.IntN(3))
				r.Size = rng.Int64N(1 << 40)
				batch = append(batch, r)
				want[r.Key] = r
			}
			if err := s.Put(t.Context(), batch...); err != nil {
				t.Fatal(err)
			}
		case n == 14: // more than fit into the journal
			for _, r := range all[:maxJournal+1] {
				want[r.Key] = r
			}
			if err := s.Put(t.Context(), all[:maxJournal+1]...); err != nil {
				t.Fatal(err)
			}
		case n < 17:
			keys := []fetch.Key{{UID: "never put"}}
			for range 50 {
				keys = append(keys, all[rng.IntN(len(all))].Key)
			}
			for _, k := range keys {
				delete(want, k)
			}
			if err := s.Delete(t.Context(), keys...); err != nil {
				t.Fatal(err)
			}
		case n == 17:
			mustLoad(t, s)
		default:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if n := journaled(t, path); n > 0 {
				t.Fatalf("%d records in the journal after Close", n)
			}
			s = mustOpen(t, path)
		}
		if step%10 > 0 {
			continue
		}
		crashed := copyOf(t, path)
		longest = max(longest, journaled(t, crashed))
		c := mustOpen(t, crashed)
		got := make(map[fetch.Key]fetch.Record)
		for _, r := range mustLoad(t, c) {
			got[r.Key] = r
		}
		c.Close()
		if !maps.Equal(want, got) { // cmp.Diff takes a minute for all steps
			t.Fatalf("step %d (-want +got)\n%s", step, cmp.Diff(want, got))
		}
	}
	if longest < 256 || longest > maxJournal {
		t.Errorf("at most %d records in the journal", longest)
	}
	if len(want) < maxJournal {
		t.Errorf("%d records", len(want))
	}
}

// TestJournalStates loads an intent that is only in the journal.
func TestJournalStates(t *testing.T) {
	path := statePath(t)
	s := mustOpen(t, path)
	records := manyRecords(3)
	records[1].State, records[1].Name = fetch.Intent, "name"
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	c := mustOpen(t, copyOf(t, path))
	if diff := cmp.Diff(records[1:2], mustLoad(t, c, fetch.Intent)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestJournalDamage makes changes to the journal that bbolt cannot notice.
func TestJournalDamage(t *testing.T) {
	path := statePath(t)
	s := mustOpen(t, path)
	records := manyRecords(300)
	for i := 0; i < 300; i += 100 {
		if err := s.Put(t.Context(), records[i:i+100]...); err != nil {
			t.Fatal(err)
		}
	}
	damaged := copyOf(t, path)
	file, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	key := func(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }
	value := func(b *bbolt.Bucket, n byte) []byte { return append([]byte(nil), b.Get(key(n))...) }
	for name, change := range map[string]func(b *bbolt.Bucket) error{
		"the first lost": func(b *bbolt.Bucket) error { return b.Delete(key(0)) },
		"the last lost":  func(b *bbolt.Bucket) error { return b.Delete(key(2)) },
		"one twice":      func(b *bbolt.Bucket) error { return b.Put(key(1), value(b, 0)) },
		"added":          func(b *bbolt.Bucket) error { return b.Put(key(3), value(b, 0)) },
		"none added":     func(b *bbolt.Bucket) error { return b.Put(key(3), make([]byte, 4)) }, // its checksum is 0
		"another key":    func(b *bbolt.Bucket) error { return b.Put([]byte("x"), value(b, 0)) },
		"empty":          func(b *bbolt.Bucket) error { return b.Put(key(1), nil) },
		"short":          func(b *bbolt.Bucket) error { return b.Put(key(1), value(b, 1)[1:]) },
		"a bit": func(b *bbolt.Bucket) error {
			v := value(b, 1)
			v[len(v)/2] ^= 1
			return b.Put(key(1), v)
		},
		"a bucket": func(b *bbolt.Bucket) error { _, err := b.CreateBucket([]byte("x")); return err },
		"lost":     func(b *bbolt.Bucket) error { return b.Tx().DeleteBucket(journalBucket) },
		"emptied": func(b *bbolt.Bucket) error {
			for n := range byte(3) {
				if err := b.Delete(key(n)); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			useTampered(t, damaged, file, records, journalBucket, change)
		})
	}
	if got := mustLoad(t, s); len(got) != len(records) {
		t.Errorf("%d records in the intact file", len(got))
	}
}

// TestJournalLimits fills the journal up to its limits, and one beyond.
func TestJournalLimits(t *testing.T) {
	long := func(n int) (records []fetch.Record) {
		for i := range n {
			uid := fmt.Sprintf("%04d", i) + strings.Repeat("x", 10_000-4)
			records = append(records, fetch.Record{Key: fetch.Key{UID: uid}, State: fetch.Done, Size: -1})
		}
		return records
	}
	_, value, err := encodeRecord(long(1)[0])
	if err != nil {
		t.Fatal(err)
	}
	full := maxJournalSize / (len(encodeKey(long(1)[0].Key)) + len(value))
	for _, test := range []struct {
		name    string
		records []fetch.Record
		want    int
	}{
		{"records", manyRecords(maxJournal), maxJournal},
		{"a record more", manyRecords(maxJournal + 1), 0},
		{"bytes", long(full), full},
		{"a long record more", long(full + 1), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := statePath(t)
			s := mustOpen(t, path)
			last := len(test.records) - 1
			for chunk := range slices.Chunk(test.records[:last], 200) {
				if err := s.Put(t.Context(), chunk...); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Put(t.Context(), test.records[last]); err != nil {
				t.Fatal(err)
			}
			if n := journaled(t, copyOf(t, path)); n != uint64(test.want) {
				t.Errorf("%d records in the journal, want %d", n, test.want)
			}
			if got := mustLoad(t, s); len(got) != len(test.records) {
				t.Errorf("%d records", len(got))
			}
		})
	}
}

// TestJournalReads checks that neither Load nor a Close without changes writes: the disk may be full. Load yields the records of the
// journal in their place.
func TestJournalReads(t *testing.T) {
	path := statePath(t)
	s := mustOpen(t, path)
	records := manyRecords(2*loadChunk + 10)
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	contents := func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := contents()
	s = mustOpen(t, path)
	mustLoad(t, s)
	if err := s.Close(); err != nil || contents() != before {
		t.Errorf("Close has written, %v", err)
	}
	s = mustOpen(t, path)
	for _, i := range []int{0, loadChunk - 1, loadChunk, len(records) - 1} {
		records[i].Size += 5
		if err := s.Put(t.Context(), records[i]); err != nil {
			t.Fatal(err)
		}
	}
	added := fetch.Record{Key: fetch.Key{UID: "zzz"}, State: fetch.Intent, Size: -1, Name: "name"}
	if err := s.Put(t.Context(), added); err != nil {
		t.Fatal(err)
	}
	records = append(records, added)
	before = contents()
	var got []fetch.Record
	for r, err := range s.Load(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if !slices.Equal(got, records) {
		t.Errorf("-want +got\n%s", cmp.Diff(records, got))
	}
	if got := mustLoad(t, s, fetch.Intent); !slices.Equal(got, []fetch.Record{added}) {
		t.Errorf("intents: %v", got)
	}
	if contents() != before {
		t.Error("Load has written")
	}
}

// TestJournalLoads has a Load end while another one, which began first, is under way.
func TestJournalLoads(t *testing.T) {
	s := mustOpen(t, statePath(t))
	records := manyRecords(maxJournal + 100)
	for _, part := range [][]fetch.Record{records[:maxJournal+1], records[maxJournal+1:]} {
		if err := s.Put(t.Context(), part...); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, err := range s.Load(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n%loadChunk == 0 {
			mustLoad(t, s)
		}
		n++
	}
	if n != len(records) {
		t.Errorf("%d records", n)
	}
}

// TestCloseReportsDamage damages a record that is in the way of the journal, while the file is open.
func TestCloseReportsDamage(t *testing.T) {
	s := mustOpen(t, statePath(t))
	records := manyRecords(2)
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(recordsBucket).Put(encodeKey(records[0].Key), []byte{99, 0})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, ErrDamaged) {
		t.Errorf("Close returned %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second Close returned %v", err)
	}
}
