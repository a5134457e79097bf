//go:build !amd64 || purego

package dotstuff

import (
	"encoding/binary"
	"math/bits"
)

// skipToPair returns the index of the first dot in b[i:] that is behind an LF, or one before which there is none and that
// is less than 32 octets from the end. i is at least 1.
func skipToPair(b []byte, i int) int {
	for ; i+32 <= len(b); i += 32 {
		p := b[i-1 : i+32]
		if (pairs(p, 0)|pairs(p, 8)|pairs(p, 16)|pairs(p, 24))&highs == 0 {
			continue
		}
		for at := 0; ; at += 8 {
			if found := pairs(p, at) & highs; found != 0 {
				return i + at + bits.TrailingZeros64(found)/8
			}
		}
	}
	return i
}

// pairs has the high bit set in the octets of p[at:at+8] that are an LF with a dot behind it, up to the first.
func pairs(p []byte, at int) uint64 {
	return zeros((binary.LittleEndian.Uint64(p[at:]) ^ ones*'\n') | (binary.LittleEndian.Uint64(p[at+1:]) ^ ones*'.'))
}
