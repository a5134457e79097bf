package dotstuff

import (
	"bytes"
	"testing"
)

// TestSkipToPair has a pair at each place of blocks of all lengths, among octets that are half of one.
func TestSkipToPair(t *testing.T) {
	room := bytes.Repeat([]byte{'?'}, 300)
	for length := 1; length < 200; length++ {
		for _, filler := range []string{"x", "\n", ".", ".\n", "\r\n", "\x0b/", "\x8a\xae"} {
			b := room[50 : 50+length : 50+length]
			copy(b, bytes.Repeat([]byte(filler), length/len(filler)+1))
			first := bytes.Index(b, []byte("\n."))
			if filler != ".\n" && first >= 0 {
				t.Fatalf("%q is not what this test is about", filler)
			}
			if first < 0 {
				checkSkip(t, b, 1, length)
			}
			for at := 1; at < length; at++ {
				was := [2]byte(b[at-1:])
				b[at-1], b[at] = '\n', '.'
				for _, i := range []int{1, max(1, at-17), max(1, at-1), at, min(at+1, length)} {
					want := length
					if k := bytes.Index(b[i-1:], []byte("\n.")); k >= 0 {
						want = i + k
					}
					checkSkip(t, b, i, want)
				}
				copy(b[at-1:], was[:])
			}
		}
	}
}

// checkSkip wants the index of the pair, or one before it near the end.
func checkSkip(t *testing.T, b []byte, i, want int) {
	t.Helper()
	got := skipToPair(b, i)
	if got != want && (got < i || got > want || len(b)-got >= 32) {
		t.Fatalf("skipToPair(%q, %d) = %d, want %d", b, i, got, want)
	}
}
