package boltstore

import (
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// BenchmarkLoad opens a file of 300,000 records and loads them, as a run does first.
func BenchmarkLoad(b *testing.B) {
	const count = 300_000
	path := statePath(b)
	s := mustOpen(b, path)
	for chunk := manyRecords(count); len(chunk) > 0; chunk = chunk[1000:] {
		if err := s.Put(b.Context(), chunk[:1000]...); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s := mustOpen(b, path)
		n := 0
		for _, err := range s.Load(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != count {
			b.Fatalf("%d records", n)
		}
		s.Close()
	}
}

// BenchmarkPut makes a batch durable, among 300,000 records.
func BenchmarkPut(b *testing.B) {
	s := mustOpen(b, statePath(b))
	if err := s.Put(b.Context(), manyRecords(300_000)...); err != nil {
		b.Fatal(err)
	}
	batch := manyRecords(64)
	for i := range batch {
		batch[i].Key.UID += "new"
	}
	for i := 0; b.Loop(); i++ {
		for j := range batch {
			batch[j].State = fetch.State(1 + i%2)
			batch[j].Time = time.Unix(int64(i), 0)
		}
		if err := s.Put(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
	}
}
