package fetch

import (
	"bytes"
	"strings"
	"testing"
)

func TestLFWriter(t *testing.T) {
	for _, in := range []string{
		"", "\r", "\n", "\r\n", "a\r\nb\r\n", "a\rb\n", "\r\r\n\n\r", "no line end", "\r\n\r\n.\r\n", "\x00\r\x00\r\n\xff", strings.Repeat("line\r\n", 100),
	} {
		want := strings.ReplaceAll(in, "\r\n", "\n")
		for size := 1; size <= len(in)+1 && size < 20; size++ {
			var out bytes.Buffer
			w := &lfWriter{w: &out}
			for rest := in; rest != ""; {
				chunk := rest[:min(size, len(rest))]
				rest = rest[len(chunk):]
				if n, err := w.Write([]byte(chunk)); n != len(chunk) || err != nil {
					t.Fatalf("Write(%q) = %d, %v", chunk, n, err)
				}
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if out.String() != want {
				t.Errorf("%q in chunks of %d = %q, want %q", in, size, out.String(), want)
			}
		}
	}
}
