// Package dotstuff removes the dot-stuffing of multi-line responses (RFC 1939, section 3).
package dotstuff

// An Unstuffer removes the dot-stuffing of one multi-line response, chunk by chunk and in place.
//
// A leading dot is removed only if another one follows it, and only CRLF . CRLF ends the response: a line ends at CRLF,
// and a bare LF or CR is a byte like any other. The zero value is at the start of a response.
//
// The rate depends little on the data, so that no sender can slow it down: long chunks are un-stuffed in blocks, by
// code that does not branch where dots may be.
type Unstuffer struct{ at lineState }

// lineState is where a byte is within its line.
type lineState uint8

const (
	atStart lineState = iota // the first byte of a line
	afterCR
	midLine
)

// next returns the state after a byte.
func (at lineState) next(c byte) lineState {
	switch {
	case c == '\r':
		return afterCR
	case c == '\n' && at == afterCR:
		return atStart
	}
	return midLine
}

// Next removes the dot-stuffing of b as far as it can be decided. On return, b[:text] is text, and b[:used] has been
// dealt with. Unless end is set, which reports that the terminator was the last of it, at most two bytes are left: they
// must be passed again with more data after them.
func (u *Unstuffer) Next(b []byte) (text, used int, end bool) {
	text, used, end = u.bytewise(b, 0, 0, 2)
	if end || used < 2 {
		return text, used, end
	}
	text, used, before := unstuff(b, text, used)
	u.at = midLine.next(byte(before)).next(byte(before >> 8))
	return u.bytewise(b, text, used, len(b))
}

// bytewise moves b[s:] to b[d:] byte by byte until s is at least limit, and leaves out the dots that were stuffed. It
// returns the new d and s.
func (u *Unstuffer) bytewise(b []byte, d, s, limit int) (text, used int, end bool) {
	at := u.at
	for s < min(limit, len(b)) {
		c := b[s]
		if at == atStart && c == '.' {
			after := b[s+1:]
			if len(after) == 0 || len(after) == 1 && after[0] == '\r' {
				break
			}
			if after[0] == '\r' && after[1] == '\n' {
				return d, s + 3, true
			}
			if after[0] == '.' {
				s++
			}
		}
		b[d] = c
		d, s, at = d+1, s+1, at.next(c)
	}
	u.at = at
	return d, s, false
}
