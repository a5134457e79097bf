package pop3

import (
	"errors"
	"io"
	"sync"
)

// Message is one multi-line response as an io.Reader: the octets as the server sent them, CRLF kept, without the
// dot-stuffing (RFC 1939, section 3). It says io.EOF only when the terminating dot was seen; a connection cut before
// is io.ErrUnexpectedEOF.
//
// It holds the session until it was read to its end, failed, or was closed. It is for one goroutine; only Close may come from another.
type Message struct {
	Number int    // the message number; 0 for CmdMultiline
	Status string // text after +OK

	s     *session
	own   lease
	lease *lease // its own, or that of its batch
	batch bool
	dots  unstuffer

	mu      sync.Mutex
	text    []byte // arrived and not yet read; in the conn's buffer
	whole   bool   // the terminator was seen
	writing bool   // text is lent to the Writer of WriteTo
	octets  int64
	err     error // what Read says from now on
}

var errConcurrent = errors.New("pop3: concurrent Read and WriteTo")

// drain reads the rest of the response, on the wire. Somebody may be stuck in the Write of WriteTo meanwhile.
func (m *Message) drain() error {
	for !m.whole {
		var err error
		if _, m.whole, err = m.s.conn.text(&m.dots); err != nil {
			return err
		}
	}
	return nil
}

// fetch goes on the wire and sees to it that there is text, or that err is set.
func (m *Message) fetch() error {
	if m.err != nil {
		return m.err
	}
	if m.writing {
		return errConcurrent
	}
	if m.err = m.s.resume(m.lease); m.err != nil {
		return m.err
	}
	if len(m.text) > 0 || m.whole {
		return nil
	}
	var err error
	if m.text, m.whole, err = m.s.conn.text(&m.dots); err != nil {
		m.text = nil
		m.s.conn.debugBody(m.octets, false)
		m.err = m.s.fail(m.lease, err)
	}
	return m.err
}

// settle leaves the wire, for good if nothing is left to be read.
func (m *Message) settle() {
	if !m.whole || len(m.text) > 0 {
		m.s.park(m.lease)
		return
	}
	m.s.conn.debugBody(m.octets, true)
	m.err = io.EOF
	m.pass()
}

// pass ends the message's part in the turn.
func (m *Message) pass() {
	if m.batch {
		m.s.park(m.lease)
	} else {
		m.s.release(m.lease)
	}
}

// Read reads the next octets of the message.
func (m *Message) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(p) == 0 && m.err == nil {
		return 0, nil
	}
	if err := m.fetch(); err != nil {
		return 0, err
	}
	n := copy(p, m.text)
	m.text = m.text[n:]
	m.octets += int64(n)
	m.settle()
	if n == 0 {
		return 0, m.err
	}
	return n, nil
}

// WriteTo writes the rest of the message to w, in pieces of up to 64 KiB. An error of w leaves the message open, at the
// octet that w did not take.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var total int64
	for {
		if err := m.fetch(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		text, whole := m.text, m.whole
		m.text, m.writing = nil, true
		m.s.park(m.lease)

		n, err := m.lend(w, text)
		total += int64(n)
		m.octets += int64(n)
		m.writing = false
		if m.err != nil {
			return total, m.err
		}
		if err != nil {
			m.text = text[n:]
			return total, err
		}
		if whole {
			if m.err = m.s.resume(m.lease); m.err != nil {
				return total, m.err
			}
			m.settle()
		}
	}
}

// lend writes text without the lock: a slow Write must not keep Close, Quit or the waiters from seeing that nobody is on the
// wire. One that panics leaves a message that can only be closed.
func (m *Message) lend(w io.Writer, text []byte) (n int, err error) {
	m.mu.Unlock()
	defer m.mu.Lock()
	if len(text) > 0 {
		n, err = w.Write(text)
	}
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Close ends the message. What was not read is read and discarded, so that the session, with its deletions, lives on.
// After it Read says ErrClosed. Closing twice, or after the end, does nothing.
func (m *Message) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		if m.err == io.EOF {
			m.err = ErrClosed
		}
		return nil
	}
	if err := m.s.resume(m.lease); err != nil {
		m.err = ErrClosed
		return nil
	}
	m.err = ErrClosed
	if m.writing {
		m.s.conn.detach()
	}
	whole := m.whole && len(m.text) == 0
	m.text = nil
	if err := m.drain(); err != nil {
		m.err = m.s.fail(m.lease, err)
		return m.err
	}
	m.s.conn.debugBody(m.octets, whole)
	m.pass()
	return nil
}
