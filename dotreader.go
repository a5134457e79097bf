package pop3

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// unstuffer takes the dot-stuffing off one multi-line response (RFC 1939, section 3), piece by piece and in place.
//
// A leading dot is removed only where another follows it, and only CRLF . CRLF ends the response: a line ends at CRLF,
// a bare LF or CR is an octet like any other. The zero value is at the start of a response.
type unstuffer struct{ at lineState }

// lineState is what must be known of the octets before a piece.
type lineState uint8

const (
	atStart lineState = iota // at the start of a line
	afterCR                  // behind a CR
	midLine
)

// next un-stuffs b as far as it can be decided: b[:text] is then text, b[:used] is done with, and end says whether the
// terminator was the last of it. The octets not used, two at most, must be given again with more behind them.
func (u *unstuffer) next(b []byte) (text, used int, end bool) {
	d, s := 0, 0 // b[:d] is text, b[s:] is still to be looked at; b[d:s] is the hole
	for s < len(b) {
		if u.at == atStart && b[s] == '.' {
			if len(b)-s < 2 {
				break
			}
			switch b[s+1] {
			case '.':
				s++
			case '\r':
				if len(b)-s < 3 {
					return d, s, false
				}
				if b[s+2] == '\n' {
					return d, s + 3, true
				}
			}
			b[d] = '.'
			d, s, u.at = d+1, s+1, midLine
			// Where one line is stuffed, others are: lines under eight octets are not worth a scan and a copy.
			if n := u.shortLine(b, d, s); n > 0 {
				d, s = d+n, s+n
				continue
			}
		}
		e := u.scan(b, s)
		at := u.state(b, s, e) // before the copy, which may overwrite the octets it looks at
		if d != s {
			copy(b[d:], b[s:e])
		}
		d, s, u.at = d+e-s, e, at
	}
	return d, s, false
}

// shortLine moves the line at b[s:] to b[d:] if it ends within eight octets, and returns its length, else 0.
func (u *unstuffer) shortLine(b []byte, d, s int) int {
	if len(b)-s < 8 {
		return 0
	}
	const ones = 0x0101010101010101
	w := binary.LittleEndian.Uint64(b[s:])
	x := w ^ ones*'\n'
	lf := (x - ones) & ^x & (ones << 7)
	if lf == 0 {
		return 0
	}
	n := bits.TrailingZeros64(lf)/8 + 1
	u.at = u.state(b, s, s+n)
	if s-d >= 8 { // all eight fit into the hole
		binary.LittleEndian.PutUint64(b[d:], w)
	} else {
		copy(b[d:], b[s:s+n])
	}
	return n
}

// state is the line state before b[i], where u.at is that before b[from].
func (u *unstuffer) state(b []byte, from, i int) lineState {
	if i == from {
		return u.at
	}
	switch b[i-1] {
	case '\r':
		return afterCR
	case '\n':
		if i-from == 1 && u.at == afterCR || i-from > 1 && b[i-2] == '\r' {
			return atStart
		}
	}
	return midLine
}

// scan returns the index of the next dot at the start of a line, from b[from] on, or len(b).
//
// Hopping from dot to dot is three times as fast as looking for "\n." while dots are rare, and thirty times slower in
// a table of contents. So each false dot costs 64 octets of credit, and a piece that runs out of credit is searched
// for the pair.
func (u *unstuffer) scan(b []byte, from int) int {
	credit := 512
	for i := from; i < len(b); {
		k := bytes.IndexByte(b[i:], '.')
		if k < 0 {
			return len(b)
		}
		i += k
		if u.state(b, from, i) == atStart {
			return i
		}
		i++
		if credit = min(credit+k-64, 4096); credit < 0 {
			return u.scanPairs(b, from, i)
		}
	}
	return len(b)
}

func (u *unstuffer) scanPairs(b []byte, from, i int) int {
	for {
		k := bytes.Index(b[i:], []byte("\n."))
		if k < 0 {
			return len(b)
		}
		i += k + 1
		if u.state(b, from, i) == atStart {
			return i
		}
	}
}
