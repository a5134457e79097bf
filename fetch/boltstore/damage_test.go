package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
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

const damageBatch = 200

// damageFile returns the contents of a state file, and its records. If closed is not set, they are still in the journal.
func damageFile(t testing.TB, n int, closed bool) (file []byte, records []fetch.Record) {
	path := statePath(t)
	s := mustOpen(t, path)
	records = manyRecords(n)
	records[0].State, records[0].Name = fetch.Intent, "name"
	for chunk := range slices.Chunk(records, damageBatch) {
		if err := s.Put(t.Context(), chunk...); err != nil {
			t.Fatal(err)
		}
	}
	if closed {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, records
}

// useDamaged opens a damaged file, loads it, and changes it. Each step must work properly, or report damage. It returns whether it found any.
func useDamaged(t testing.TB, path string, file, intact []byte, records []fetch.Record) (found bool) {
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := func(err error) bool {
		if err == nil {
			return false
		}
		found = true
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrAccount) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v", err)
		}
		return true
	}
	s, err := Open(path, testAccount)
	if damaged(err) {
		return found
	}
	defer func() { s.Close() }()
	var got []fetch.Record
	for r, err := range s.Load(t.Context()) {
		if damaged(err) {
			break
		}
		got = append(got, r)
	}
	if !found {
		sortRecords(got)
		if len(got) == len(records)-damageBatch && !bytes.Equal(file[:2*4096], intact[:2*4096]) {
			records = records[:len(got)] // without its last meta page, a file is as it was before its last change
		}
		if diff := cmp.Diff(records, got); diff != "" {
			t.Errorf("the damage was not noticed (-want +got)\n%s", diff)
		}
	}
	s.Close()
	if s, err = Open(path, testAccount); err != nil { // as before
		t.Fatal(err)
	}
	damaged(s.Put(t.Context(), records[len(records)-50:]...))
	damaged(s.Delete(t.Context(), records[10].Key, records[len(records)-10].Key))
	return found
}

// TestDamage changes bits and larger areas all over a file. A panic or a wrong record would fail it, and so would a hang.
func TestDamage(t *testing.T) {
	file, records := damageFile(t, 2000, true)
	path := filepath.Join(t.TempDir(), "x.state")
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	const trials = 200
	for trial := range trials {
		b := bytes.Clone(file)
		at := rng.IntN(len(b) - 4096)
		switch trial % 4 {
		case 0:
			b[at] ^= 1 << rng.IntN(8)
		case 1: // the header of a page
			b[at&^4095+rng.IntN(32)] ^= byte(1 + rng.IntN(255))
		case 2:
			clear(b[at : at+rng.IntN(4096)])
		case 3: // a page in the place of another
			copy(b[at&^4095:], file[rng.IntN(len(file)/4096)*4096:][:4096])
		}
		if useDamaged(t, path, b, file, records) {
			found++
		}
		if t.Failed() {
			t.Fatalf("trial %d, at %d", trial, at)
		}
	}
	if found < trials/5 {
		t.Errorf("found damage in %d of %d trials", found, trials)
	}
}

// TestDamageTruncated cuts a file everywhere.
func TestDamageTruncated(t *testing.T) {
	file, records := damageFile(t, 1000, true)
	path := filepath.Join(t.TempDir(), "x.state")
	for size := 1; size < len(file); size += 1021 {
		useDamaged(t, path, file[:size], file, records)
		if t.Failed() {
			t.Fatalf("truncated to %d of %d", size, len(file))
		}
	}
}

// TestDamageCircle has each branch page refer to itself and to others. bbolt alone would follow it without end.
func TestDamageCircle(t *testing.T) {
	t.Run("records", func(t *testing.T) { testDamageCircle(t, 10_000, true) }) // enough for two levels of branch pages
	t.Run("journal", func(t *testing.T) { testDamageCircle(t, 4000, false) })
}

func testDamageCircle(t *testing.T, n int, closed bool) {
	file, records := damageFile(t, n, closed)
	path := filepath.Join(t.TempDir(), "x.state")
	const size, branchFlag = 4096, 1
	if os.Getpagesize() != size {
		t.Skip("another page size")
	}
	var branches []int
	for id := 2; id < len(file)/size; id++ {
		page := file[id*size:]
		if int(binary.NativeEndian.Uint64(page)) == id && binary.NativeEndian.Uint16(page[8:]) == branchFlag {
			branches = append(branches, id)
		}
	}
	found := 0
	for _, id := range branches {
		for _, to := range []uint64{uint64(id), uint64(branches[0]), uint64(branches[len(branches)-1]), 0, 1, uint64(len(file)/size + 5), 1 << 40} {
			b := bytes.Clone(file)
			count := int(binary.NativeEndian.Uint16(b[id*size+10:]))
			for _, element := range []int{0, count / 2, count - 1} {
				binary.NativeEndian.PutUint64(b[id*size+pageHeaderSize+element*branchElementSize+branchElementPage:], to)
			}
			if useDamaged(t, path, b, file, records) {
				found++
			}
			if t.Failed() {
				t.Fatalf("page %d refers to page %d", id, to)
			}
		}
		if found > 100 { // the others are not in use any more
			break
		}
	}
	if found < 7 {
		t.Errorf("found %d circles in %d pages", found, len(branches))
	}
}

// TestDamageRecords makes changes that bbolt cannot notice: a record is lost, is added, or differs.
func TestDamageRecords(t *testing.T) {
	file, records := damageFile(t, 100, true)
	path := filepath.Join(t.TempDir(), "x.state")
	for name, change := range map[string]func(b *bbolt.Bucket) error{
		"lost":         func(b *bbolt.Bucket) error { return b.Delete([]byte("000000055d0a3b1e\n")) },
		"added":        func(b *bbolt.Bucket) error { return b.Put([]byte("x\n"), []byte{byte(fetch.Done), 0}) },
		"state":        func(b *bbolt.Bucket) error { return b.Put([]byte("000000055d0a3b1e\n"), []byte{99, 0}) },
		"empty":        func(b *bbolt.Bucket) error { return b.Put([]byte("000000055d0a3b1e\n"), nil) },
		"no line feed": func(b *bbolt.Bucket) error { return b.Put([]byte("x"), []byte{byte(fetch.Done), 0}) },
		"short texts":  func(b *bbolt.Bucket) error { return b.Put([]byte("x\n"), []byte{byte(fetch.Done), hasTexts, 200, 1}) },
		"long texts": func(b *bbolt.Bucket) error {
			return b.Put([]byte("x\n"), []byte{byte(fetch.Done), hasTexts, 0, 0, 0, 0})
		},
		"no value":      func(b *bbolt.Bucket) error { return b.Put([]byte("x\n"), []byte{byte(fetch.Done), hasSize}) },
		"nth":           func(b *bbolt.Bucket) error { return b.Put([]byte("x\n-1"), []byte{byte(fetch.Done), 0}) },
		"a bucket":      func(b *bbolt.Bucket) error { _, err := b.CreateBucket([]byte("x\n")); return err },
		"records lost":  func(b *bbolt.Bucket) error { return b.Tx().DeleteBucket(recordsBucket) },
		"meta lost":     func(b *bbolt.Bucket) error { return b.Tx().DeleteBucket(metaBucket) },
		"records a key": func(b *bbolt.Bucket) error { return b.Tx().MoveBucket(metaBucket, nil, b) },
	} {
		t.Run(name, func(t *testing.T) {
			useTampered(t, path, file, records, recordsBucket, change)
		})
	}
}

// useTampered makes a change to a bucket of a file, with a valid structure, and checks that it is noticed.
func useTampered(t *testing.T, path string, file []byte, records []fetch.Record, bucket []byte, change func(b *bbolt.Bucket) error) {
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket(bucket)) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	tampered, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !useDamaged(t, path, tampered, file, records) {
		t.Error("not noticed")
	}
}

// TestGuardPassesPanics checks that a panic of the caller inside a loop over Load is not taken for damage.
func TestGuardPassesPanics(t *testing.T) {
	s := mustOpen(t, statePath(t))
	if err := s.Put(t.Context(), manyRecords(10)...); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if v := recover(); v != "of the caller" {
				t.Errorf("recovered %v", v)
			}
		}()
		for range s.Load(t.Context()) {
			panic("of the caller")
		}
	}()
	if got := mustLoad(t, s); len(got) != 10 {
		t.Errorf("%d records afterward", len(got))
	}
}
