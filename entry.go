package pop3

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
)

// An Entry is a line of a scan listing (LIST, RFC 1939, section 5).
type Entry struct {
	Number int   // message number, from 1
	Size   int64 // in octets, as the server reports it: a hint, never a length to stop reading at
}

// A UID is a line of a unique-id listing (UIDL, RFC 1939, section 7).
type UID struct {
	Number int
	ID     string
}

// A form parses the lines of one kind of listing.
type form[T Entry | UID] struct {
	// plain is the fast path. It appends entries to batch, up to its capacity, while lines have the common form, and
	// returns the number of bytes used. lines ends in CRLF. text is either "" or equal to lines: strings are cut from
	// it.
	plain func(batch []T, lines []byte, text string, maxLine int) ([]T, int)
	// line parses any line, without its CRLF. The reason is not empty if the line is malformed.
	line func(line []byte) (e T, reason string)
	text bool // whether strings are cut from text
}

var (
	entries = &form[Entry]{plainEntries, parseEntry, false}
	uids    = &form[UID]{plainUIDs, parseUID, true}
)

// mostDigits of a number always fit into an int64.
const mostDigits = 18

// digits parses a number and returns the index after it, or the same index if there is no number. A number of more than
// mostDigits digits may have overflowed: the caller checks the length.
func digits(b []byte, i int) (n int64, end int) {
	for end = i; end < len(b) && b[end]-'0' <= 9; end++ {
		n = n*10 + int64(b[end]-'0')
	}
	return n, end
}

// plainEntries parses lines of a number, a blank and a size.
func plainEntries(batch []Entry, lines []byte, _ string, maxLine int) ([]Entry, int) {
	used := 0
	for len(batch) < cap(batch) && used < len(lines) {
		number, i := digits(lines, used)
		if number < 1 || number > math.MaxInt || i-used > mostDigits || lines[i] != ' ' {
			break
		}
		size, end := digits(lines, i+1)
		if n := end - i - 1; n < 1 || n > mostDigits || lines[end] != '\r' || lines[end+1] != '\n' || end-used > maxLine {
			break
		}
		batch = append(batch, Entry{int(number), size})
		used = end + 2
	}
	return batch, used
}

// plainUIDs parses lines of a number, a blank and a unique-id.
func plainUIDs(batch []UID, lines []byte, text string, maxLine int) ([]UID, int) {
	used := 0
	for len(batch) < cap(batch) && used < len(lines) {
		number, i := digits(lines, used)
		if number < 1 || number > math.MaxInt || i-used > mostDigits || lines[i] != ' ' {
			break
		}
		i++
		end := i + bytes.IndexByte(lines[i:], '\n') - 1
		if end <= i || lines[i] == ' ' || lines[end-1] == ' ' || lines[end] != '\r' || hasControl(lines[i:end]) || end-used > maxLine {
			break
		}
		batch = append(batch, UID{int(number), text[i:end]})
		used = end + 2
	}
	return batch, used
}

// Constants for eight bytes in a word.
const (
	ones  = 0x0101010101010101 // one in each byte
	highs = ones << 7
)

// hasControl reports whether b contains an ASCII control character.
func hasControl(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		del := w ^ 0x7f*ones // zero for a DEL
		if ((w-' '*ones)&^w|(del-ones)&^del)&highs != 0 {
			return true
		}
	}
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// parseEntry parses "number size", ignoring what follows (RFC 1939, scan listing).
func parseEntry(line []byte) (e Entry, reason string) {
	number, rest, ok := cutNumber(line)
	if !ok || number < 1 || number > math.MaxInt {
		return e, "no message number"
	}
	size, rest, ok := cutNumber(rest)
	if !ok {
		return e, "no size"
	}
	for _, c := range rest {
		if c < ' ' && c != '\t' || c == 0x7f {
			return e, "control character"
		}
	}
	return Entry{int(number), size}, ""
}

// parseUID parses "number unique-id"; the unique-id is the rest of the line, without the blanks and tabs at its end.
func parseUID(line []byte) (u UID, reason string) {
	number, rest, ok := cutNumber(line)
	if !ok || number < 1 || number > math.MaxInt {
		return u, "no message number"
	}
	rest = bytes.TrimRight(rest, blanks)
	if len(rest) == 0 {
		return u, "no unique-id"
	}
	if hasControl(rest) {
		return u, "control character"
	}
	return UID{int(number), string(rest)}, ""
}

// blanks separate the fields of a line.
const blanks = " \t"

// isBlank reports whether a line of a listing contains nothing. Some servers send such lines; they are skipped.
func isBlank(line []byte) bool { return len(bytes.TrimLeft(line, blanks)) == 0 }

// cutNumber cuts a number from the front of a line, with the blanks around it.
func cutNumber(b []byte) (n int64, rest []byte, ok bool) {
	b = bytes.TrimLeft(b, blanks)
	n, i := digits(b, 0)
	if i == 0 || i < len(b) && b[i] != ' ' && b[i] != '\t' {
		return 0, nil, false
	}
	if i > mostDigits {
		var err error
		if n, err = strconv.ParseInt(string(b[:i]), 10, 64); err != nil {
			return 0, nil, false
		}
	}
	return n, bytes.TrimLeft(b[i:], blanks), true
}
