package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// The kinds of errors that concern the complete file. All errors of a Store are a [FileError], which names the file. A file that
// another Store has open results in fetch.ErrLocked.
var (
	// ErrDamaged reports a file that is not a state file, or no longer a complete one. It is never replaced.
	ErrDamaged = errors.New("damaged, or not a state file")

	// ErrNewer reports a file whose format is newer than this package.
	ErrNewer = errors.New("written by a newer version")

	// ErrAccount reports a file of another account.
	ErrAccount = errors.New("belongs to another account")

	// ErrClosed reports the use of a closed Store.
	ErrClosed = errors.New("already closed")
)

// A FileError reports a failure and the state file that it concerns.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return "state file " + e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// fileError returns err as a FileError, with the name of the file once.
func fileError(path string, err error) error {
	if perr, ok := err.(*fs.PathError); ok && perr.Path == path {
		err = fmt.Errorf("%s: %w", perr.Op, perr.Err)
	}
	return &FileError{path, err}
}

// loadChunk is the number of records that Load reads at a time.
const loadChunk = 1024

// A Store is a fetch.Store in one file. It is safe for concurrent use.
type Store struct {
	path    string
	account string
	file    *os.File // of db

	mu     sync.Mutex // guards db and broken, and serializes all access
	db     *bbolt.DB  // nil after Close
	broken error      // the damage that was found; db is not used again, because its mutexes may still be locked
}

var _ fetch.Store = (*Store)(nil)

// Path returns the name of the file.
func (s *Store) Path() string { return s.path }

// Account returns the account that is recorded in the file.
func (s *Store) Account() string { return s.account }

// Close releases the file. It first writes what Put has left to be put in order; an error says that this has found the file damaged.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	if s.broken == nil {
		// If there is no space for it, the journal stays: what was put is durable.
		if _, err := guard(func() error { return emptyJournal(db) }); errors.Is(err, ErrDamaged) {
			abandon(s.file)
			return s.wrap(err)
		}
	}
	if s.broken != nil {
		abandon(s.file)
		return nil
	}
	return s.wrap(db.Close())
}

// wrap returns err as a FileError.
func (s *Store) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fileError(s.path, err)
}

// view runs fn in a read transaction, update in a read-write transaction that is durable on return.
func (s *Store) view(ctx context.Context, fn func(tx *bbolt.Tx) error) error {
	return s.do(ctx, fn, (*bbolt.DB).View)
}

func (s *Store) update(ctx context.Context, fn func(tx *bbolt.Tx) error) error {
	return s.do(ctx, fn, (*bbolt.DB).Update)
}

func (s *Store) do(ctx context.Context, fn func(tx *bbolt.Tx) error, run func(*bbolt.DB, func(tx *bbolt.Tx) error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.db == nil:
		return s.wrap(ErrClosed)
	case s.broken != nil:
		return s.broken
	}
	panicked, err := guard(func() error { return run(s.db, fn) })
	err = s.wrap(err)
	if panicked || errors.Is(err, ErrDamaged) {
		s.broken = err
	}
	return err
}

// Load implements fetch.Store. It reads the records in chunks, so that no transaction is open while the caller has one. At the end
// of the sequence it compares all records with the checksum of the file.
func (s *Store) Load(ctx context.Context, states ...fetch.State) iter.Seq2[fetch.Record, error] {
	return func(yield func(fetch.Record, error) bool) {
		l := loader{want: states, chunk: make([]fetch.Record, 0, loadChunk)}
		for !l.end {
			if err := s.view(ctx, l.read); err != nil {
				yield(fetch.Record{}, err)
				return
			}
			for _, r := range l.chunk {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// A loader reads all records over several transactions.
type loader struct {
	want  []fetch.State
	chunk []fetch.Record
	last  []byte            // key of the last record read
	tx    int               // the transaction of the first chunk
	seen  header            // of the records read so far
	newer map[string][]byte // the journal, whose records replace the others
	keys  []string          // of the journal, those that were not read yet, in order
	end   bool
}

// read reads the next chunk.
func (l *loader) read(tx *bbolt.Tx) error {
	h, err := readHeader(tx)
	if err != nil {
		return err
	}
	l.chunk = l.chunk[:0]
	if l.last == nil {
		if l.newer, err = readJournal(tx, h); err != nil {
			return err
		}
		l.keys = slices.Sorted(maps.Keys(l.newer))
	}
	if h.entries == 0 && len(l.want) > 0 && !slices.ContainsFunc(l.want, func(s fetch.State) bool { return h.count(s) > 0 }) {
		l.end = true
		return nil
	}
	if l.last == nil {
		l.tx = tx.ID()
	} else if tx.ID() != l.tx {
		return errors.New("changed while it was being read")
	}
	defer releasePages(tx)
	c := tx.Bucket(recordsBucket).Cursor()
	var k, v []byte
	if l.last == nil {
		k, v = c.First()
	} else if k, _ = c.Seek(l.last); bytes.Equal(k, l.last) {
		k, v = c.Next()
	} else {
		return fmt.Errorf("%w: the records are out of order", ErrDamaged)
	}
	for ; k != nil; k, v = c.Next() {
		if err := l.seen.add(k, v); err != nil {
			return err
		}
		if err := l.addNewer(func(key string) bool { return key <= string(k) }); err != nil {
			return err
		}
		if _, replaced := l.newer[string(k)]; !replaced {
			if err := l.add(k, v); err != nil {
				return err
			}
			if len(l.chunk) >= loadChunk {
				l.last = append(l.last[:0], k...)
				return nil
			}
		}
		if l.seen.total() > h.total() {
			break // more than there are: do not follow pages in a circle
		}
	}
	l.end = true
	if l.seen.counts != h.counts || l.seen.sum != h.sum {
		return fmt.Errorf("%w: the records do not match their checksum", ErrDamaged)
	}
	return l.addNewer(func(string) bool { return true })
}

// addNewer adds the next records of the journal, as long as their keys are due.
func (l *loader) addNewer(due func(key string) bool) error {
	for len(l.keys) > 0 && due(l.keys[0]) {
		if err := l.add([]byte(l.keys[0]), l.newer[l.keys[0]]); err != nil {
			return err
		}
		l.keys = l.keys[1:]
	}
	return nil
}

// add adds a record to the chunk if it is wanted.
func (l *loader) add(k, v []byte) error {
	if len(v) > 0 && len(l.want) > 0 && !slices.Contains(l.want, fetch.State(v[0])) {
		return nil
	}
	r, err := decodeRecord(k, v)
	if err == nil {
		l.chunk = append(l.chunk, r)
	}
	return err
}

// Put implements fetch.Store.
func (s *Store) Put(ctx context.Context, records ...fetch.Record) error {
	if len(records) == 0 {
		return nil
	}
	keys, values := make([][]byte, len(records)), make([][]byte, len(records))
	for i, r := range records {
		var err error
		if keys[i], values[i], err = encodeRecord(r); err != nil {
			return s.wrap(err)
		}
	}
	return s.update(ctx, func(tx *bbolt.Tx) error {
		h, err := readHeader(tx)
		if err != nil {
			return err
		}
		if h.fits(keys, values) {
			if err := appendEntry(tx, &h, keys, values); err != nil {
				return err
			}
			return writeHeader(tx, h)
		}
		return change(tx, func(w *writer) error {
			for i, k := range keys {
				if err := w.putEncoded(k, values[i]); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Delete implements fetch.Store.
func (s *Store) Delete(ctx context.Context, keys ...fetch.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return s.update(ctx, func(tx *bbolt.Tx) error {
		return change(tx, func(w *writer) error {
			for _, k := range keys {
				if err := w.delete(k); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// A writer changes records and keeps the header up to date.
type writer struct {
	records *bbolt.Bucket
	header  header
}

// fillPercent is how full bbolt leaves pages that it splits. Most servers assign ascending unique-ids, which fill no page that was
// split before: 100,000 of them need 12 MB at the default of .5, 8 MB at .75, and 7 MB at .9. In random order they need 17 MB at .75.
const fillPercent = .75

// change folds the journal, runs fn with a writer, and stores the header.
func change(tx *bbolt.Tx, fn func(*writer) error) error {
	h, err := readHeader(tx)
	if err != nil {
		return err
	}
	w := &writer{records: tx.Bucket(recordsBucket), header: h}
	w.records.FillPercent = fillPercent
	if err := w.fold(tx); err != nil {
		return err
	}
	if err := fn(w); err != nil {
		return err
	}
	return writeHeader(tx, w.header)
}

func (w *writer) put(r fetch.Record) error {
	k, v, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return w.putEncoded(k, v)
}

func (w *writer) putEncoded(k, v []byte) error {
	if old := w.records.Get(k); old != nil {
		if err := w.header.remove(k, old); err != nil {
			return err
		}
	}
	if err := w.header.add(k, v); err != nil {
		return err
	}
	return w.records.Put(k, v)
}

// has reports whether there is a record with this key.
func (w *writer) has(key fetch.Key) bool { return w.records.Get(encodeKey(key)) != nil }

func (w *writer) delete(key fetch.Key) error {
	k := encodeKey(key)
	old := w.records.Get(k)
	if old == nil {
		return nil
	}
	if err := w.header.remove(k, old); err != nil {
		return err
	}
	return w.records.Delete(k)
}
