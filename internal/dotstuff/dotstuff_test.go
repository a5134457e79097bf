package dotstuff

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

// more is data after a response. It is long enough for the response to be un-stuffed in blocks to its end.
var more = strings.Repeat("+OK\r\n..\r\n", 12)

// unstuffChunks passes wire to an Unstuffer in chunks of the given lengths, in turn.
func unstuffChunks(t testing.TB, wire string, lengths ...int) (text string, used int, end bool) {
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
			t.Fatalf("Next(%q) changed the bytes that it did not use to %q", given, b[taken:])
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
	text, used, end := unstuffChunks(t, wire, lengths...)
	wantText, wantUsed, wantEnd := oracle.Unstuff(wire)
	if text != wantText || used != wantUsed || end != wantEnd {
		t.Fatalf("un-stuffing %.400q in chunks of %d: %.400q, %d, %v; want %.400q, %d, %v",
			wire, lengths, text, used, end, wantText, wantUsed, wantEnd)
	}
}

// checkSplits compares for one chunk, for chunks of one, two and three bytes, and for every split in two.
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
		{"blanks after the dot", ". \r\n.\r\n", ". \r\n"},
		{"pipelined response after it", "a\r\n.\r\n+OK\r\n.\r\n", "a\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, _, end := oracle.Unstuff(test.wire)
			if text != test.text || !end {
				t.Fatalf("the reference returns %q, %v; want %q", text, end, test.text)
			}
			checkSplits(t, test.wire)
			checkSplits(t, test.wire+more)
		})
	}
}

// TestUnstuffEverything tries every short sequence of the bytes that matter, alone, and in blocks after nothing, one,
// two and nine dots have been removed.
func TestUnstuffEverything(t *testing.T) {
	longest := 7
	if testing.Short() {
		longest = 6
	}
	var try func(wire string)
	try = func(wire string) {
		checkSplits(t, wire)
		for _, removed := range []int{0, 1, 2, 9} {
			in := strings.Repeat("..\r\n", removed) + wire + more
			checkUnstuff(t, in, len(in))
		}
		if len(wire) < longest {
			for _, c := range ".\r\na" {
				try(wire + string(c))
			}
		}
	}
	try("")
}

// TestUnstuffEverywhere has short sequences at every place in and across blocks, among bytes that are parts of them.
func TestUnstuffEverywhere(t *testing.T) {
	var sequences []string
	for _, before := range []string{"", "\r\n", "\n", "\r\r\n", "\n\r"} {
		for _, dots := range []string{".", "..", "..\r\n..", "..\r\n..\r\n..", "...\r\n.."} {
			for _, after := range []string{"", "\r\n", "\r", "\n", "\x01"} {
				sequences = append(sequences, before+dots+after)
			}
		}
	}
	for _, removed := range []int{0, 1, 2, 3, 17} {
		start := strings.Repeat("..\r\n", removed)
		for _, filler := range []string{"x", ".", "\r", "\n", "\r\n", "\n.", "\x0c", "\x8d\x8a\xae"} {
			filling := strings.Repeat(filler, 200)
			for at := range 100 {
				for i, sequence := range sequences {
					if (at+i)%3 > 0 { // the others are alike
						continue
					}
					wire := start + filling[:at] + sequence + filling[at:150]
					checkUnstuff(t, wire, len(wire))
				}
			}
		}
	}
}

// TestUnstuffInBlocks has data that looks like a terminator. Only one may end the fast part: the rest of a chunk would
// be un-stuffed byte by byte.
func TestUnstuffInBlocks(t *testing.T) {
	for _, unit := range []string{"x", "..\r\n", ".\r\r\n", ".\ra\r\n", "\n.\r\n", "\r.\r\n", " .\r\n", "\r\n.\r", "...\r\n", "\r\n.\n", "\xe9\xff\x80\x8e\x8b\xaf\xae"} {
		b := []byte(strings.Repeat(unit, 1000/len(unit)))
		if _, used, _ := unstuff(b, 2, 2); len(b)-used >= 40 {
			t.Errorf("%q: stops %d bytes before the end", unit, len(b)-used)
		}
	}
}

// TestUnstuffInPlace moves lines of all lengths after any number of dots has been removed.
func TestUnstuffInPlace(t *testing.T) {
	for removed := range 20 {
		for length := range 24 {
			line := strings.Repeat("x", length) + "\r\n"
			for _, end := range []string{"", "..", ".", ".\r", "\r\n", "y", "\n.\r\n", "..\r\n..\r\n.\r\n", "..a\n..b\r\n..c\r\n.d\r\n"} {
				wire := strings.Repeat("..\r\n", removed) + ".." + line + "." + line + line + end + ".\r\n"
				checkUnstuff(t, wire, len(wire))
				checkUnstuff(t, wire, len(wire)-7, 7)
				checkUnstuff(t, wire, removed+5)
				checkUnstuff(t, wire+more, len(wire+more))
			}
		}
	}
}

// TestUnstuffRandom has long texts of several kinds.
func TestUnstuffRandom(t *testing.T) {
	kinds := [][]string{
		{"a", "bcdefg", ".", "..", "\r\n", "\r\n.", "\n", "\r"},
		{"Chapter ", " . . . . . . ", "....................", " 12\r\n", "\r\n..", "\n."},
		{strings.Repeat("no dot in this line ", 40), "\r\n", "\r\n."},
		{"..\r\n", "..a\r\n", ".b\r\n", "..12345\r\n", "..123456\r\n", "1\r\n", "1234567890\r\n", "..1234567890\r\n"},
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
