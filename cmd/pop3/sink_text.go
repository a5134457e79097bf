package main

import (
	"bufio"
	"io"
	"time"
)

// newLFWriter returns a Writer that replaces each CRLF by LF. Close does not close w.
func newLFWriter(w io.Writer) io.WriteCloser {
	return &lineWriter{w: bufio.NewWriter(w)}
}

// newMboxWriter returns a Writer that writes one message to w in the form of an mbox: after a From_ line, with LF line ends, a > in
// front of lines that begin with any number of > and "From ", and a blank line at the end. Close does not close w.
func newMboxWriter(w io.Writer, t time.Time) io.WriteCloser {
	m := &lineWriter{w: bufio.NewWriter(w), mbox: true, last: '\n'}
	m.w.WriteString("From MAILER-DAEMON " + t.UTC().Format(time.ANSIC) + "\n")
	return m
}

// A lineWriter changes line ends. Its bufio.Writer keeps the first error.
type lineWriter struct {
	w       *bufio.Writer
	cr      bool // a CR was the last byte, and is not written yet
	mbox    bool
	in      bool // within a line that needs no quoting
	matched int  // bytes of fromWord after the start of the line and any number of >, not written yet
	last    byte // written
}

const fromWord = "From "

func (l *lineWriter) Write(p []byte) (int, error) {
	for _, c := range p {
		if l.cr && c != '\n' {
			l.put('\r')
		}
		if l.cr = c == '\r'; !l.cr {
			l.put(c)
		}
	}
	_, err := l.w.Write(nil)
	return len(p), err
}

// put writes a byte of a message whose lines end with LF.
func (l *lineWriter) put(c byte) {
	if l.mbox && !l.in {
		if c == fromWord[l.matched] {
			if l.matched++; l.matched == len(fromWord) {
				l.w.WriteByte('>')
				l.flushMatch()
			}
			return
		}
		if l.matched > 0 || c != '>' {
			l.flushMatch()
		}
	}
	l.w.WriteByte(c)
	l.last = c
	if c == '\n' {
		l.in = false
	}
}

// flushMatch writes what was held back. What follows in the line is not quoted.
func (l *lineWriter) flushMatch() {
	l.w.WriteString(fromWord[:l.matched])
	if l.matched > 0 {
		l.last = fromWord[l.matched-1]
	}
	l.matched = 0
	l.in = true
}

func (l *lineWriter) Close() error {
	if l.cr {
		l.put('\r')
	}
	if l.mbox {
		l.flushMatch()
		if l.last != '\n' {
			l.w.WriteByte('\n')
		}
		l.w.WriteByte('\n')
	}
	return l.w.Flush()
}
