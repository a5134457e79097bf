package dotstuff

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

// unstuffPieces has an Unstuffer take wire in pieces of the given lengths, in turn.
func unstuffPieces(t testing.TB, wire string, lengths ...int) (text string, used int, end bool) {
	t.Helper()
	var u Unstuffer
	var out, b []byte
	for i := 0; used+len(b) < len(wire); i++ {
		at := used + len(b)
		b = append(b, wire[at:min(at+lengths[i%len(lengths)], len(wire))]...)
		given := slices.Clone(b)
		n, taken, done := u.Next(b)
		if n > taken || taken > len(b) || !done && len(b)-taken > 2 {
			t.Fatalf("Next(%q) = %d, %d, %v", given, n, taken, done)
		}
		if !bytes.Equal(b[taken:], given[taken:]) {
			t.Fatalf("Next(%q) changed what it did not use to %q", given, b[taken:])
		}
		out = append(out, b[:n]...)
		used += taken
		b = b[taken:]
		if done {
			return string(out), used, true
		}
	}
	return string(out) + string(b), len(wire), false
}

// checkUnstuff compares with the reference.
func checkUnstuff(t testing.TB, wire string, lengths ...int) {
	t.Helper()
	text, used, end := unstuffPieces(t, wire, lengths...)
	wantText, wantUsed, wantEnd := oracle.Unstuff(wire)
	if text != wantText || used != wantUsed || end != wantEnd {
		t.Fatalf("un-stuffing %.400q in pieces of %d: %.400q, %d, %v; want %.400q, %d, %v",
			wire, lengths, text, used, end, wantText, wantUsed, wantEnd)
	}
}

// checkSplits compares for the whole in one piece, in pieces of one, two and three octets, and for every split in two.
func checkSplits(t testing.TB, wire string) {
	t.Helper()
	whole := max(len(wire), 1)
	for _, n := range []int{whole, 1, 2, 3} {
		checkUnstuff(t, wire, n)
	}
	for i := 1; i < len(wire); i++ {
		checkUnstuff(t, wire, i, whole)
	}
}

func TestUnstuff(t *testing.T) {
	for _, test := range []struct{ name, wire, text string }{
		{"empty", ".\r\n", ""},
		{"plain", "Subject: x\r\n\r\nbody\r\n.\r\n", "Subject: x\r\n\r\nbody\r\n"},
		{"blank line alone", "\r\n.\r\n", "\r\n"},
		{"stuffed dot alone in its line", "..\r\n.\r\n", ".\r\n"},
		{"two stuffed dots", "...\r\n.\r\n", "..\r\n"},
		{"stuffed text", "..x\r\n.\r\n", ".x\r\n"},
		{"a server that forgets to stuff", ".x\r\n.y.\r\n.\r\n", ".x\r\n.y.\r\n"},
		{"dots that are not leading", "a.\r\nb..\r\n .\r\n.\r\n", "a.\r\nb..\r\n .\r\n"},
		{"bare LF before a dot", "a\n.\n..\r\n.\r\n", "a\n.\n..\r\n"},
		{"bare LF, dot, CRLF", "a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n"},
		{"bare CR before a dot", "a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n"},
		{"dot and bare LF", ".\nb\r\n.\r\n", ".\nb\r\n"},
		{"dot and bare CR", ".\rb\r\n.\r\n", ".\rb\r\n"},
		{"dot, CR, CRLF", ".\r\r\n.\r\n", ".\r\r\n"},
		{"CR CRLF line ends", "a\r\r\n..b\r\r\n.\r\n", "a\r\r\n.b\r\r\n"},
		{"LF CR", "a\n\r.\r\n\r\n.\r\n", "a\n\r.\r\n\r\n"},
		{"NUL and 8-bit", "\x00.\xff\r\n..\x00\r\n.\r\n", "\x00.\xff\r\n.\x00\r\n"},
		{"blanks behind the dot", ". \r\n.\r\n", ". \r\n"},
		{"pipelined answer behind it", "a\r\n.\r\n+OK\r\n.\r\n", "a\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, _, end := oracle.Unstuff(test.wire)
			if text != test.text || !end {
				t.Fatalf("the reference says %q, %v; want %q", text, end, test.text)
			}
			checkSplits(t, test.wire)
		})
	}
}

// TestUnstuffEverything tries every short sequence of the octets that matter, alone and behind lines that leave a hole.
func TestUnstuffEverything(t *testing.T) {
	longest := 7
	if testing.Short() {
		longest = 6
	}
	var try func(wire string)
	try = func(wire string) {
		checkSplits(t, wire)
		for _, more := range []string{"", "..\r\n..\r\n"} {
			behind := strings.Repeat("..\r\n", 9) + wire + more
			checkUnstuff(t, behind, len(behind))
		}
		if len(wire) < longest {
			for _, c := range ".\r\na" {
				try(wire + string(c))
			}
		}
	}
	try("")
}

// TestUnstuffInPlace moves lines of every length over holes of every size, in lines of up to eight octets and longer.
func TestUnstuffInPlace(t *testing.T) {
	for hole := range 20 {
		for length := range 24 {
			line := strings.Repeat("x", length) + "\r\n"
			for _, end := range []string{"", "..", ".", ".\r", "\r\n", "y", "\n.\r\n", "..\r\n..\r\n.\r\n", "..a\n..b\r\n..c\r\n.d\r\n"} {
				wire := strings.Repeat("..\r\n", hole) + ".." + line + "." + line + line + end + ".\r\n"
				checkUnstuff(t, wire, len(wire))
				checkUnstuff(t, wire, len(wire)-7, 7)
				checkUnstuff(t, wire, hole+5)
			}
		}
	}
}

// TestUnstuffRandom has long texts of every kind, so that each way of looking for dots is taken.
func TestUnstuffRandom(t *testing.T) {
	kinds := [][]string{
		{"a", "bcdefg", ".", "..", "\r\n", "\r\n.", "\n", "\r"},
		{"Chapter ", " . . . . . . ", "....................", " 12\r\n", "\r\n..", "\n."},
		{strings.Repeat("no dot in this line ", 40), "\r\n", "\r\n."},
		{"..\r\n", "..a\r\n", ".b\r\n", "..12345\r\n", "..123456\r\n"},
	}
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	r := rand.New(rand.NewPCG(1939, 3))
	for range rounds {
		for _, kind := range kinds {
			var b strings.Builder
			for size := r.IntN(6000); b.Len() < size; {
				b.WriteString(kind[r.IntN(len(kind))])
			}
			wire := b.String() + "\r\n.\r\nmore"
			checkUnstuff(t, wire, len(wire))
			checkUnstuff(t, wire, 1+r.IntN(20), 1+r.IntN(2000), 1+r.IntN(20))
		}
	}
}
