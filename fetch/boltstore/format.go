package boltstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// The names of buckets and of keys in the bucket meta.
var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")

	versionKey = []byte("version") // decimal digits
	accountKey = []byte("account")
	headerKey  = []byte("header")
)

// formatVersion is the format that this package writes, and the newest that it reads.
const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A header counts the records in each state, and has the sum of the checksums of all of them. It also has the extent of the journal
// and the sum of the checksums of its entries. bbolt has no checksums of its data.
type header struct {
	counts [fetch.Refused]uint64 // indexed by State - 1
	sum    uint64

	entries     uint64 // of the journal
	journaled   uint64 // records in them
	journalSize uint64 // bytes in the keys and the values of these
	journalSum  uint64
}

// fields returns the numbers of the header in the order of the file.
func (h *header) fields() []*uint64 {
	var fields []*uint64
	for i := range h.counts {
		fields = append(fields, &h.counts[i])
	}
	return append(fields, &h.sum, &h.entries, &h.journaled, &h.journalSize, &h.journalSum)
}

func (h *header) count(s fetch.State) uint64 {
	if s < fetch.Intent || s > fetch.Refused {
		return 0
	}
	return h.counts[s-1]
}

func (h *header) total() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

func (h *header) add(k, v []byte) error {
	if len(v) == 0 || v[0] < byte(fetch.Intent) || v[0] > byte(fetch.Refused) {
		return fmt.Errorf("%w: a record has an unknown state", ErrDamaged)
	}
	h.counts[v[0]-1]++
	h.sum += checksum(k, v)
	return nil
}

func (h *header) remove(k, v []byte) error {
	if len(v) == 0 || v[0] < byte(fetch.Intent) || v[0] > byte(fetch.Refused) || h.counts[v[0]-1] == 0 {
		return fmt.Errorf("%w: a record has an unknown state", ErrDamaged)
	}
	h.counts[v[0]-1]--
	h.sum -= checksum(k, v)
	return nil
}

func checksum(k, v []byte) uint64 {
	return uint64(crc32.Update(crc32.Checksum(k, castagnoli), castagnoli, v))
}

// readHeader returns the header, which is followed by a checksum of its own.
func readHeader(tx *bbolt.Tx) (h header, err error) {
	meta := tx.Bucket(metaBucket)
	if meta == nil || tx.Bucket(recordsBucket) == nil || tx.Bucket(journalBucket) == nil {
		return h, fmt.Errorf("%w: a part is missing", ErrDamaged)
	}
	fields := h.fields()
	b := meta.Get(headerKey)
	if len(b) != 8*len(fields)+4 {
		return h, fmt.Errorf("%w: the header is malformed", ErrDamaged)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return h, fmt.Errorf("%w: the header does not match its checksum", ErrDamaged)
	}
	for i, field := range fields {
		*field = binary.BigEndian.Uint64(body[8*i:])
	}
	return h, nil
}

func writeHeader(tx *bbolt.Tx, h header) error {
	var b []byte
	for _, field := range h.fields() {
		b = binary.BigEndian.AppendUint64(b, *field)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return tx.Bucket(metaBucket).Put(headerKey, b)
}

// Keys of records: the unique-id, a line feed, and Nth in decimal digits, which are left out if it is 0. A longer key is replaced
// by its SHA-256 digest and a carriage return, and precedes the rest of the value.
const maxKey = 1024

func encodeKey(k fetch.Key) []byte {
	b := fullKey(k)
	if len(b) > maxKey {
		sum := sha256.Sum256(b)
		b = append(sum[:], '\r')
	}
	return b
}

func fullKey(k fetch.Key) []byte {
	b := make([]byte, 0, len(k.UID)+4)
	b = append(b, k.UID...)
	b = append(b, '\n')
	if k.Nth != 0 {
		b = strconv.AppendInt(b, int64(k.Nth), 10)
	}
	return b
}

func decodeKey(b []byte) (k fetch.Key, err error) {
	i := bytes.LastIndexByte(b, '\n')
	if i < 0 {
		return k, errMalformed
	}
	if i < len(b)-1 {
		if k.Nth, err = strconv.Atoi(string(b[i+1:])); err != nil || k.Nth <= 0 {
			return k, errMalformed
		}
	}
	k.UID = string(b[:i])
	return k, nil
}

var errMalformed = fmt.Errorf("%w: a record is malformed", ErrDamaged)

// Values of records: the state, the flags, and then each field whose flag is set, in the order of the flags. Integers are varints,
// texts are preceded by their length.
const (
	hasKey     = 1 << iota // the key, as fullKey returns it
	hasSize                // octets
	hasTime                // seconds since 1970
	hasGone                // seconds since 1970
	hasHeader              // 16 bytes
	hasTexts               // Target, Name, Reason
	headerOnly             // no field
)

func encodeRecord(r fetch.Record) (k, v []byte, err error) {
	if r.State < fetch.Intent || r.State > fetch.Refused {
		return nil, nil, fmt.Errorf("cannot store a record in %v", r.State)
	}
	if r.Key.Nth < 0 {
		return nil, nil, errors.New("cannot store a record with a negative Nth")
	}
	k = encodeKey(r.Key)
	v = make([]byte, 2, 48)
	v[0] = byte(r.State)
	if long := fullKey(r.Key); len(long) > maxKey {
		v[1] |= hasKey
		v = appendText(v, string(long))
	}
	if r.Size >= 0 {
		v[1] |= hasSize
		v = binary.AppendUvarint(v, uint64(r.Size))
	}
	if !r.Time.IsZero() {
		v[1] |= hasTime
		v = binary.AppendVarint(v, r.Time.Unix())
	}
	if !r.Gone.IsZero() {
		v[1] |= hasGone
		v = binary.AppendVarint(v, r.Gone.Unix())
	}
	if !r.Header.IsZero() {
		v[1] |= hasHeader
		v = append(v, r.Header[:]...)
	}
	if r.Target != "" || r.Name != "" || r.Reason != "" {
		v[1] |= hasTexts
		v = appendText(appendText(appendText(v, r.Target), r.Name), r.Reason)
	}
	if r.HeaderOnly {
		v[1] |= headerOnly
	}
	return k, v, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeRecord returns a Record that does not refer to k or v.
func decodeRecord(k, v []byte) (r fetch.Record, err error) {
	if len(v) < 2 {
		return r, errMalformed
	}
	d := decoder{b: v[2:]}
	r.State, r.Size = fetch.State(v[0]), -1
	flags := v[1]
	r.HeaderOnly = flags&headerOnly != 0
	if flags&hasKey != 0 {
		k = d.text()
	}
	if r.Key, err = decodeKey(k); err != nil {
		return r, err
	}
	if flags&hasSize != 0 {
		if r.Size = int64(d.uvarint()); r.Size < 0 {
			d.bad = true
		}
	}
	if flags&hasTime != 0 {
		r.Time = time.Unix(d.varint(), 0)
	}
	if flags&hasGone != 0 {
		r.Gone = time.Unix(d.varint(), 0)
	}
	if flags&hasHeader != 0 {
		copy(r.Header[:], d.bytes(len(r.Header)))
	}
	if flags&hasTexts != 0 {
		r.Target, r.Name, r.Reason = string(d.text()), string(d.text()), string(d.text())
	}
	if d.bad || len(d.b) > 0 {
		return r, errMalformed
	}
	return r, nil
}

// A decoder takes fields off the front of b. After a malformed one bad is set, and the others are empty.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	x, n := binary.Uvarint(d.b)
	d.skip(n)
	return x
}

func (d *decoder) varint() int64 {
	x, n := binary.Varint(d.b)
	d.skip(n)
	return x
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.b, d.bad = nil, true
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.b, d.bad = nil, true
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) text() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	return d.bytes(int(n))
}
