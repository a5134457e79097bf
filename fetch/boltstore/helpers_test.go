package boltstore

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/fetch"
)

const testAccount = "joe@pop.example.org"

func statePath(t testing.TB) string {
	return filepath.Join(t.TempDir(), "state", FileName(testAccount))
}

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, testAccount)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// mustLoad returns the records, sorted by Key.
func mustLoad(t testing.TB, s *Store, states ...fetch.State) (records []fetch.Record) {
	t.Helper()
	for r, err := range s.Load(t.Context(), states...) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	sortRecords(records)
	return records
}

func sortRecords(records []fetch.Record) {
	slices.SortFunc(records, func(a, b fetch.Record) int {
		if c := strings.Compare(a.Key.UID, b.Key.UID); c != 0 {
			return c
		}
		return a.Key.Nth - b.Key.Nth
	})
}

// sampleRecords returns records with each field, and with odd unique-ids.
func sampleRecords() []fetch.Record {
	at := time.Unix(1795645503, 0)
	digest := fetch.Digest{1, 2, 0xff}
	records := []fetch.Record{
		{Key: fetch.Key{UID: "0001"}, State: fetch.Done, Size: 4210, Header: digest, Time: at},
		{Key: fetch.Key{UID: "0001", Nth: 1}, State: fetch.Done, Size: 0, Time: at, Gone: at.Add(time.Hour)},
		{Key: fetch.Key{UID: "0001", Nth: 12}, State: fetch.Done, Size: -1},
		{Key: fetch.Key{UID: "0002"}, State: fetch.Intent, Size: 1 << 40, Time: at, Target: "maildir:/home/joe/Mail box", Name: "1795645503.x.host"},
		{Key: fetch.Key{UID: "0003"}, State: fetch.Refused, Size: 1, Time: time.Unix(-1, 0), Reason: "550 \"no\" such user\n100%", HeaderOnly: true},
	}
	for _, uid := range []string{"", "a b", " ", "\xe9\xff\x00", "%41", `""`, `"q"`, "#1", "-", "=", "ünïcode", "a\nb", "a\n1", "a\r", strings.Repeat("x", 2000), strings.Repeat("y", 1024), strings.Repeat("z", 70_000)} {
		records = append(records, fetch.Record{Key: fetch.Key{UID: uid}, State: fetch.Done, Size: 7, Time: at}, fetch.Record{Key: fetch.Key{UID: uid, Nth: 3}, State: fetch.Done, Size: 8, Time: at})
	}
	sortRecords(records)
	return records
}

// manyRecords returns n records as a server's unique-ids usually make them.
func manyRecords(n int) []fetch.Record {
	records := make([]fetch.Record, n)
	for i := range records {
		records[i] = fetch.Record{
			Key: fetch.Key{UID: fmt.Sprintf("%08x5d0a3b1e", i)}, State: fetch.Done,
			Size: int64(1000 + i), Header: fetch.Digest{byte(i), byte(i >> 8), byte(i >> 16), 1}, Time: time.Unix(1795645503+int64(i), 0),
		}
	}
	return records
}
