package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"go.etcd.io/bbolt"
)

// Put appends records to a journal, one entry per call, and change folds it into the bucket of the records. Unique-ids are in any
// order, so a batch of messages would otherwise change as many pages as it has messages, and twice.
var journalBucket = []byte("journal")

// The journal has at most maxJournal records, because each may have a page of its own in memory while they are folded, and at most
// maxJournalSize bytes of keys and values.
const (
	maxJournal     = 4096
	maxJournalSize = 1 << 20
)

// fits reports whether the journal has room for one more entry.
func (h *header) fits(keys, values [][]byte) bool {
	size := h.journalSize
	for i, k := range keys {
		size += uint64(len(k) + len(values[i]))
	}
	return h.journaled+uint64(len(keys)) <= maxJournal && size <= maxJournalSize
}

// An entry of the journal has a number as its key. Its value is the key and the value of each record, each preceded by its length,
// and a checksum.
func appendEntry(tx *bbolt.Tx, h *header, keys, values [][]byte) error {
	var b []byte
	for i, k := range keys {
		b = binary.AppendUvarint(b, uint64(len(k)))
		b = append(b, k...)
		b = binary.AppendUvarint(b, uint64(len(values[i])))
		b = append(b, values[i]...)
		h.journalSize += uint64(len(k) + len(values[i]))
	}
	sum := crc32.Checksum(b, castagnoli)
	b = binary.BigEndian.AppendUint32(b, sum)
	if err := tx.Bucket(journalBucket).Put(binary.BigEndian.AppendUint64(nil, h.entries), b); err != nil {
		return err
	}
	h.entries++
	h.journaled += uint64(len(keys))
	h.journalSum += uint64(sum)
	return nil
}

// readJournal returns the value of each key in the journal.
func readJournal(tx *bbolt.Tx, h header) (values map[string][]byte, err error) {
	values = make(map[string][]byte)
	var seen header
	c := tx.Bucket(journalBucket).Cursor()
	for k, b := c.First(); k != nil && seen.entries <= h.entries; k, b = c.Next() {
		body := len(b) - 4
		if len(k) != 8 || binary.BigEndian.Uint64(k) != seen.entries || body < 0 {
			return nil, fmt.Errorf("%w: the journal is malformed", ErrDamaged)
		}
		sum := binary.BigEndian.Uint32(b[body:])
		if crc32.Checksum(b[:body], castagnoli) != sum {
			return nil, fmt.Errorf("%w: the journal does not match its checksum", ErrDamaged)
		}
		seen.entries++
		seen.journalSum += uint64(sum)
		d := decoder{b: bytes.Clone(b[:body])} // Load uses the records in several transactions
		for len(d.b) > 0 {
			key := d.text()
			value := d.text()
			values[string(key)] = value
			seen.journaled++
			seen.journalSize += uint64(len(key) + len(value))
		}
		if d.bad {
			return nil, fmt.Errorf("%w: the journal is malformed", ErrDamaged)
		}
	}
	if seen.entries != h.entries || seen.journaled != h.journaled || seen.journalSize != h.journalSize || seen.journalSum != h.journalSum {
		return nil, fmt.Errorf("%w: the journal does not match its checksum", ErrDamaged)
	}
	return values, nil
}

// fold moves the records of the journal to their bucket.
func (w *writer) fold(tx *bbolt.Tx) error {
	if w.header.entries == 0 {
		return nil
	}
	values, err := readJournal(tx, w.header)
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if err := w.putEncoded([]byte(k), values[k]); err != nil {
			return err
		}
	}
	if err := tx.DeleteBucket(journalBucket); err != nil {
		return err
	}
	_, err = tx.CreateBucket(journalBucket)
	w.header.entries, w.header.journaled, w.header.journalSize, w.header.journalSum = 0, 0, 0, 0
	return err
}

// emptyJournal folds the journal. It does not write if there is nothing to fold.
func emptyJournal(db *bbolt.DB) error {
	var h header
	err := db.View(func(tx *bbolt.Tx) (err error) {
		h, err = readHeader(tx)
		return err
	})
	if err != nil || h.entries == 0 {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		return change(tx, func(*writer) error { return nil })
	})
}
