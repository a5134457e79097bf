package pop3test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A sender writes the responses of a session. It counts commands as completed before their responses are written, so
// that the client's next commands are not counted in addition.
type sender struct{ *session }

func (s sender) Write(p []byte) (int, error) {
	s.meter.open.Add(-s.answered)
	s.answered = 0
	if s.srv.Dribble {
		return dribbler{s.conn}.Write(p)
	}
	return s.conn.Write(p)
}

// A dribbler writes one byte at a time.
type dribbler struct{ io.Writer }

func (d dribbler) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Writer.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// A meter counts the lines that have arrived and have no response yet.
type meter struct {
	net.Conn
	open atomic.Int64
	peak *atomic.Int64 // the most that open ever was, over all sessions
	off  atomic.Bool   // the data is TLS records
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if m.off.Load() {
		return n, err
	}
	open := m.open.Add(int64(bytes.Count(p[:n], crlf[1:])))
	for {
		peak := m.peak.Load()
		if open <= peak || m.peak.CompareAndSwap(peak, open) {
			return n, err
		}
	}
}

// A readAhead reads before Read is called, so that the peer's writes do not block, and delivers data once it has the
// given age. Data that arrives together is delivered together: delays do not add up.
type readAhead struct {
	net.Conn
	delay  time.Duration
	chunks chan chunk
	first  chunk // being delivered by Read
	close  func() error
	closed chan struct{}
}

type chunk struct {
	data []byte
	err  error
	due  time.Time
}

// newReadAhead begins to read conn, and ends with it or at Close.
func newReadAhead(conn net.Conn, delay time.Duration) *readAhead {
	a := &readAhead{
		Conn:   conn,
		delay:  delay,
		chunks: make(chan chunk, 1024), // at most 4 MiB in transit
		closed: make(chan struct{}),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.pump()
	}()
	a.close = sync.OnceValue(func() error {
		close(a.closed)
		err := conn.Close()
		<-ended
		return err
	})
	return a
}

func (a *readAhead) pump() {
	for {
		buf := make([]byte, 4096)
		n, err := a.Conn.Read(buf)
		select {
		case a.chunks <- chunk{buf[:n], err, time.Now().Add(a.delay)}:
		case <-a.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.first.data) == 0 {
		if a.first.err != nil {
			return 0, a.first.err
		}
		select {
		case a.first = <-a.chunks:
		case <-a.closed:
			return 0, net.ErrClosed
		}
		wait := time.Until(a.first.due)
		if wait <= 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-a.closed:
			timer.Stop()
			return 0, net.ErrClosed
		}
	}
	n := copy(p, a.first.data)
	a.first.data = a.first.data[n:]
	return n, nil
}

func (a *readAhead) Close() error { return a.close() }
