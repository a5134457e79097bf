package pop3test

import (
	"errors"
	"io"
	"net"
)

// CutAt returns a Maildrop like drop, except that the server drops the
// connection within the response to RETR n: after the given number of octets
// that follow the status line, as they are sent, with the stuffed dots and the
// terminating line. 0 leaves the status line alone; a number past the end of
// the response leaves it complete, and the session alive. TOP n is answered in
// full.
//
// On TCP the client receives every octet before the cut. The session ends as
// if the client had hung up: its deletions are not committed.
//
// Message n is that of the Maildrop: a session may know it by a lower number
// after deletions. Maildrops with a fault can be put into one another, for
// faults in several messages.
func CutAt(drop Maildrop, n int, octets int64) Maildrop {
	return cutDrop{drop, n, max(0, octets)}
}

type cutDrop struct {
	Maildrop
	n      int
	octets int64
}

func (d cutDrop) WriteMessage(w io.Writer, n int) error {
	if dots, ok := w.(*dotWriter); ok && n == d.n { // RETR; TOP has a writer of its own
		dots.cutAfter(d.octets)
	}
	return d.Maildrop.WriteMessage(w, n)
}

// RefuseMessage returns a Maildrop like drop, except that RETR n and TOP n are
// answered with -ERR and the text, which may begin with a response code. The
// message is listed and can be deleted as before. As for n, see [CutAt].
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

// drop lets the client of a TCP connection receive what was sent: to close the
// connection with input unread would be a reset, which discards it.
func (s *session) drop() {
	if tcp, ok := s.meter.Conn.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		io.Copy(io.Discard, s.raw)
	}
}
