package fetch

import (
	"bytes"
	"crypto/sha256"
	"io"

	"github.com/seed-5b1d5243/pop3"
)

const (
	// maxDigested bounds the part of a header that is digested, and maxHeader the part that Policy.Filter sees.
	maxDigested = 64 << 10
	maxHeader   = 256 << 10
)

// volatileFields are the fields that mail servers add and change on their own.
var volatileFields = [][]byte{
	[]byte("status:"), []byte("x-status:"), []byte("x-uidl:"), []byte("x-keywords:"), []byte("x-imap:"), []byte("x-imapbase:"),
	[]byte("x-mozilla-status:"), []byte("x-mozilla-status2:"),
}

// A headerBuffer keeps the header of a message that is written to it, without the blank line, up to a limit.
type headerBuffer struct {
	limit int
	text  []byte
	ended bool
}

func (h *headerBuffer) reset(limit int) { *h = headerBuffer{limit: limit, text: h.text[:0]} }

func (h *headerBuffer) write(p []byte) {
	if h.ended {
		return
	}
	searched := max(0, len(h.text)-3)
	h.text = append(h.text, p[:min(len(p), h.limit-len(h.text))]...)
	if end := headerEnd(h.text, searched); end >= 0 {
		h.text, h.ended = h.text[:end], true
	} else if len(h.text) == h.limit {
		h.ended = true
	}
}

// headerEnd returns the index of the blank line after a header, or -1. The search begins at from.
func headerEnd(text []byte, from int) int {
	if bytes.HasPrefix(text, crlfLine) || bytes.HasPrefix(text, []byte("\n")) {
		return 0
	}
	for {
		i := bytes.IndexByte(text[from:], '\n')
		if i < 0 {
			return -1
		}
		from += i + 1
		if rest := text[from:]; bytes.HasPrefix(rest, crlfLine) || bytes.HasPrefix(rest, []byte("\n")) {
			return from
		}
	}
}

// digest returns the Digest of the header.
func (h *headerBuffer) digest() Digest {
	sum := sha256.New()
	text := h.text[:min(len(h.text), maxDigested)]
	skip := false
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line = text[:i+1]
		}
		text = text[len(line):]
		if line[0] != ' ' && line[0] != '\t' {
			skip = isVolatile(line)
		}
		if !skip {
			sum.Write(line)
		}
	}
	return Digest(sum.Sum(nil)[:len(Digest{})])
}

func isVolatile(line []byte) bool {
	if c := line[0] | 0x20; c != 's' && c != 'x' {
		return false
	}
	for _, field := range volatileFields {
		if len(line) >= len(field) && bytes.EqualFold(line[:len(field)], field) {
			return true
		}
	}
	return false
}

// A body is a message on its way from a session to a Sink. It keeps the header, and tells a failure of the session from one of the
// Sink.
type body struct {
	m        *pop3.Message
	prefix   []byte // not from m
	first    []byte // read from m and not yet returned
	buf      [4 << 10]byte
	header   headerBuffer
	octets   int64
	complete bool  // m was read to its end
	err      error // of m
	progress func(octets int64)
}

// open begins a message, of whose header it keeps limit bytes. It returns the *pop3.ServerError if the server refused it.
func (b *body) open(m *pop3.Message, limit int) error {
	b.m, b.prefix, b.octets, b.complete, b.err = m, nil, 0, false, nil
	b.header.reset(limit)
	n := 0
	for n == 0 && b.err == nil && !b.complete {
		n, _ = b.read(b.buf[:])
	}
	b.first = b.buf[:n]
	return b.err
}

// read reads from m.
func (b *body) read(p []byte) (int, error) {
	n, err := b.m.Read(p)
	b.received(p[:n])
	if err == io.EOF {
		b.complete = true
	} else if err != nil {
		b.err = err
	}
	return n, err
}

func (b *body) received(p []byte) {
	b.header.write(p)
	b.octets += int64(len(p))
	if b.progress != nil && len(p) > 0 {
		b.progress(int64(len(p)))
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	for _, text := range []*[]byte{&b.prefix, &b.first} {
		if len(*text) > 0 {
			n := copy(p, *text)
			*text = (*text)[n:]
			return n, nil
		}
	}
	if b.complete {
		return 0, io.EOF
	}
	return b.read(p)
}

// WriteTo implements io.WriterTo.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	total := int64(0)
	for _, text := range []*[]byte{&b.prefix, &b.first} {
		if len(*text) == 0 {
			continue
		}
		n, err := w.Write(*text)
		total += int64(n)
		*text = (*text)[n:]
		if err != nil {
			return total, err
		}
	}
	if b.complete {
		return total, nil
	}
	t := &tee{b: b, w: w}
	n, err := b.m.WriteTo(t)
	switch {
	case err == nil:
		b.complete = true
	case t.err == nil:
		b.err = err
	}
	return total + n, err
}

// A tee is the Writer of body.WriteTo.
type tee struct {
	b   *body
	w   io.Writer
	err error // of w
}

func (t *tee) Write(p []byte) (int, error) {
	var n int
	n, t.err = t.w.Write(p)
	if t.err == nil && n < len(p) {
		t.err = io.ErrShortWrite
	}
	t.b.received(p[:n])
	return n, t.err
}
