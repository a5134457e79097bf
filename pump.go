package pop3

import (
	"bytes"
)

// A pump reads the response. It is used by the goroutine that has set reading, while the lease is active.
type pump[T Entry | UID] struct {
	conn      *conn
	command   string
	form      *form[T]
	max       int  // entries
	eof       bool // the response has been read, or cannot be
	malformed bool // a line could not be parsed: the rest is discarded
	count     int  // entries so far
	octets    int64
}

// read parses some lines, at least one. fault is a malformed line; err is fatal.
func (p *pump[T]) read(into []T) (c chunk[T], fault, err error) {
	if p.malformed {
		return chunk[T]{into, 0}, nil, p.discard()
	}
	if cap(into) < chunkEntries {
		into = make([]T, 0, chunkEntries)
	}
	lines, err := p.conn.lines()
	if err != nil {
		return chunk[T]{into[:0], 0}, nil, err
	}
	if len(lines) > chunkBytes {
		if i := bytes.LastIndex(lines[:chunkBytes], crlf); i >= 0 {
			lines = lines[:i+2]
		} else {
			lines = lines[:bytes.Index(lines, crlf)+2]
		}
	}
	entries, used, fault, err := p.parse(into[:0], lines)
	p.conn.used(used)
	p.octets += int64(used)
	p.malformed = fault != nil
	return chunk[T]{entries, chunkSize + len(entries)*entrySize + used}, fault, err
}

// discard reads the rest of a malformed listing. It is limited, since there may be no end: to as many lines as other
// listings, and to the octets of as many lines of the maximum length.
func (p *pump[T]) discard() error {
	for rest := (dotReader{conn: p.conn}); !p.eof; p.eof = rest.end {
		text, err := rest.next()
		if err != nil {
			return err
		}
		p.octets += int64(len(text))
		p.count += bytes.Count(text, crlf)
		if p.count > p.max || rest.octets/int64(p.conn.maxLine) > int64(p.max) {
			return errTooManyEntries(p.max, "lines")
		}
	}
	return nil
}

var crlf = []byte("\r\n")

const (
	entrySize = 24 // bytes of a UID, the larger of the two
	chunkSize = 64 // bytes of a chunk in the queue, and of the rounding of its parts
)

// parse appends the entries of lines, up to the capacity of entries or the end of the response.
func (p *pump[T]) parse(entries []T, lines []byte) (_ []T, used int, fault, err error) {
	text := ""
	if p.form.text {
		text = string(lines) // one string for the ids of a chunk
	}
	maxLine := p.conn.maxLine
	for used < len(lines) && len(entries) < chunkEntries {
		room := min(chunkEntries, len(entries)+p.max-p.count)
		plain, n := p.form.plain(entries[:len(entries):room], lines[used:], text[min(used, len(text)):], maxLine)
		if n > 0 {
			p.count += len(plain) - len(entries)
			used += n
			entries = entries[:len(plain)]
			continue
		}
		line := lines[used : used+bytes.Index(lines[used:], crlf)]
		if len(line) == 1 && line[0] == '.' {
			p.eof = true
			return entries, used + len(line) + 2, nil, nil
		}
		if len(line) > maxLine {
			return entries, used, nil, ErrLineTooLong
		}
		used += len(line) + 2
		if p.count++; p.count > p.max {
			return entries, used, nil, errTooManyEntries(p.max, "lines")
		}
		if isBlank(line) {
			continue
		}
		e, reason := p.form.line(line)
		if reason != "" {
			return entries, used, &ProtocolError{Command: p.command, Line: p.conn.quoted(line), Reason: reason}, nil
		}
		entries = append(entries, e)
	}
	return entries, used, nil, nil
}
