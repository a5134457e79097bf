package dotstuff

import (
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

// FuzzUnstuff compares with the reference for any bytes in chunks of any lengths.
func FuzzUnstuff(f *testing.F) {
	f.Add("Subject: x\r\n\r\n..\r\n.a\r\n.\r\n+OK", []byte{1, 2, 3})
	f.Add("..\r\n..1234567\r\n..12345678\r\n\n.\r\n.\r\n", []byte{20})
	f.Add(strings.Repeat("x . . . .....\r\n..", 100)+"\r\n.\r\n", []byte{255, 1})
	f.Fuzz(func(t *testing.T, wire string, pieces []byte) {
		wire = wire[:min(len(wire), 1<<14)]
		checkUnstuff(t, wire, oracle.Lengths(pieces)...)
		checkUnstuff(t, wire+more, 1<<20)
	})
}

// FuzzStuffRoundTrip stuffs any text and un-stuffs it.
func FuzzStuffRoundTrip(f *testing.F) {
	f.Add("", []byte{})
	f.Add(".", []byte{0})
	f.Add("a\r\n.\r\n..\r\n\n.\r\n.b", []byte{2, 0})
	f.Fuzz(func(t *testing.T, text string, pieces []byte) {
		wire := oracle.Stuff(text)
		got, used, end := unstuffChunks(t, wire, oracle.Lengths(pieces)...)
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		if got != text || used != len(wire) || !end {
			t.Errorf("%q comes back from %q as %q, %d, %v", text, wire, got, used, end)
		}
	})
}
