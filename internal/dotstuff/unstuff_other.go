//go:build !amd64 || purego

package dotstuff

import "encoding/binary"

// block is the number of bytes that are searched together.
const block = 32

// unstuff moves b[s:] to b[d:] and leaves out the dots that were stuffed. It stops before the terminator, or fewer than
// block+2 bytes before the end of b. It returns the new d and s, and the two bytes before s as they were, the last one
// in the high byte. Before the call, b[s-2:s] must be as it was.
//
// Apart from the terminator, only one branch depends on the data: a block without a dot after an LF takes less time.
func unstuff(b []byte, d, s int) (text, used int, before uint16) {
	if d == s { // nothing has been removed yet: the bytes stay where they are
		s = skip(b, s)
		d = s
	}
	last := uint64(b[s-2])<<48 | uint64(b[s-1])<<56 // the word before b[s:] as it was: b may be overwritten there
	for s+block+2 <= len(b) {
		src := (*[block + 2]byte)(b[s:])
		dst := (*[block]byte)(b[d:])
		w0, w1, w2, w3 := load(src[0:8]), load(src[8:16]), load(src[16:24]), load(src[24:32])
		if (pairs(w0<<8|last>>56, w0)|pairs(load(src[7:15]), w1)|pairs(load(src[15:23]), w2)|pairs(load(src[23:31]), w3))&highs == 0 {
			store(dst[0:8], w0)
			store(dst[8:16], w1)
			store(dst[16:24], w2)
			store(dst[24:32], w3)
			d, s, last = d+block, s+block, w3
			continue
		}
		var moved, n int
		moved, n, last = unstuffBlock(dst, src, last)
		d, s = d+moved, s+n
		if n < block {
			break
		}
	}
	return d, s, uint16(last >> 48)
}

// skip returns the index of a block in b[s:] that contains a dot after an LF, or an index fewer than block+2 bytes
// before the end of b.
func skip(b []byte, s int) int {
	for ; s+block+2 <= len(b); s += block {
		p := b[s-1 : s+block]
		if (pairs(load(p[0:8]), load(p[1:9]))|pairs(load(p[8:16]), load(p[9:17]))|
			pairs(load(p[16:24]), load(p[17:25]))|pairs(load(p[24:32]), load(p[25:33])))&highs != 0 {
			break
		}
	}
	return s
}

// unstuffBlock moves the bytes of src to dst, which may overlap, and leaves out the dots that were stuffed. last is the
// word before src. It returns how many bytes it moved to dst, how many of src it used, and the word before the rest of
// src. The rest is empty unless the terminator begins in its first word.
func unstuffBlock(dst *[block]byte, src *[block + 2]byte, last uint64) (moved, used int, lastUsed uint64) {
	for ; used < block; used += 8 {
		w, w1, w2 := load(src[used:used+8]), load(src[used+1:used+9]), load(src[used+2:used+10])
		leading := differ(w<<16|last>>48, '\r') | differ(w<<8|last>>56, '\n') | differ(w, '.')
		if zeros(leading|differ(w1, '\r')|differ(w2, '\n'))&highs != 0 {
			break
		}
		stuffed := zeros(leading|differ(w1, '.')) & highs // two at most: they are at least four bytes apart
		second := stuffed & (stuffed - 1)
		store(dst[moved:], remove(remove(w, second), stuffed^second))
		moved += 8 - int(stuffed>>7*ones>>56)
		last = w
	}
	return moved, used, last
}

// remove takes the byte out of w whose high bit is set in mark, and moves the bytes after it down. It returns w if mark
// is 0.
func remove(w, mark uint64) uint64 {
	keep := uint64(int64(mark-1) >> 7) // ones in the bytes before it
	return w>>8 ^ (w^w>>8)&keep
}

// pairs has a high bit set if and only if a byte of w is a dot and the same byte of before is an LF.
func pairs(before, w uint64) uint64 { return zeros(differ(before, '\n') | differ(w, '.')) }

const (
	ones  = 0x0101010101010101 // 1 in each byte of a word
	highs = ones << 7
)

// differ is zero in the bytes of w that are c.
func differ(w uint64, c byte) uint64 { return w ^ ones*uint64(c) }

// zeros has the high bit set in the bytes of x that are zero. It may also be set in a byte that is 1 and follows one
// that is zero. In a word that is zero where a dot follows CRLF there is no such byte: the next one differs from a dot
// that follows CRLF by at least the 7 that an LF differs from a CR. The lower bits are undefined.
func zeros(x uint64) uint64 { return (x - ones) &^ x }

func load(b []byte) uint64     { return binary.LittleEndian.Uint64(b) }
func store(b []byte, w uint64) { binary.LittleEndian.PutUint64(b, w) }
