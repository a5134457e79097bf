package fetch

import (
	"bytes"
	"io"
)

// NewLFWriter returns a writer to w that replaces each CRLF by LF. All other bytes, a bare CR included, remain as
// they are. If the last Write ended with a CR, Close writes that CR; it does not close w. A write to w may be as
// short as a line, so w should be buffered.
func NewLFWriter(w io.Writer) io.WriteCloser { return &lfWriter{w: w} }

// An lfWriter writes to w with LF in place of each CRLF. All other bytes, a bare CR included, remain as they are.
type lfWriter struct {
	w  io.Writer
	cr bool // a CR was the last byte, and is not written yet
}

var (
	crByte   = []byte{'\r'}
	crlfLine = []byte("\r\n")
)

// Write returns len(p), unless there is an error.
func (l *lfWriter) Write(p []byte) (int, error) {
	n := len(p)
	if l.cr && n > 0 {
		l.cr = false
		if p[0] != '\n' {
			if _, err := l.w.Write(crByte); err != nil {
				return 0, err
			}
		}
	}
	for len(p) > 0 {
		i := bytes.Index(p, crlfLine)
		chunk, rest := p, p[:0]
		switch {
		case i >= 0:
			chunk, rest = p[:i], p[i+1:]
		case p[len(p)-1] == '\r':
			l.cr = true
			chunk = p[:len(p)-1]
		}
		if len(chunk) > 0 {
			if _, err := l.w.Write(chunk); err != nil {
				return 0, err
			}
		}
		p = rest
	}
	return n, nil
}

// Close is Flush.
func (l *lfWriter) Close() error { return l.Flush() }

// Flush writes a CR that ended the last Write.
func (l *lfWriter) Flush() error {
	if !l.cr {
		return nil
	}
	l.cr = false
	_, err := l.w.Write(crByte)
	return err
}
