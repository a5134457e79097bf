package pop3

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

// memory is a server without a network. It responds to each line with the next of its answers, and reads return chunks.
// If it has nothing to send, a Read times out at once; after the last answer the connection is closed.
type memory struct {
	answers []string // the first is the greeting
	pieces  []int
	waits   time.Duration // for writes by others, before a Read times out
	slow    time.Duration // duration of a Write

	mu      sync.Mutex
	ready   []byte
	reads   int
	taken   int // bytes, by all reads
	asked   []string
	takenAt []int // for each line received, the bytes taken before it
	greeted bool
	closed  bool
}

// answer makes the next response ready to be read.
func (m *memory) answer() {
	if len(m.answers) > 0 {
		m.ready = append(m.ready, m.answers[0]...)
		m.answers = m.answers[1:]
	}
}

func (m *memory) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.greeted {
		m.greeted = true
		m.answer()
	}
	if m.waits > 0 && len(m.ready) == 0 {
		m.mu.Unlock()
		time.Sleep(m.waits)
		m.mu.Lock()
	}
	switch {
	case m.closed:
		return 0, net.ErrClosed
	case len(m.ready) > 0:
		n := copy(p[:min(len(p), m.pieces[m.reads%len(m.pieces)])], m.ready)
		m.ready = m.ready[n:]
		m.reads++
		m.taken += n
		return n, nil
	case len(m.answers) == 0:
		return 0, io.EOF
	}
	return 0, os.ErrDeadlineExceeded
}

func (m *memory) Write(p []byte) (int, error) {
	if m.slow > 0 {
		time.Sleep(m.slow)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, net.ErrClosed
	}
	for line := range bytes.Lines(p) {
		m.asked = append(m.asked, string(line))
		m.takenAt = append(m.takenAt, m.taken)
		m.answer()
	}
	return len(p), nil
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (m *memory) LocalAddr() net.Addr              { return nil }
func (m *memory) RemoteAddr() net.Addr             { return nil }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// errRefusedLine is the reference's error for a malformed line.
var errRefusedLine = errors.New("malformed line")

// longestLine is Options.MaxLineLength if complete responses are fuzzed.
const longestLine = 200

var replyLine = regexp.MustCompile(`(?s)^(\+OK|-ERR|\+)(?:[ \t]+([^\n]*))?\r\n`)

// statusSlowly is the reference for a status line, or for a challenge in its place: its word, its text and the data
// after it. The error is io.ErrUnexpectedEOF if more data is needed, or errRefusedLine.
func statusSlowly(said string) (word, text, rest string, err error) {
	if !strings.Contains(said, "\n") && len(said) <= longestLine+1 {
		return "", "", "", io.ErrUnexpectedEOF
	}
	match := replyLine.FindStringSubmatch(said)
	if match == nil || len(match[0]) > longestLine+2 {
		return "", "", "", errRefusedLine
	}
	return match[1], match[2], said[len(match[0]):], nil
}

// hearing is the reference for a client that sends one line and waits for the response: the data that it has read and
// not used, and the data still to be read from a memory.
type hearing struct {
	answers  []string // to the lines to come
	pieces   []int
	reads    int
	taken    int // bytes, by all reads
	buffered string
	unread   string
}

// send sends a line. Data read after the previous response is discarded.
func (h *hearing) send() {
	h.buffered = ""
	if len(h.answers) > 0 {
		h.unread += h.answers[0]
		h.answers = h.answers[1:]
	}
}

// probe discards all that has arrived before a line is sent, and returns io.EOF if the server is gone.
func (h *hearing) probe() error {
	for {
		if err := h.read(); err != nil {
			h.buffered = ""
			return err
		}
	}
}

// read reads one chunk. The errors are those of a memory at its end.
func (h *hearing) read() error {
	switch {
	case h.unread == "" && len(h.answers) == 0:
		return io.EOF
	case h.unread == "":
		return os.ErrDeadlineExceeded
	}
	n := min(len(h.unread), h.pieces[h.reads%len(h.pieces)])
	h.buffered, h.unread = h.buffered+h.unread[:n], h.unread[n:]
	h.reads++
	h.taken += n
	return nil
}

// status reads a status line.
func (h *hearing) status() (word, text string, err error) {
	for {
		word, text, rest, err := statusSlowly(h.buffered)
		switch err {
		case nil:
			h.buffered = rest
			return word, text, nil
		case io.ErrUnexpectedEOF:
			if h.read() != nil {
				return "", "", err
			}
		default:
			return "", "", err
		}
	}
}

// body reads a message. If it is truncated, the error is io.ErrUnexpectedEOF.
func (h *hearing) body() (text string, err error) {
	for {
		if strings.Contains(h.buffered, ".\r\n") {
			if text, used, end := oracle.Unstuff(h.buffered); end {
				h.buffered = h.buffered[used:]
				return text, nil
			}
		}
		if h.read() != nil {
			text, _, _ = oracle.Unstuff(h.buffered)
			return text, io.ErrUnexpectedEOF
		}
	}
}

// checkBroken compares an error that closed the session with the reference's. If gone is set, the server closed the
// connection; otherwise it is silent.
func checkBroken(t *testing.T, err, want error, gone bool) {
	t.Helper()
	protocol := new(ProtocolError)
	switch {
	case want == errRefusedLine:
		if !errors.As(err, &protocol) && !errors.Is(err, ErrLineTooLong) {
			t.Errorf("error %v, want a refused line", err)
		}
	case gone:
		wantError(t, err, io.ErrUnexpectedEOF)
	default:
		wantError(t, err, os.ErrDeadlineExceeded)
	}
	if errors.Is(err, io.EOF) {
		t.Errorf("error %v is an EOF", err)
	}
}

// checkInSync sends another command, after a pause if there is data to be discarded. In sync it gets its own response,
// whatever came before; otherwise nothing is sent.
func checkInSync(t *testing.T, c *Client, conn *memory, inSync, pause bool) error {
	t.Helper()
	conn.mu.Lock()
	conn.answers = []string{"+OK its own\r\n", ""}
	before := len(conn.asked)
	conn.mu.Unlock()
	c.s.conn.idle = time.Now()
	if pause {
		c.s.conn.idle = time.Time{}
	}
	text, err := c.Cmd(background, "NOOP")
	sent := conn.asked[before:]
	switch {
	case inSync && (err != nil || text != "its own" || len(sent) != 1):
		t.Errorf("the next command sends %q and receives %q, %v", sent, text, err)
	case !inSync && (!errors.Is(err, ErrClosed) || len(sent) > 0):
		t.Errorf("broken, but the next command sends %q and receives %q, %v", sent, text, err)
	}
	return err
}
