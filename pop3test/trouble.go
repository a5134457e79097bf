package pop3test

import (
	"errors"
	"io"
	"net"
)

// CutAt returns a Maildrop like drop, except that the server drops the connection within the response to RETR n, after
// the given number of bytes that follow the status line, counted as they are sent, with the stuffed dots and the
// terminating line. With 0 only the status line is sent. With a number beyond the end the response is complete and the
// session remains open. TOP n is not affected.
//
// On TCP the client receives every byte before the cut. The session ends as if the client had closed the connection:
// its deletions are not committed.
//
// The number n is that of the Maildrop: after deletions, a session may know the message by a lower number. Calls can be
// nested for faults in several messages.
func CutAt(drop Maildrop, n int, octets int64) Maildrop {
	return cutDrop{drop, n, max(0, octets)}
}

type cutDrop struct {
	Maildrop
	n      int
	octets int64
}

func (d cutDrop) WriteMessage(w io.Writer, n int) error {
	if dots, ok := w.(*dotWriter); ok && n == d.n { // RETR; TOP has a separate writer
		dots.cutAfter(d.octets)
	}
	return d.Maildrop.WriteMessage(w, n)
}

// RefuseMessage returns a Maildrop like drop, except that RETR n and TOP n are refused with -ERR and the text, which
// may begin with a response code. The message is still listed and can be deleted. See [CutAt] for n.
func RefuseMessage(drop Maildrop, n int, text string) Maildrop {
	return refusingDrop{drop, n, text}
}

type refusingDrop struct {
	Maildrop
	n    int
	text string
}

func (d refusingDrop) WriteMessage(w io.Writer, n int) error {
	if n == d.n {
		return errors.New(d.text)
	}
	return d.Maildrop.WriteMessage(w, n)
}

// drop lets the client of a TCP connection receive the data that was sent. Closing the connection with unread input
// would send a reset, which discards that data.
func (s *session) drop() {
	if tcp, ok := s.meter.Conn.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		io.Copy(io.Discard, s.raw)
	}
}
