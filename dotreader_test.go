package pop3

import (
	"io"
	"testing"
)

func TestDotReader(t *testing.T) {
	const heard = "..a\r\n.b\r\n.\r\n+OK\r\n"
	splits(heard, func(heard ...string) {
		c := connOn(heard...)
		r := dotReader{conn: c}
		var got []byte
		for !r.end {
			text, err := r.next()
			if err != nil || len(text) == 0 && !r.end {
				t.Fatalf("%q: text %q, end %v, %v", heard, text, r.end, err)
			}
			got = append(got, text...)
		}
		if string(got) != ".a\r\n.b\r\n" || r.octets != int64(len(got)) {
			t.Errorf("%q: text %q, %d bytes", heard, got, r.octets)
		}
		if word, _, err := c.status(); word != "+OK" || err != nil {
			t.Errorf("%q: status line after the text: %q, %v", heard, word, err)
		}
	})
}

func TestDotReaderTruncated(t *testing.T) {
	r := dotReader{conn: connOn("a\r", "\n.", "\r")}
	var got []byte
	for {
		text, err := r.next()
		if err == io.EOF {
			break
		}
		if r.end || err != nil {
			t.Fatalf("truncated in the terminator: end %v, %v", r.end, err)
		}
		got = append(got, text...)
	}
	if string(got) != "a\r\n" || r.octets != 3 {
		t.Errorf("text before the end: %q, %d bytes", got, r.octets)
	}
}

func TestDotReaderDrain(t *testing.T) {
	splits("..a\r\nb\r\n.\r\n-ERR\r\n", func(heard ...string) {
		c := connOn(heard...)
		r := dotReader{conn: c}
		if err := r.drain(); err != nil || !r.end || r.octets != 7 {
			t.Errorf("%q: drained %d bytes, end %v, %v", heard, r.octets, r.end, err)
		}
		if word, _, err := c.status(); word != "-ERR" || err != nil {
			t.Errorf("%q: status line after draining: %q, %v", heard, word, err)
		}
	})
}
