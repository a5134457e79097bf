package pop3

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/socket"
)

// bufferSize is a size beyond which reads are no faster.
const bufferSize = 64 << 10

// buffers are borrowed while a response is read, so that an idle session has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Limits on discarding unsolicited data before a command.
const (
	maxUnsolicited     = 1 << 20
	maxUnsolicitedTime = time.Second
)

// probeAfter is the idle time after which a command is preceded by a probe for unsolicited data, unless the command
// requires one. A probe costs a system call, which is a tenth of a round trip on loopback.
const probeAfter = 100 * time.Microsecond

// maxEmptyReads is the number of consecutive empty reads after which fill returns io.ErrNoProgress.
const maxEmptyReads = 100

// A conn writes command lines and reads lines and text. It is used only by the goroutine that holds the active lease, with two
// exceptions: the writer of a batch uses write beside the reader; tlsState, the transcript and the socket's Close may be used by any
// goroutine.
type conn struct {
	sock *socket.Conn
	rw   net.Conn // sock, or TLS over it
	buf  []byte   // nil while nothing is buffered
	r, w int      // buf[r:w] is unread
	out  []byte   // the command line being written

	maxLine     int
	lastLine    string    // the last unsolicited line, for the error if the server then closes the connection
	idle        time.Time // when data was last received
	messageSize int64     // expected bytes of a message, from the last batch
	sizesOf     string    // the command of that batch; "" if there was none
	logger      *slog.Logger
	transcript

	mu sync.Mutex // guards rw, which tlsState reads from any goroutine
}

func newConn(nc net.Conn, o *Options) *conn {
	return &conn{
		sock:       socket.New(nc, o.Timeout),
		maxLine:    o.MaxLineLength,
		logger:     o.Logger,
		transcript: transcript{debugger: o.DebugWriter},
	}
}

func (c *conn) stream() net.Conn {
	if c.rw != nil {
		return c.rw
	}
	return c.sock
}

// tlsState returns the state of the TLS connection, whether the caller or this package has established it.
func (c *conn) tlsState() (tls.ConnectionState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.rw.(*tls.Conn)
	if !ok {
		t, ok = c.sock.Conn.(*tls.Conn)
	}
	if !ok {
		return tls.ConnectionState{}, false
	}
	return t.ConnectionState(), true
}

func (c *conn) encrypted() bool {
	_, ok := c.tlsState()
	return ok
}

// startTLS performs the TLS handshake. Nothing may be buffered.
func (c *conn) startTLS(ctx context.Context, config *tls.Config) error {
	first := &firstReads{Conn: c.sock}
	t := tls.Client(first, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return c.handshakeFailed(err, first.data)
	}
	first.done()
	c.mu.Lock()
	c.rw = t
	c.mu.Unlock()
	state := t.ConnectionState()
	c.logger.Debug("TLS established", "version", tls.VersionName(state.Version), "cipher", tls.CipherSuiteName(state.CipherSuite))
	return nil
}

var errNoTLS = errors.New("no TLS")

// handshakeFailed quotes a server that responded without TLS. data is its response.
func (c *conn) handshakeFailed(err error, data []byte) error {
	if len(data) == 0 && c.buffered() > 0 { // the ClientHello could not be written
		data = c.buf[c.r:c.w]
	}
	if len(data) == 0 || isTLSRecord(data) {
		return err
	}
	line, _, complete := bytes.Cut(data, []byte("\n"))
	quoted := c.unfinished(line)
	if complete {
		quoted = c.quoted(bytes.TrimRight(line, "\r"))
	}
	return &commandError{text: `server answered without TLS: "` + quoted + `"`, err: errors.Join(errNoTLS, err)}
}

// firstReads keeps the first bytes that are read from a connection.
type firstReads struct {
	net.Conn
	data []byte
	over bool
}

func (f *firstReads) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if !f.over {
		f.data = append(f.data, p[:min(n, maxQuote-len(f.data))]...)
	}
	return n, err
}

func (f *firstReads) done() { f.data, f.over = nil, true }

// isTLSRecord reports whether data begins as a TLS record does: an alert, or a part of the handshake.
func isTLSRecord(data []byte) bool {
	switch {
	case len(data) == 0 || data[0] != 0x15 && data[0] != 0x16:
		return false
	case len(data) > 1 && data[1] != 3:
		return false
	}
	return len(data) < 3 || data[2] <= 4
}

// closeNotifyTime limits the write to a peer that does not read.
const closeNotifyTime = 100 * time.Millisecond

// closeNotify tells the peer that nothing more will be sent (RFC 8446, section 6.1), if the connection uses TLS. It does not
// wait for the peer's own close_notify.
func (c *conn) closeNotify() {
	t, ok := c.stream().(*tls.Conn)
	if !ok {
		t, ok = c.sock.Conn.(*tls.Conn)
	}
	if ok {
		timer := time.AfterFunc(closeNotifyTime, func() { c.sock.Close() })
		defer timer.Stop()
		t.CloseWrite()
	}
}

// write sends command lines, each ending in CRLF, in one write.
func (c *conn) write(lines []byte) error {
	_, err := c.stream().Write(lines)
	return err
}

// send writes one command line; shown is the command without secrets. Data that is already buffered cannot be its response and is
// discarded.
func (c *conn) send(line, shown string) error {
	c.discardBuffered()
	c.sent(shown)
	c.out = append(append(c.out[:0], line...), "\r\n"...)
	err := c.write(c.out)
	clear(c.out) // it may have contained a password
	if cap(c.out) > 1024 {
		c.out = nil
	}
	if err != nil && c.buffered() > 0 {
		c.discardBuffered() // which keeps the server's last line for the error
	}
	return err
}

// fill waits for at least one more byte. It moves unread data to the start of the buffer, and grows the buffer if it is full.
func (c *conn) fill() error {
	switch {
	case c.buf == nil:
		c.buf = buffers.Get().(*[bufferSize]byte)[:]
	case c.r > 0:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	case c.w == len(c.buf):
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	for range maxEmptyReads {
		c.sock.StartWatchdog() // crypto/tls may write from within Read, and then waits for a write in progress
		n, err := c.stream().Read(c.buf[c.w:])
		err = c.sock.StopWatchdog(err)
		c.w += n
		if n > 0 {
			c.idle = time.Now()
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// fillLine is fill within a line. If the connection ends there, the line is kept for the error.
func (c *conn) fillLine() error {
	err := c.fill()
	if err != nil && c.r < c.w {
		c.lastLine = c.unfinished(c.buf[c.r:c.w])
	}
	return err
}

// returnBuffer returns the buffer to the pool. Data still in it is unsolicited.
func (c *conn) returnBuffer() {
	c.discardBuffered()
	if len(c.buf) == bufferSize {
		buffers.Put((*[bufferSize]byte)(c.buf))
	}
	c.buf, c.r, c.w = nil, 0, 0
}

// detach abandons the current buffer, which a caller's Write may still be using, and moves unread data to a new one.
func (c *conn) detach() {
	rest := c.buf[c.r:c.w]
	c.buf = buffers.Get().(*[bufferSize]byte)[:]
	if len(rest) > len(c.buf) {
		c.buf = make([]byte, len(rest))
	}
	c.r, c.w = 0, copy(c.buf, rest)
}

// line reads up to the next CRLF and returns the line without it, valid until the next call.
func (c *conn) line() ([]byte, error) {
	for seen := 0; ; {
		if k := bytes.IndexByte(c.buf[c.r+seen:c.w], '\n'); k >= 0 {
			seen += k + 1
			line := c.buf[c.r : c.r+seen]
			if n := len(line) - 2; n >= 0 && line[n] == '\r' {
				if n > c.maxLine {
					return nil, ErrLineTooLong
				}
				c.r += seen
				return line[:n], nil
			}
			continue
		}
		seen = c.w - c.r
		if seen > c.maxLine+1 {
			return nil, ErrLineTooLong
		}
		if err := c.fillLine(); err != nil {
			return nil, err
		}
	}
}

// The reasons why a line is not a status line. A line that ends with a bare LF is rejected at once: waiting for CRLF
// would time out.
const (
	bareLF   = "line ends in a bare LF"
	noStatus = "neither +OK nor -ERR"
)

// status reads a status line and returns its first word, "+OK" or "-ERR", and the text after it, without the blanks in between.
// A malformed line is a *ProtocolError.
func (c *conn) status() (word, text string, err error) {
	word, text, err = c.reply()
	if word == "+" {
		return "", "", c.malformed([]byte("+ "+text), noStatus)
	}
	return word, text, err
}

func (c *conn) malformed(line []byte, reason string) error {
	return &ProtocolError{Line: c.quoted(line), Reason: reason}
}

// reply is like status, but also accepts a SASL challenge, whose word is "+".
func (c *conn) reply() (word, text string, err error) {
	var line []byte
	for {
		if b := c.buf[c.r:c.w]; isTLSRecord(b) { // its end may not look like a line
			return "", "", c.malformed(b, noStatus)
		}
		if end := bytes.IndexByte(c.buf[c.r:c.w], '\n'); end >= 0 {
			line = c.buf[c.r : c.r+end]
			break
		}
		if c.w-c.r > c.maxLine+1 {
			return "", "", ErrLineTooLong
		}
		if err := c.fillLine(); err != nil {
			return "", "", err
		}
	}
	n := len(line) - 1
	if n < 0 || line[n] != '\r' {
		return "", "", c.malformed(line, bareLF)
	}
	if n > c.maxLine {
		return "", "", ErrLineTooLong
	}
	line = line[:n]
	c.r += n + 2
	c.lastLine = ""
	first, rest := line, []byte(nil)
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		first, rest = line[:i], bytes.TrimLeft(line[i:], " \t")
	}
	if string(first) == "+" {
		c.debug("S: ", fmt.Sprintf("+ [%d octets]", len(rest))) // base64 may contain a secret
	} else if c.debugger != nil {
		c.received(string(line))
	}
	switch string(first) {
	case "+OK":
		return "+OK", string(rest), nil
	case "-ERR":
		return "-ERR", string(rest), nil
	case "+":
		return "+", string(rest), nil
	}
	return "", "", c.malformed(line, noStatus)
}

// explain returns the error that ends the session, for an error err that occurred while command was in flight.
func (c *conn) explain(command string, err error) error {
	var protocol *ProtocolError
	var untrusted *tls.CertificateVerificationError
	var limit *commandError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &protocol):
		if protocol.Command == "" {
			protocol.Command = command
		}
		return protocol
	case errors.As(err, &limit):
		if limit.command == "" {
			limit.command = command
		}
		return limit
	case errors.As(err, &header): // from a *tls.Conn passed to NewClient
		return &commandError{command, `server answered without TLS: "` + c.unfinished(header.RecordHeader[:]) + `"`, errors.Join(errNoTLS, err)}
	case errors.Is(err, ErrLineTooLong):
		return commandFailed(command, err)
	case errors.As(err, &untrusted): // not a network failure: a retry would not help
		return c.failed(command, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &timeoutError{command, c.lastLine}
	}
	return &lostError{command, c.lastLine, c.shown(err)}
}

// lines returns all complete lines that are buffered, waiting for the first. The caller reports the bytes consumed with
// used.
func (c *conn) lines() ([]byte, error) {
	for seen := 0; ; {
		b := c.buf[c.r:c.w]
		if i := bytes.LastIndex(b[seen:], []byte("\r\n")); i >= 0 {
			return b[:seen+i+2], nil
		}
		if len(b) > c.maxLine+1 {
			return nil, ErrLineTooLong
		}
		seen = max(0, len(b)-1)
		if err := c.fillLine(); err != nil {
			return nil, err
		}
	}
}

// hasLine reports whether a complete line is buffered.
func (c *conn) hasLine() bool { return bytes.Contains(c.buf[c.r:c.w], crlf) }

func (c *conn) used(n int) { c.r += n }

// buffered returns the number of unread bytes, after a read that does not wait.
func (c *conn) buffered() int {
	if c.r == c.w {
		c.sock.Probe(true)
		c.fill() // the next read returns the error again
		c.sock.Probe(false)
	}
	return c.w - c.r
}

// nextLine quotes the line that is buffered next, complete or not.
func (c *conn) nextLine() string {
	line, _, complete := bytes.Cut(c.buf[c.r:c.w], crlf)
	if complete {
		return c.quoted(line)
	}
	return c.unfinished(line)
}

// discardUnsolicited discards data that the server sent while no command was in flight. It does not wait. An error
// means that the connection has ended.
func (c *conn) discardUnsolicited() error {
	c.sock.Probe(true)
	defer c.sock.Probe(false)
	var err error
	for start := time.Now(); err == nil && c.w-c.r <= maxUnsolicited && time.Since(start) < maxUnsolicitedTime; {
		err = c.fill()
	}
	c.discardBuffered()
	switch {
	case err == nil:
		return &ProtocolError{Reason: "too much unsolicited data"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

// discardBuffered discards buffered data, which is unsolicited.
func (c *conn) discardBuffered() {
	if c.r == c.w {
		return
	}
	b := bytes.TrimRight(c.buf[c.r:c.w], "\r\n")
	quoted := c.quoted
	if c.buf[c.w-1] != '\n' {
		quoted = c.unfinished
	}
	c.r, c.w = 0, 0
	c.lastLine = quoted(b[bytes.LastIndexByte(b, '\n')+1:])
	c.logger.Warn("discarded unsolicited data", "bytes", len(b), "last", printable(c.lastLine))
}
