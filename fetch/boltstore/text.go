package boltstore

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// The first line of the text format, and the beginning of the second and of the last.
const (
	textFirst   = "# pop3 state, format 1"
	textAccount = "account "
	textEnd     = "end "
)

// Export writes all records in the text format of this package.
func (s *Store) Export(ctx context.Context, w io.Writer) error {
	bw := bufio.NewWriter(w)
	fmt.Fprintf(bw, "%s\n%s%s\n", textFirst, textAccount, escape(s.account))
	n := 0
	for r, err := range s.Load(ctx) {
		if err != nil {
			return err
		}
		n++
		if _, err := bw.WriteString(formatRecord(r)); err != nil {
			return err
		}
	}
	fmt.Fprintf(bw, "%s%d\n", textEnd, n)
	return bw.Flush()
}

// Import reads records in the text format of this package, and stores all of them, or none after an error. They replace records
// with the same Key. It returns their number. The account of the text must be that of the file. An error of a line is a
// [LineError].
func (s *Store) Import(ctx context.Context, r io.Reader) (n int, err error) {
	return s.importRecords(ctx, readText(r, s.account), false)
}

// ImportForeign stores the unique-ids that another program has fetched as done, or none of them after an error. It returns how many
// were not in the file before; the others are left as they are. Entries for which accept returns false are ignored. If accept is
// nil, all entries must be of the same user and host.
//
// Records without a time get now, so that a policy that deletes messages after some time counts from the import.
func (s *Store) ImportForeign(ctx context.Context, entries iter.Seq2[ForeignEntry, error], accept func(ForeignEntry) bool, now time.Time) (n int, err error) {
	return s.importRecords(ctx, foreignRecords(entries, accept, now), true)
}

// importRecords stores records in one transaction. If keep is set, those that exist are not replaced.
func (s *Store) importRecords(ctx context.Context, seq iter.Seq2[fetch.Record, error], keep bool) (n int, err error) {
	var records []fetch.Record // collected before the transaction: seq runs code of the caller
	for r, err := range seq {
		if err != nil {
			return 0, err
		}
		records = append(records, r)
	}
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		return change(tx, func(w *writer) error {
			for _, r := range records {
				if keep && w.has(r.Key) {
					continue
				}
				if err := w.put(r); err != nil {
					return err
				}
				n++
			}
			return nil
		})
	})
	if err != nil {
		n = 0
	}
	return n, err
}

func foreignRecords(entries iter.Seq2[ForeignEntry, error], accept func(ForeignEntry) bool, now time.Time) iter.Seq2[fetch.Record, error] {
	return func(yield func(fetch.Record, error) bool) {
		var first *ForeignEntry
		seen := make(map[string]int) // how many messages have this unique-id
		for e, err := range entries {
			if err != nil {
				yield(fetch.Record{}, err)
				return
			}
			switch {
			case accept != nil:
				if !accept(e) {
					continue
				}
			case first == nil:
				first = &e
			case e.User != first.User || e.Host != first.Host:
				yield(fetch.Record{}, fmt.Errorf("it has several accounts: %s at %s, and %s at %s", first.User, first.Host, e.User, e.Host))
				return
			}
			if e.Time.IsZero() {
				e.Time = now
			}
			r := fetch.Record{Key: fetch.Key{UID: e.UID, Nth: seen[e.UID]}, State: fetch.Done, Size: -1, Time: e.Time}
			seen[e.UID]++
			if !yield(r, nil) {
				return
			}
		}
	}
}

// formatRecord returns the line of a record.
func formatRecord(r fetch.Record) string {
	var b strings.Builder
	b.WriteString(r.State.String() + " " + escape(r.Key.UID))
	field := func(name, value string) { b.WriteString(" " + name + "=" + value) }
	if r.Key.Nth != 0 {
		field("nth", strconv.Itoa(r.Key.Nth))
	}
	if r.Size >= 0 {
		field("size", strconv.FormatInt(r.Size, 10))
	}
	if !r.Time.IsZero() {
		field("time", formatTime(r.Time))
	}
	if !r.Header.IsZero() {
		field("header", r.Header.String())
	}
	if !r.Gone.IsZero() {
		field("gone", formatTime(r.Gone))
	}
	if r.HeaderOnly {
		field("only", "header")
	}
	if r.Target != "" {
		field("target", escape(r.Target))
	}
	if r.Name != "" {
		field("name", escape(r.Name))
	}
	if r.Reason != "" {
		field("reason", escape(r.Reason))
	}
	b.WriteByte('\n')
	return b.String()
}

// formatTime returns t as in RFC 3339, which has years of four digits.
func formatTime(t time.Time) string {
	t = t.UTC()
	if t.Year() > 9999 {
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	} else if t.Year() < 0 {
		t = time.Unix(0, 0).UTC()
	}
	return t.Format(time.RFC3339)
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if y := t.UTC().Year(); err == nil && (y < 0 || y > 9999) {
		return t, errors.New("out of range")
	}
	return t.Truncate(time.Second), err
}

// readText yields the records of a text. It ends at the first error.
func readText(r io.Reader, account string) iter.Seq2[fetch.Record, error] {
	return func(yield func(fetch.Record, error) bool) {
		lines := newLineReader(r)
		if err := textHead(lines, account); err != nil {
			yield(fetch.Record{}, err)
			return
		}
		n, ended := 0, false
		for lines.next() {
			switch {
			case lines.text == "" || lines.text[0] == '#':
			case ended:
				lines.fail("text after the end")
			case strings.HasPrefix(lines.text, textEnd):
				if ended = lines.text == textEnd+strconv.Itoa(n); !ended {
					lines.fail("%q after %d records", clip(lines.text), n)
				}
			default:
				n++
				r, err := parseRecord(lines.text)
				if err != nil {
					lines.fail("%v", err)
				} else if !yield(r, nil) {
					return
				}
			}
		}
		if lines.err == nil && !ended {
			lines.fail("the line %q is missing", textEnd+strconv.Itoa(n))
		}
		if lines.err != nil {
			yield(fetch.Record{}, lines.err)
		}
	}
}

// textHead reads the first two lines.
func textHead(lines *lineReader, account string) error {
	const prefix = "# pop3 state, format "
	if !lines.next() || lines.text != textFirst {
		if lines.err == nil {
			lines.fail("it does not begin with %q", textFirst)
		}
		if v, err := strconv.Atoi(strings.TrimPrefix(lines.text, prefix)); err == nil && v > formatVersion {
			lines.fail("%w: it has format %d", ErrNewer, v)
		}
		return lines.err
	}
	for lines.next() && (lines.text == "" || lines.text[0] == '#') {
	}
	if lines.err != nil {
		return lines.err
	}
	text, ok := strings.CutPrefix(lines.text, textAccount)
	if !ok {
		lines.fail("the account is missing")
		return lines.err
	}
	of, err := unescape(text)
	if err != nil {
		lines.fail("%v", err)
	} else if of != account {
		lines.fail("%w, %q; not %q", ErrAccount, of, account)
	}
	return lines.err
}

func parseRecord(line string) (r fetch.Record, err error) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return r, errors.New("no unique-id")
	}
	switch words[0] {
	case fetch.Intent.String():
		r.State = fetch.Intent
	case fetch.Done.String():
		r.State = fetch.Done
	case fetch.Refused.String():
		r.State = fetch.Refused
	default:
		return r, fmt.Errorf("unknown state %q", clip(words[0]))
	}
	if r.Key.UID, err = unescape(words[1]); err != nil {
		return r, err
	}
	r.Size = -1
	seen := make(map[string]bool)
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		if seen[name] {
			return r, fmt.Errorf("%q comes twice", clip(name))
		}
		seen[name] = true
		if err := parseField(&r, name, value); err != nil {
			return r, fmt.Errorf("invalid %q: %v", clip(word), err)
		}
	}
	return r, nil
}

func parseField(r *fetch.Record, name, value string) (err error) {
	switch name {
	case "nth":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 31)
		r.Key.Nth = int(n)
	case "size":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 63)
		r.Size = int64(n)
	case "time":
		r.Time, err = parseTime(value)
	case "gone":
		r.Gone, err = parseTime(value)
	case "header":
		var b []byte
		if b, err = hex.DecodeString(value); err == nil && len(b) != len(r.Header) {
			err = fmt.Errorf("not %d bytes", len(r.Header))
		}
		copy(r.Header[:], b)
	case "only":
		if r.HeaderOnly = value == "header"; !r.HeaderOnly {
			err = errors.New("unknown value")
		}
	case "target":
		r.Target, err = unescape(value)
	case "name":
		r.Name, err = unescape(value)
	case "reason":
		r.Reason, err = unescape(value)
	default:
		err = errors.New("unknown field")
	}
	return err
}

const hexDigits = "0123456789ABCDEF"

// escape returns s with all bytes except printable ASCII as %XX, and also % and ". An empty s is "".
func escape(s string) string {
	if s == "" {
		return `""`
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c <= '~' && c != '%' && c != '"' {
			b.WriteByte(c)
		} else {
			b.WriteString(string([]byte{'%', hexDigits[c>>4], hexDigits[c&15]}))
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	if s == `""` {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			if i+2 >= len(s) {
				return "", fmt.Errorf("%q ends inside an escape", clip(s))
			}
			x, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", fmt.Errorf("%q has an invalid escape", clip(s))
			}
			b.WriteByte(x[0])
			i += 2
		case c <= ' ' || c > '~' || c == '"':
			return "", fmt.Errorf("%q has an unescaped %q", clip(s), c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
