package pop3

import (
	"context"
	"strings"
	"time"
)

// alwaysProbed are the commands whose response must not be confused with earlier data, however short the pause was.
func alwaysProbed(command string) bool {
	verb, _, _ := strings.Cut(command, " ")
	switch strings.ToUpper(verb) {
	case "PASS", "APOP", "AUTH", "QUIT":
		return true
	}
	return false
}

// ready prepares for writing a command while none is in flight: it discards unsolicited data, and checks h.ctx and the
// session for the last time. If the command is the first of its lease, an error matches ErrNotSent.
func (s *session) ready(h *lease, shown string) error {
	s.observes(h, shown)
	s.mu.Lock()
	s.watchLocked(h)
	probe := h.probe || !s.used || alwaysProbed(shown)
	s.used = true
	s.mu.Unlock()
	if probe || time.Since(s.conn.idle) >= probeAfter {
		if err := s.conn.discardUnsolicited(); err != nil {
			err = s.fail(h, err)
			if h.sent { // the lease has had a part in the exchange
				return err
			}
			return notSent(h.name, closed(err))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause != nil && h.sent:
		return s.cause
	case s.cause != nil:
		return notSent(h.name, closed(s.cause))
	case !h.sent && !h.released && h.ctx.Err() != nil:
		return notSent(h.name, h.ctx.Err())
	}
	h.sent, h.command = true, shown
	return nil
}

// send writes one command line. shown is the command without secrets.
func (s *session) send(h *lease, line, shown string) error {
	if err := s.ready(h, shown); err != nil {
		return err
	}
	if err := s.conn.send(line, shown); err != nil {
		return s.fail(h, err)
	}
	s.wrote(h)
	return nil
}

// ask sends one command line and reads its status line.
func (s *session) ask(h *lease, line, shown string) (text string, err error) {
	if err := s.send(h, line, shown); err != nil {
		return "", err
	}
	text, err = s.answer(h, shown)
	if err != nil {
		s.observed(h, err)
	}
	return text, err
}

// answer reads the status line of a command that was sent. The error is a *ServerError for -ERR; any other error closes
// the session.
func (s *session) answer(h *lease, shown string) (text string, err error) {
	word, text, err := s.conn.status()
	s.answered(h)
	switch {
	case err != nil:
		return "", s.fail(h, err)
	case word == "-ERR":
		return "", s.conn.serverError(shown, text)
	}
	return text, nil
}

// answering records the command whose response is read next, if it was pipelined.
func (s *session) answering(h *lease, command string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.command = command
}

// do runs fn with an active lease, which ends with it.
func (s *session) do(ctx context.Context, name string, fn func(h *lease) error) error {
	h := &lease{ctx: ctx, name: name, hint: "wait for it"}
	if err := s.acquire(h); err != nil {
		return err
	}
	returned := false
	defer s.closeOnPanic(&returned)
	err := fn(h)
	h.result = err
	if err != nil && !h.observed {
		s.observes(h, name) // refused before anything was sent
	}
	s.release(h)
	returned = true
	return err
}

// cmd sends a command with a single-line response.
func (s *session) cmd(ctx context.Context, command string) (text string, err error) {
	shown := s.conn.redactCommand(command)
	err = s.do(ctx, shown, func(h *lease) error {
		text, err = s.ask(h, command, shown)
		return err
	})
	return text, err
}

// open sends a command, which names h, and leaves the lease parked, with its multi-line response to be read.
func (s *session) open(h *lease, command string, resp drainer) (text string, err error) {
	if err := s.acquire(h); err != nil {
		return "", err
	}
	returned := false
	defer s.closeOnPanic(&returned)
	if text, err = s.ask(h, command, h.name); err != nil {
		h.result = err
		s.release(h)
	} else {
		h.resp = resp
		s.park(h)
	}
	returned = true
	return text, err
}

// finish closes the session after the response to QUIT.
func (s *session) finish(h *lease) {
	s.conn.closeNotify()
	s.conn.returnBuffer()
	s.mu.Lock()
	after := s.closeLocked(ErrClosed)
	s.releaseLocked(h)
	s.mu.Unlock()
	after()
	s.observed(h, h.result)
}
