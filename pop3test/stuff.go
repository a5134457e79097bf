package pop3test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

var (
	crlf       = []byte("\r\n")
	crlfDot    = []byte("\r\n.")
	terminator = []byte(".\r\n")
)

// A dotWriter writes a multi-line response (RFC 1939, section 3): the text with every dot at the start of a line
// doubled and, at Close, the terminating line. A line ends at CRLF only.
type dotWriter struct {
	w     *bufio.Writer
	open  func() // called before the first byte
	begun bool
	tail  [2]byte // the last two bytes written

	cuts bool  // the connection is to be dropped
	left int64 // bytes until then
}

// errCut ends a response at the place that cutAfter names.
var errCut = errors.New("the connection was cut")

// cutAfter ends the response with errCut after the given number of bytes.
func (d *dotWriter) cutAfter(octets int64) { d.cuts, d.left = true, octets }

// put writes bytes without dot-stuffing.
func (d *dotWriter) put(p []byte) error {
	if !d.cuts {
		_, err := d.w.Write(p)
		return err
	}
	end := int(min(d.left, int64(len(p))))
	d.left -= int64(end)
	if _, err := d.w.Write(p[:end]); err != nil || d.left > 0 {
		return err
	}
	return errCut
}

func (d *dotWriter) begin() {
	if !d.begun {
		d.begun = true
		d.tail = [2]byte(crlf)
		d.open()
	}
}

func (d *dotWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		d.begin()
		if p[0] == '.' && d.tail == [2]byte(crlf) {
			if err := d.put(crlfDot[2:]); err != nil {
				return 0, err
			}
		}
		// Up to the next line that begins with a dot.
		end := len(p)
		if d.tail[1] == '\r' && bytes.HasPrefix(p, crlfDot[1:]) {
			end = 1
		} else if i := bytes.Index(p, crlfDot); i >= 0 {
			end = i + len(crlf)
		}
		if err := d.put(p[:end]); err != nil {
			return 0, err
		}
		if end == 1 {
			d.tail = [2]byte{d.tail[1], p[0]}
		} else {
			d.tail = [2]byte(p[end-2 : end])
		}
		p = p[end:]
	}
	return n, nil
}

// Close ends the last line if it is incomplete, and the response.
func (d *dotWriter) Close() error {
	d.begin()
	if d.tail != [2]byte(crlf) {
		if err := d.put(crlf); err != nil {
			return err
		}
	}
	return d.put(terminator)
}

// stuffed returns the text as RETR sends it after the status line.
func stuffed(text string) []byte {
	var buf bytes.Buffer
	buf.Grow(len(text) + len(text)/64 + len(terminator))
	w := bufio.NewWriter(&buf)
	d := &dotWriter{w: w, open: func() {}}
	io.WriteString(d, text)
	d.Close()
	w.Flush()
	return buf.Bytes()
}

// errEnough stops a WriteMessage when TOP needs no more of the message.
var errEnough = errors.New("pop3test: TOP has all its lines")

// A topWriter passes on the header of a message, the blank line after it and the given number of lines of the body.
// After that it returns errEnough.
type topWriter struct {
	w      io.Writer
	lines  int
	inBody bool
	length int  // bytes in the current line so far
	cr     bool // the last of them is CR
}

func (t *topWriter) Write(p []byte) (int, error) {
	end := 0 // of the part to pass on
	for end < len(p) && !t.full() {
		i := bytes.IndexByte(p[end:], '\n')
		if i < 0 {
			t.length += len(p) - end
			t.cr = p[len(p)-1] == '\r'
			end = len(p)
			break
		}
		if i > 0 {
			t.cr = p[end+i-1] == '\r'
		}
		t.length += i + 1
		end += i + 1
		if t.cr {
			t.endLine()
		}
		t.cr = false
	}
	n, err := t.w.Write(p[:end])
	if err == nil && t.full() {
		err = errEnough
	}
	return n, err
}

func (t *topWriter) endLine() {
	if t.inBody {
		t.lines--
	} else if t.length == len(crlf) {
		t.inBody = true
	}
	t.length = 0
}

func (t *topWriter) full() bool { return t.inBody && t.lines <= 0 }
