package fetch

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed-5b1d5243/pop3"
)

func digestOf(text string, chunk int) Digest {
	var h headerBuffer
	h.reset(maxDigested)
	for len(text) > 0 {
		n := min(chunk, len(text))
		h.write([]byte(text[:n]))
		text = text[n:]
	}
	return h.digest()
}

func TestHeaderDigest(t *testing.T) {
	base := "From: a\r\nSubject: b\r\n c\r\n"
	same := []string{
		base, base + "\r\n", base + "\r\nbody\r\n", base + "\r\n\r\n",
		base + "Status: RO\r\n", "STATUS: RO\r\n" + base, "X-UIDL: 7\r\n\t8\r\n 9\r\n" + base + "\r\nbody", base + "\nbody",
		"From: a\r\nX-Keywords:\r\nSubject: b\r\n c\r\n\r\n",
	}
	other := []string{
		"", "\r\n" + base, "From: a\r\nSubject: b\r\n", base + "Statuses: x\r\n\r\n", base + "X: Status: RO\r\n",
		"From: a\r\nSubject: b\r\n d\r\n", strings.ReplaceAll(base, "\r\n", "\n"), base + "Stat",
	}
	want := digestOf(base, 1000)
	if want.IsZero() || digestOf("", 1).IsZero() {
		t.Error("zero Digest")
	}
	for _, chunk := range []int{1, 2, 3, 7, 1000} {
		for _, text := range same {
			if digestOf(text, chunk) != want {
				t.Errorf("digest of %q in chunks of %d differs", text, chunk)
			}
		}
		for _, text := range other {
			if digestOf(text, chunk) == want {
				t.Errorf("digest of %q in chunks of %d is the same", text, chunk)
			}
		}
	}
	long := strings.Repeat("X: y\r\n", 20000)
	if digestOf(long, 4096) != digestOf(long+"Z: z\r\n\r\n", 1000) {
		t.Error("digest of a long header depends on more than its beginning")
	}
}

// message returns a *pop3.Message with a text.
func message(t *testing.T, text string) *pop3.Message {
	t.Helper()
	d := &maildrop{mails: []mail{{uid: "1", text: text}}}
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	m, err := c.Retr(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBody(t *testing.T) {
	for _, size := range []int{0, 1, 4<<10 - 20, 4 << 10, 4<<10 + 1, 300 << 10} {
		text := "Subject: x\r\n\r\n" + strings.Repeat("y", size) + "\r\n"
		for name, read := range map[string]func(b *body) ([]byte, error){
			"ReadAll":  func(b *body) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{b}) },
			"one byte": func(b *body) ([]byte, error) { return io.ReadAll(iotest.OneByteReader(b)) },
			"WriteTo": func(b *body) ([]byte, error) {
				var buf bytes.Buffer
				n, err := b.WriteTo(&buf)
				if int(n) != buf.Len() {
					t.Errorf("WriteTo returned %d of %d", n, buf.Len())
				}
				return buf.Bytes(), err
			},
			"both": func(b *body) ([]byte, error) {
				var buf bytes.Buffer
				io.CopyN(&buf, struct{ io.Reader }{b}, 5)
				_, err := b.WriteTo(&buf)
				return buf.Bytes(), err
			},
		} {
			b := &body{}
			events := int64(0)
			b.progress = func(n int64) { events += n }
			if err := b.open(message(t, text), maxDigested); err != nil {
				t.Fatal(err)
			}
			got, err := read(b)
			if err != nil || string(got) != text || !b.complete || b.err != nil {
				t.Errorf("%s of %d: %d bytes, %v, complete %v", name, size, len(got), err, b.complete)
			}
			if b.octets != int64(len(text)) || b.header.digest() != digestOf(text, 100) {
				t.Errorf("%s of %d: %d octets, or another digest", name, size, b.octets)
			}
		}
	}
}

// TestBodyTellsErrorsApart has a Writer fail: that is not an error of the session.
func TestBodyTellsErrorsApart(t *testing.T) {
	text := "Subject: x\r\n\r\n" + strings.Repeat("y", 300<<10) + "\r\n"
	for _, limit := range []int{0, 100, 5000, 100 << 10} {
		b := &body{}
		if err := b.open(message(t, text), maxDigested); err != nil {
			t.Fatal(err)
		}
		w := &fullWriter{room: limit}
		if n, err := b.WriteTo(w); err != io.ErrClosedPipe || int(n) != limit {
			t.Errorf("WriteTo returned %d, %v with room for %d", n, err, limit)
		}
		if b.err != nil {
			t.Errorf("the session failed: %v", b.err)
		}
	}
}

// A fullWriter takes some bytes and then fails.
type fullWriter struct{ room int }

func (w *fullWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	if n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}
