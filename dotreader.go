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
			if n, k := u.shortLines(b, d, s); k > 0 {
				d, s = d+n, s+k
				continue
			}
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

// shortLines moves stuffed lines from b[s:] to b[d:] as long as they end within eight octets: where one line is
// stuffed others are, and short ones are not worth a scan and a copy each. It returns the octets of text, and those used.
func (u *unstuffer) shortLines(b []byte, d, s int) (text, used int) {
	const ones = 0x0101010101010101
	to, from := d, s
	n := 1 // length of the line before: most often that of this one too, which spares waiting for the search
	for len(b)-from > 8 && b[from] == '.' && b[from+1] == '.' {
		w := binary.LittleEndian.Uint64(b[from+1:]) // from the dot that stays
		x := w ^ ones*'\n'
		lf := (x - ones) & ^x & (ones << 7) // the lowest bit set is that of the first LF
		if lf&-lf != 0x80<<(8*(n-1)) {
			if lf == 0 {
				break
			}
			n = bits.TrailingZeros64(lf)/8 + 1
		}
		if from+1-to >= 8 { // all eight octets fit into the hole
			binary.LittleEndian.PutUint64(b[to:], w)
		} else {
			copy(b[to:], b[from+1:from+1+n])
		}
		to, from = to+n, from+1+n
		if byte(w>>(8*(n-2))) != '\r' { // n is at least 2: the dot and the LF
			u.at = midLine
			break
		}
	}
	return to - d, from - s
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
