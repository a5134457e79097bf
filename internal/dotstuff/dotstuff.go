// Package dotstuff takes the dot-stuffing off multi-line responses (RFC 1939, section 3).
package dotstuff

import (
	"encoding/binary"
	"math/bits"
)

// An Unstuffer takes the dot-stuffing off one multi-line response, piece by piece and in place.
//
// A leading dot is removed only where another follows it, and only CRLF . CRLF ends the response: a line ends at CRLF,
// a bare LF or CR is an octet like any other. The zero value is at the start of a response.
type Unstuffer struct{ at lineState }

// lineState is what must be known of the octets before a piece.
type lineState uint8

const (
	atStart lineState = iota // at the start of a line
	afterCR                  // behind a CR
	midLine
)

// Next un-stuffs b as far as it can be decided: b[:text] is then text, b[:used] is done with, and end says whether the
// terminator was the last of it. The octets not used, two at most, must be given again with more behind them.
func (u *Unstuffer) Next(b []byte) (text, used int, end bool) {
	d, s := 0, 0 // b[:d] is text, b[s:] is still to be looked at; b[d:s] is the hole
	for s < len(b) {
		if u.at == atStart && b[s] == '.' {
			if s-d >= 8 {
				if d, s = shortLines(b, d, s); s == len(b) || b[s] != '.' {
					continue
				}
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
		e := scan(b, min(s+1, len(b)))
		at := u.state(b, s, e) // the LF there may be a bare one; the copy may overwrite it
		if d != s {
			copy(b[d:], b[s:e])
		}
		d, s, u.at = d+e-s, e, at
	}
	return d, s, false
}

// shortLines moves stuffed lines from b[s:] to b[d:] as long as they end within nine octets: where one line is
// stuffed others are, and short ones are not worth a scan and a copy each. The hole b[d:s] must have room for eight
// octets. It returns d and s behind the lines, which all ended in CRLF.
func shortLines(b []byte, d, s int) (int, int) {
	var mask, before uint64
	want := uint64(1) // a line like the last one has want in mask, its dot and its CRLF, and no LF before
	n := 0            // the octets of its text
	for s+9 <= len(b) && b[s] == '.' {
		w := binary.LittleEndian.Uint64(b[s+1 : s+9])
		if lfs := zeros(w ^ ones*'\n'); w&mask != want || lfs&before != 0 {
			lf := bits.TrailingZeros64(lfs&highs) / 8
			if lf < 2 || lf > 7 || byte(w) != '.' || byte(w>>(8*(lf-1))) != '\r' {
				break
			}
			mask = 0xff | 0xffff<<(8*(lf-1))
			want = w & mask
			before = highs & (1<<(8*lf) - 1)
			n = lf + 1
		}
		binary.LittleEndian.PutUint64(b[d:d+8], w) // what is behind the line falls into the hole
		d, s = d+n, s+1+n
	}
	return d, s
}

// state is the line state before b[i], where u.at is that before b[from].
func (u *Unstuffer) state(b []byte, from, i int) lineState {
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

// scan returns the index of the next dot behind an LF in b[i:], or len(b). i is at least 1.
func scan(b []byte, i int) int {
	i = skipToPair(b, i)
	for i < len(b) && (b[i] != '.' || b[i-1] != '\n') {
		i++
	}
	return i
}

const (
	ones  = 0x0101010101010101 // in each octet of a word
	highs = ones << 7
)

// zeros has the high bit set in the octets of x that are zero, up to the lowest of those; the rest means nothing.
func zeros(x uint64) uint64 { return (x - ones) &^ x }
