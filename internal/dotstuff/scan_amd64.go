//go:build !purego

package dotstuff

// skipToPair returns the index of the first dot in b[i:] that is behind an LF, or one before which there is none and that
// is less than 16 octets from the end. i is at least 1.
//
//go:noescape
func skipToPair(b []byte, i int) int
