//go:build !purego

package dotstuff

// unstuff moves b[s:] to b[d:] and leaves out the dots that were stuffed. It stops before the terminator, or fewer than
// 32 bytes before the end of b. It returns the new d and s, and the two bytes before s as they were, the last one in
// the high byte. Before the call, b[s-2:s] must be as it was.
//
//go:noescape
func unstuff(b []byte, d, s int) (text, used int, before uint16)
