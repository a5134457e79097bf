package boltstore

import (
	"math/rand/v2"
	"os"
	"path/filepath"
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

// TestJournal compares a Store with a map, through crashes at any time.
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
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("step %d (-want +got)\n%s", step, diff)
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
			damaged := copyOf(t, path)
			db, err := bbolt.Open(damaged, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket(journalBucket)) }); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(damaged)
			if err != nil {
				t.Fatal(err)
			}
			if !useDamaged(t, damaged, b, b, records) {
				t.Error("not noticed")
			}
		})
	}
	if got := mustLoad(t, s); len(got) != len(records) {
		t.Errorf("%d records in the intact file", len(got))
	}
}
