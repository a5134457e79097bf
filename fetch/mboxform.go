package fetch

import (
	"bytes"
	"io"
	"strings"
	"time"
)

// maxMboxHeader bounds how far into a message Return-Path is looked for.
const maxMboxHeader = 64 << 10

// NewMboxWriter returns a writer of one message to w in the form of an mbox (mboxrd): a From_ line with the address
// of Return-Path and the time t, the message, and a blank line. The lines of the message get LF line endings, and a >
// is put before each line that begins with "From ", or with any number of > and then "From ". Close ends the message;
// it does not close w. A write to w may be as short as a line, so w should be buffered.
func NewMboxWriter(w io.Writer, t time.Time) io.WriteCloser { return newMboxWriter(w, t) }

// An mboxWriter is the writer of NewMboxWriter.
type mboxWriter struct {
	lf     lfWriter
	quoter *quoter
}

func newMboxWriter(w io.Writer, t time.Time) *mboxWriter {
	q := &quoter{w: w, lineStart: true}
	return &mboxWriter{lf: lfWriter{w: &fromWriter{w: q, raw: w, time: t}}, quoter: q}
}

func (m *mboxWriter) Write(p []byte) (int, error) { return m.lf.Write(p) }

// Close ends the message.
func (m *mboxWriter) Close() error {
	if err := m.lf.Close(); err != nil {
		return err
	}
	if err := m.lf.w.(*fromWriter).flush(); err != nil {
		return err
	}
	return m.quoter.close()
}

// A fromWriter buffers the header until it has the sender for the From_ line, which it writes to raw. The message follows in w.
type fromWriter struct {
	w, raw io.Writer
	time   time.Time
	header []byte
	done   bool
}

func (f *fromWriter) Write(p []byte) (int, error) {
	if f.done {
		return f.w.Write(p)
	}
	from := max(0, len(f.header)-1) // a line end may be split
	f.header = append(f.header, p...)
	if len(f.header) < maxMboxHeader && !bytes.HasPrefix(f.header, []byte("\n")) && !bytes.Contains(f.header[from:], []byte("\n\n")) {
		return len(p), nil
	}
	return len(p), f.flush()
}

func (f *fromWriter) flush() error {
	if f.done {
		return nil
	}
	f.done = true
	line := "From " + returnPath(f.header) + " " + f.time.UTC().Format(time.ANSIC) + "\n"
	if _, err := io.WriteString(f.raw, line); err != nil {
		return err
	}
	_, err := f.w.Write(f.header)
	f.header = nil
	return err
}

// returnPath returns the address of the first Return-Path of a header, or MAILER-DAEMON if there is none that fits in a From_ line.
func returnPath(header []byte) string {
	const daemon, field = "MAILER-DAEMON", "return-path:"
	for len(header) > 0 && header[0] != '\n' {
		line, rest, _ := bytes.Cut(header, []byte("\n"))
		header = rest
		if len(line) < len(field) || !strings.EqualFold(string(line[:len(field)]), field) {
			continue
		}
		value := line[len(field):]
		for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') { // folded
			line, rest, _ = bytes.Cut(rest, []byte("\n"))
			value = append(value[:len(value):len(value)], line...)
		}
		address := strings.Trim(string(value), " \t\r<>")
		if address == "" || len(address) > 320 || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return daemon
		}
		return address
	}
	return daemon
}

// A quoter puts a > before each line that begins with any number of > and "From ". It buffers no more than "From ".
type quoter struct {
	w         io.Writer
	lineStart bool   // only > precedes in this line
	held      []byte // buffered beginning of "From ", which may have to be quoted
	last      byte   // last byte of the message
}

var fromPrefix = []byte("From ")

func (q *quoter) Write(p []byte) (int, error) {
	n := len(p)
	if n > 0 {
		q.last = p[n-1]
	}
	for len(p) > 0 {
		var err error
		if q.lineStart {
			p, err = q.start(p)
		} else {
			// The rest of the line, and all lines that cannot need a quote.
			end := len(p)
			for i := 0; ; {
				j := bytes.IndexByte(p[i:], '\n')
				if j < 0 {
					break
				}
				i += j + 1
				if i == len(p) || p[i] == 'F' || p[i] == '>' {
					end = i
					q.lineStart = true
					break
				}
			}
			_, err = q.w.Write(p[:end])
			p = p[end:]
		}
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// start consumes the first bytes of a line.
func (q *quoter) start(p []byte) ([]byte, error) {
	if len(q.held) == 0 {
		i := 0
		for i < len(p) && p[i] == '>' {
			i++
		}
		if i > 0 {
			_, err := q.w.Write(p[:i])
			return p[i:], err
		}
	}
	if p[0] == fromPrefix[len(q.held)] {
		q.held = append(q.held, p[0])
		if len(q.held) < len(fromPrefix) {
			return p[1:], nil
		}
		q.held = q.held[:0]
		q.lineStart = false
		_, err := io.WriteString(q.w, ">From ")
		return p[1:], err
	}
	q.lineStart = p[0] == '\n' && len(q.held) == 0
	if err := q.release(); err != nil {
		return nil, err
	}
	if q.lineStart {
		_, err := q.w.Write(p[:1])
		return p[1:], err
	}
	return p, nil
}

// release writes held.
func (q *quoter) release() error {
	held := q.held
	q.held = q.held[:0]
	if len(held) == 0 {
		return nil
	}
	_, err := q.w.Write(held)
	return err
}

// close ends the last line if the message does not, and writes a blank line.
func (q *quoter) close() error {
	if err := q.release(); err != nil {
		return err
	}
	end := "\n\n"
	if q.last == '\n' {
		end = "\n"
	}
	_, err := io.WriteString(q.w, end)
	return err
}
