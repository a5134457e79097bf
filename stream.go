package pop3

import (
	"errors"
	"io"
	"sync"
)

// Message is a multi-line response as an io.Reader: the bytes as the server sent them, with CRLF line endings preserved
// and dot-stuffing removed (RFC 1939, section 3). Read returns io.EOF only after the terminating dot has arrived. If
// the connection ends before it, the error is io.ErrUnexpectedEOF.
//
// A Message holds the session until it is read to its end, fails, or is closed. Methods must not be called
// concurrently, except Close, which waits for a Read in progress.
type Message struct {
	Number int    // the message number; 0 for CmdMultiline
	Status string // text after +OK

	s     *session
	own   lease
	lease *lease    // for this message, or for its batch
	body  dotReader // owned by the active lease; mu does not guard it

	mu      sync.Mutex // guards the following fields
	text    []byte     // arrived and not yet read; in conn's buffer
	writing bool       // text is in use by the Writer of WriteTo
	octets  int64      // read by the caller
	err     error      // what Read returns from now on
	closed  bool       // Close ended the message
}

var errConcurrent = errors.New("pop3: concurrent Read and WriteTo")

// drain reads the rest of the response. The Writer of WriteTo may be using the text before it.
func (m *Message) drain() error { return m.body.drain() }

// fetch resumes the lease and waits for text. At the end of the response there is none.
func (m *Message) fetch() error {
	switch {
	case m.err != nil:
		return m.err
	case m.writing:
		return errConcurrent
	}
	if m.err = m.s.resume(m.lease); m.err != nil {
		return m.err
	}
	if len(m.text) > 0 || m.body.end {
		return nil
	}
	var err error
	if m.text, err = m.body.next(); err != nil {
		m.text = nil
		m.lease.event.Octets = m.body.octets
		m.s.conn.receivedText(m.octets, false)
		m.err = m.s.fail(m.lease, err)
		return m.err
	}
	m.lease.event.Octets = m.body.octets
	m.sized()
	return nil
}

// sized reports the size of the message to its batch.
func (m *Message) sized() {
	if m.lease.batch != nil {
		m.lease.batch.sized(m.body.octets, m.body.end)
	}
}

// settle parks the lease, or ends the message if nothing is left to be read.
func (m *Message) settle() {
	if !m.body.end || len(m.text) > 0 {
		m.s.park(m.lease)
		return
	}
	m.s.conn.receivedText(m.octets, true)
	m.err = io.EOF
	m.s.endResponse(m.lease)
}

// Read implements io.Reader.
func (m *Message) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(p) == 0 && m.err == nil {
		return 0, nil
	}
	returned := false
	defer m.closeOnPanic(&returned)
	n := 0
	err := m.fetch()
	if err == nil {
		n = copy(p, m.text)
		m.text = m.text[n:]
		m.octets += int64(n)
		if m.settle(); n == 0 {
			err = m.err
		}
	}
	returned = true
	return n, err
}

func (m *Message) closeOnPanic(returned *bool) {
	if m.s != nil {
		m.s.closeOnPanic(returned)
	}
}

// WriteTo implements io.WriterTo. It writes at most 64 KiB at a time. If w fails, the message stays open, positioned at
// the first byte that was not written.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var total int64
	for {
		text, last, err := m.borrow()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
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
		if last {
			if err := m.finish(); err != nil {
				return total, err
			}
		}
	}
}

// borrow takes the next text out of the message and parks the lease. The message cannot be read until writing is false
// again.
func (m *Message) borrow() (text []byte, last bool, err error) {
	returned := false
	defer m.closeOnPanic(&returned)
	if err = m.fetch(); err == nil {
		text, last = m.text, m.body.end
		m.text, m.writing = nil, true
		m.s.park(m.lease)
	}
	returned = true
	return text, last, err
}

// finish ends a message of which all text has been written.
func (m *Message) finish() error {
	returned := false
	defer m.closeOnPanic(&returned)
	m.err = m.s.resume(m.lease)
	err := m.err
	if err == nil {
		m.settle()
	}
	returned = true
	return err
}

// lend writes without holding mu, so that a slow Writer does not block Close, Quit and the stall timer. If the Writer
// panics, the message can only be closed.
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

// Close discards the unread rest of the message and releases the session, which keeps its deletion marks. Subsequent
// reads return ErrClosed. If a read has failed, or discarding the rest fails, Close returns that error, each time it is
// called. Closing a message twice, or after io.EOF, is a no-op.
func (m *Message) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil
	case m.err == io.EOF:
		m.err, m.closed = ErrClosed, true
		return nil
	case m.err != nil:
		return m.err
	}
	returned := false
	defer m.closeOnPanic(&returned)
	err := m.discard()
	returned = true
	return err
}

// discard drains the response and ends the message.
func (m *Message) discard() error {
	switch err := m.s.resume(m.lease); {
	case err == ErrClosed: // by Close or Quit: there is nothing to discard
		m.err, m.closed = ErrClosed, true
		return nil
	case err != nil: // the session was lost, so the message is not known to be complete
		m.err = err
		return err
	}
	if m.writing {
		m.s.conn.detach()
	}
	complete := m.body.end && len(m.text) == 0
	m.text = nil
	if err := m.drain(); err != nil {
		m.s.conn.receivedText(m.octets, false)
		m.err = m.s.fail(m.lease, err)
		return m.err
	}
	m.lease.event.Octets = m.body.octets
	m.sized()
	m.s.conn.receivedText(m.octets, complete)
	m.err, m.closed = ErrClosed, true
	m.s.endResponse(m.lease)
	return nil
}
