package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A Store records the state of each message of one maildrop. Its methods are called by one goroutine at a time.
//
// Errors end the run with ErrStore. Opening a Store that another process has open fails with an error that wraps
// ErrLocked. Opening one that is damaged or has a newer format fails, too: it is never replaced by an empty one.
type Store interface {
	// Load yields the records that have one of the states, or all records if none is given, in any order. The strings
	// of a Record remain valid after the iteration. An error is yielded last and ends it. The Store is not changed
	// while the sequence is consumed.
	Load(ctx context.Context, states ...State) iter.Seq2[Record, error]

	// Put adds records, or replaces those with the same Key. On return all of them are durable; after a crash or an error
	// either all or none of them are stored.
	Put(ctx context.Context, records ...Record) error

	// Delete removes records, as durably and atomically as Put. A Key that is not stored is ignored.
	Delete(ctx context.Context, keys ...Key) error
}

// A Key identifies a message across sessions: its unique-id, and its place among the messages of the listing that have the same
// unique-id, because RFC 1939 permits identical messages to share one.
type Key struct {
	UID string // any bytes except CR and LF. If the server has no UIDL, "size-header:" and a digest: see Policy.NoUIDL
	Nth int    // 0 for the first message with this unique-id
}

// Digest returns 32 hexadecimal digits that depend on account and the Key alone. They stand for the unique-id in file names, and
// can serve as the key of an idempotent target.
func (k Key) Digest(account string) string {
	h := sha256.New()
	h.Write([]byte(strconv.Itoa(len(account)) + " " + account + strconv.Itoa(k.Nth) + " " + k.UID))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// State is the state of a Record.
type State uint8

const (
	// Intent is a message that was staged and may or may not have been committed.
	Intent State = iota + 1
	// Done is a message that was delivered.
	Done
	// Refused is a message that the Sink refused for good: see Never. It stays on the server and is not fetched again until its
	// Record is removed.
	Refused
)

var stateNames = [...]string{"new", "intent", "done", "refused"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// A Record is a Store's record of a message.
type Record struct {
	Key    Key
	State  State
	Target string    // Sink.Target of the Sink that staged it; needed for an Intent only
	Name   string    // the Sink's name for the staged message; needed for an Intent only
	Size   int64     // octets, as in the scan listing; -1 if unknown
	Header Digest    // of the header, the zero Digest if unknown
	Time   time.Time // when it was staged; to the second at least
	Gone   time.Time // when a listing first lacked it; the zero Time while it is listed

	// HeaderOnly marks a message of which only the header was fetched. It is never deleted from the server, and is fetched again
	// when the Policy permits its size.
	HeaderOnly bool

	// Reason is the Sink's reason for refusing the message.
	Reason string
}

// A Digest is the first half of the SHA-256 digest of a header: of its lines, up to the blank line, as the server sends them.
// Fields that servers change on their own are left out.
type Digest [16]byte

// IsZero reports whether d is unknown.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns d in hexadecimal, or "" for the zero Digest.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// A MemoryStore is a Store in memory, for tests, and for programs that keep their state elsewhere. The zero value is empty and
// ready to use. It is safe for concurrent use.
type MemoryStore struct {
	mu      sync.Mutex
	records map[Key]Record
}

// Load implements Store.
func (s *MemoryStore) Load(ctx context.Context, states ...State) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s.mu.Lock()
		records := slices.Collect(maps.Values(s.records))
		s.mu.Unlock()
		for _, r := range records {
			if len(states) > 0 && !slices.Contains(states, r.State) {
				continue
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Put implements Store.
func (s *MemoryStore) Put(ctx context.Context, records ...Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = make(map[Key]Record, len(records))
	}
	for _, r := range records {
		s.records[r.Key] = r
	}
	return nil
}

// Delete implements Store.
func (s *MemoryStore) Delete(ctx context.Context, keys ...Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.records, k)
	}
	return nil
}
