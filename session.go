package pop3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// session serializes: one command is outstanding, callers queue first in, first out, and a multi-line response holds the
// turn until it is read to its end, closed or failed.
//
// Its states are those of every POP3 client: WELCOME until the greeting, WAITING while nobody holds the turn, SHORT while a
// status line is awaited, LONG_INITIAL while the status line of a multi-line response is, and LONG while such a response is open.
type session struct {
	conn  *conn
	sem   *semaphore.Weighted
	stall time.Duration
	gone  chan struct{} // closed by Client.Close: nobody wants anything any more

	mu      sync.Mutex
	holder  *lease
	waiters int
	cause   error // why the session is over; the first cause stays
}

// hold is one turn of the session. What is below the line is guarded by session.mu.
type lease struct {
	ctx  context.Context
	name string  // the command, without secrets
	hint string  // what its caller can do to pass the turn on
	quit bool    // takes the turn from a holder that has stalled, and makes sure that no answer is there already
	open drainer // what is to be discarded if the turn is taken; nil: nothing

	stop     func() bool // ends ctx's hold over the session; nil while it has none
	over     bool
	err      error     // why it ended before its time
	active   bool      // somebody is using the conn for it
	last     time.Time // when the caller last did
	spill    func()    // moves the rest of the response into memory; nil: it cannot
	spilling bool      // clear was started
}

// A drainer is a response that can be read to its end, on the wire, by somebody who does not want it.
type drainer interface{ drain() error }

func newSession(c *conn, stall time.Duration) *session {
	return &session{conn: c, sem: semaphore.NewWeighted(1), stall: stall, gone: make(chan struct{})}
}

// begin waits for the turn. After a nil error the caller is on the wire, and must end, leave or fail.
func (s *session) acquire(h *lease) error {
	if err := h.ctx.Err(); err != nil {
		return notSent(h.name, err)
	}
	if !s.sem.TryAcquire(1) {
		if err := s.wait(h); err != nil {
			return err
		}
	}
	return s.start(h)
}

// start makes h the holder and brings the wire to rest: what nobody asked for is dropped.
func (s *session) start(h *lease) error {
	s.mu.Lock()
	if s.cause != nil {
		s.sem.Release(1)
		defer s.mu.Unlock()
		return notSent(h.name, closed(s.cause))
	}
	s.holder = h
	h.active = true
	s.mu.Unlock()
	if err := s.conn.discardUnsolicited(h.quit); err != nil {
		return notSent(h.name, closed(s.fail(h, err)))
	}
	if err := h.ctx.Err(); err != nil {
		s.release(h)
		return notSent(h.name, err)
	}
	return nil
}

// wait queues for the turn. It ends with ctx, with ErrBusy once the holder has stalled, or with the turn.
func (s *session) wait(h *lease) error {
	ctx, cancel := context.WithCancelCause(h.ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.waiters++
	s.requestSpill()
	queued := true
	if s.stall > 0 {
		arrived := time.Now()
		var timer *time.Timer
		timer = time.AfterFunc(s.stall, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !queued {
				return
			}
			if left := s.stallLeft(arrived); left > 0 {
				timer.Reset(left)
				return
			}
			if h.quit && s.holder.open != nil {
				s.evict()
				timer.Reset(s.stall)
				return
			}
			cancel(&busyError{h.name, s.holder.name, s.holder.hint})
		})
		defer timer.Stop()
	}
	s.mu.Unlock()

	err := s.sem.Acquire(ctx, 1)
	s.mu.Lock()
	s.waiters--
	queued = false
	s.mu.Unlock()
	if err == nil {
		return nil
	}
	if busy := new(busyError); errors.As(context.Cause(ctx), &busy) {
		return busy
	}
	return notSent(h.name, err)
}

// stallLeft returns how long the holder may still be idle before a waiter that came at arrived need not wait any longer.
// The caller holds mu.
func (s *session) stallLeft(arrived time.Time) time.Duration {
	h := s.holder
	if h == nil || h.active || h.spill != nil {
		return s.stall
	}
	since := arrived
	if h.last.After(since) {
		since = h.last
	}
	return s.stall - time.Since(since)
}

// take puts the holder's caller out and has the rest of its response discarded. The caller holds mu, and knows that the
// holder is not on the wire.
func (s *session) evict() {
	h := s.holder
	h.over, h.err = true, ErrClosed
	if h.stop != nil {
		h.stop()
	}
	s.conn.detach() // its caller may be looking at the buffer
	rest := &lease{name: h.name, active: true}
	s.holder = rest
	go func() {
		if err := h.open.drain(); err != nil {
			s.fail(rest, err)
			return
		}
		s.release(rest)
	}()
}

// poke has the holder clear the wire if it can and somebody waits. The caller holds mu.
func (s *session) requestSpill() {
	if h := s.holder; h != nil && h.spill != nil && !h.spilling && s.waiters > 0 {
		h.spilling = true
		go h.spill()
	}
}

// clearable says how the rest of h's response can be moved out of the way.
func (s *session) allowSpill(h *lease, spill func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.spill = spill
	s.requestSpill()
}

// enter goes on the wire for a response that was left open. Its error is why that is over.
func (s *session) resume(h *lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.over {
		return h.err
	}
	h.active = true
	return nil
}

// leave keeps the turn and leaves the wire.
func (s *session) park(h *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.active = false
	if s.waiters > 0 { // for one that comes later, the stall counts from its arrival
		h.last = time.Now()
	}
	if s.cause != nil {
		h.err = s.cause
		s.releaseLocked(h)
	}
}

// end passes the turn on. The response was read to its end.
func (s *session) release(h *lease) {
	s.conn.returnBuffer()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(h)
}

func (s *session) releaseLocked(h *lease) {
	if h.over {
		return
	}
	h.over, h.active = true, false
	if h.stop != nil && h.spill == nil { // a listing's entries outlive its turn, and ctx governs those too
		h.stop()
	}
	s.holder = nil
	s.sem.Release(1)
}

// fail breaks the session because of err, met on the wire, and returns the cause of its end: err in words, or what
// broke the session first and so led to err.
func (s *session) fail(h *lease, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutDown(s.conn.explain(h.name, err))
	s.conn.buf, s.conn.r, s.conn.w = nil, 0, 0
	h.err = s.cause
	s.releaseLocked(h)
	return s.cause
}

// shutDown ends the session; the first cause stays. The caller holds mu.
func (s *session) shutDown(cause error) error {
	if s.cause != nil {
		return nil
	}
	s.cause = cause
	err := s.conn.sock.Close()
	if h := s.holder; h != nil && !h.active {
		h.err = cause
		s.releaseLocked(h)
	}
	return err
}

// close ends the session from any goroutine.
func (s *session) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.gone:
		return nil
	default:
	}
	close(s.gone)
	return s.shutDown(ErrClosed)
}

// watch gives h.ctx its hold over the session, just before the first octet is written: once the command is on the
// wire, giving it up means giving up the session.
func (s *session) watch(h *lease, onDone func()) {
	if h.ctx.Done() == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.stop != nil {
		return
	}
	h.stop = context.AfterFunc(h.ctx, func() {
		s.mu.Lock()
		if !h.over {
			s.shutDown(fmt.Errorf("pop3: %s: %w", h.name, h.ctx.Err()))
		}
		s.mu.Unlock()
		if onDone != nil {
			onDone()
		}
	})
}

// unwatch ends ctx's hold over the session before the turn ends.
func (s *session) unwatch(h *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.stop != nil {
		h.stop()
	}
}

// ask writes one command line and reads its status line, on the wire. shown is the command without secrets.
func (s *session) ask(h *lease, line, shown string) (text string, err error) {
	s.watch(h, nil)
	if err := s.conn.send(line, shown); err != nil {
		return "", s.fail(h, err)
	}
	return s.answer(h, shown)
}

// answer reads the status line of a command that was sent. The error is a *ServerError for an -ERR; any other broke the session.
func (s *session) answer(h *lease, shown string) (text string, err error) {
	word, text, err := s.conn.status()
	switch {
	case err != nil:
		return "", s.refuse(h, shown, text, err)
	case word == "-ERR":
		return "", serverError(shown, text)
	}
	return text, nil
}

// refuse breaks the session over a status line that is none, or that could not be read.
func (s *session) refuse(h *lease, shown, line string, err error) error {
	return s.fail(h, noStatus(shown, line, err))
}

// noStatus makes a *ProtocolError of a status line that is none; other errors of reading one stay what they are.
func noStatus(shown, line string, err error) error {
	if err == errBareLF || err == errNoStatus {
		return &ProtocolError{Command: shown, Line: line, Reason: err.Error()}
	}
	return err
}

// short is one turn with one command and a status line.
func (s *session) cmd(ctx context.Context, command string) (text string, err error) {
	h := &lease{ctx: ctx, name: command, hint: "wait for it"}
	if err := s.acquire(h); err != nil {
		return "", err
	}
	text, err = s.ask(h, command, command)
	s.release(h)
	return text, err
}

// finish ends the session after QUIT.
func (s *session) finish(h *lease) {
	s.conn.returnBuffer()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutDown(ErrClosed)
	s.releaseLocked(h)
}

// closed is the error of a call that found the session over.
func closed(cause error) error {
	if c, ok := cause.(closedError); ok {
		return c
	}
	return closedError{cause}
}
