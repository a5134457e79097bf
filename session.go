package pop3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// A session serializes access to one connection. At most one command is in flight, except in a batch. Callers wait in
// FIFO order. A multi-line response keeps the lease until it is read to the end, closed, or fails.
//
// A lease is in one of four states:
//
//	queued ──acquire──▶ active ──park──▶ parked
//	                     │  ▲──resume──────┘ │
//	             release │  fail             │ evict (QUIT), session closed
//	                     ▼                   ▼
//	                    done                done (err is set)
//
// The session is closed once its cause is set. No lease is granted from then on, and every waiter returns.
//
// Concurrency:
//
//  1. Only the goroutine whose lease is active uses conn, except that the writer of a batch writes beside it. The critical
//     sections of park, resume and evict publish what it has written. Message.body and Listing's pump follow the same rule.
//  2. Locks are taken in this order: Listing.mu or Message.mu or batch.mu, then session.mu. Client.mu, conn.mu and those of
//     the transcript are leaves. The semaphore is acquired with no lock held.
//  3. User code runs without session.mu: the connection's Close too, which may take any time. Message.mu is held while a
//     Message is read; a Writer, a SASL mechanism and the body of a loop run with the lease parked.
//  4. A lease's response is set before the lease is parked for the first time, so that evict and spill can see it.
//  5. Releasing a lease that is done is a no-op, so a deferred release may follow fail.
//  6. If user code panics or calls runtime.Goexit while a lease is active, the position in the protocol is unknown and the
//     session is closed (closeOnPanic).
//  7. Before a command is written while none is in flight, send discards unsolicited data. Data that is already buffered
//     is discarded also within an exchange.
type session struct {
	conn    *conn
	sem     *semaphore.Weighted
	stall   time.Duration
	observe func(context.Context, Event) // nil if nothing observes
	closed  chan struct{}                // closed by Client.Close
	ended   context.Context              // canceled when cause is set
	end     context.CancelFunc

	mu      sync.Mutex // guards the following fields and those of leases
	holder  *lease
	waiters int
	cause   error           // the error that closed the session; the first one stays
	used    bool            // a command has been sent
	watched <-chan struct{} // the Done channel of the context that is watched; nil if none is
	unwatch func() bool
}

type leaseState uint8

const (
	queued leaseState = iota
	active            // a goroutine is using conn
	parked            // a multi-line response is open, or user code is running
	done              // released, failed or evicted
)

// A lease is exclusive use of the connection for one command, or a few, and their responses.
type lease struct {
	ctx   context.Context
	name  string  // the command, without secrets
	hint  string  // how the holder can release the lease, for busyError
	quit  bool    // it is for QUIT, which evicts a stalled holder
	batch *batch  // it is for the many commands of a batch; nil if not
	probe bool    // each command is preceded by a probe
	resp  drainer // the open multi-line response; nil if there is none

	// Used while the lease is active.
	queued   time.Time // when the call was made, if the session is observed
	event    observation
	observed bool  // an event has been started
	result   error // of the command in flight, for its event

	// Guarded by session.mu.
	state    leaseState
	err      error     // why it ended early
	command  string    // the command sent last, without secrets
	sent     bool      // a command was sent: a ctx that is done closes the session
	released bool      // ctx no longer applies
	lastUse  time.Time // when it was parked, if commands were waiting then
	spill    func()    // moves the rest of the response to memory; nil if that is not possible
	spilling bool
}

// labelLocked names the command that was sent last, or the lease if none was.
func (h *lease) labelLocked() string {
	if h.command != "" {
		return h.command
	}
	return h.name
}

// A drainer reads and discards the rest of a response. The lease must be active.
type drainer interface{ drain() error }

func newSession(c *conn, o *Options) *session {
	s := &session{conn: c, sem: semaphore.NewWeighted(1), stall: o.StallTimeout, observe: o.Observe, closed: make(chan struct{})}
	s.ended, s.end = context.WithCancel(context.Background())
	return s
}

// acquire waits for the lease. On success it is active, and the caller must call release, park or fail.
func (s *session) acquire(h *lease) error {
	if s.observe != nil {
		h.queued = time.Now()
	}
	err := s.admit(h)
	if err != nil {
		s.observes(h, h.name)
		s.observed(h, err)
	}
	return err
}

func (s *session) admit(h *lease) error {
	if err := h.ctx.Err(); err != nil {
		return notSent(h.name, err)
	}
	if err := s.err(); err != nil { // the holder may be stuck in user code
		return notSent(h.name, err)
	}
	if !s.sem.TryAcquire(1) {
		if err := s.wait(h); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		s.sem.Release(1)
		return notSent(h.name, closed(s.cause))
	}
	s.holder = h
	h.state = active
	return nil
}

// err returns the error of a call that finds the session closed, or nil.
func (s *session) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		return nil
	}
	return closed(s.cause)
}

var errEnded = errors.New("session ended")

// wait queues for the semaphore. It fails once ctx is done, the holder has stalled, or the session is closed.
func (s *session) wait(h *lease) error {
	ctx, cancel := context.WithCancelCause(h.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ended, func() { cancel(errEnded) })
	defer stop()
	s.mu.Lock()
	s.waiters++
	s.requestSpillLocked()
	waiting := true
	if s.stall > 0 {
		arrived := time.Now()
		var timer *time.Timer
		timer = time.AfterFunc(s.stall, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !waiting {
				return
			}
			if left := s.stallLeftLocked(arrived); left > 0 {
				timer.Reset(left)
				return
			}
			if h.quit && s.holder.resp != nil {
				s.evictLocked()
				timer.Reset(s.stall)
				return
			}
			cancel(&busyError{h.name, s.holder.labelLocked(), s.holder.hint})
		})
		defer timer.Stop()
	}
	s.mu.Unlock()

	err := s.sem.Acquire(ctx, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters--
	waiting = false
	busy := new(busyError)
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.As(cause, &busy):
		return busy
	case cause == errEnded:
		return notSent(h.name, closed(s.cause))
	}
	return notSent(h.name, err)
}

// stallLeftLocked returns how long the holder may still be idle before a waiter that arrived at the given time fails.
func (s *session) stallLeftLocked(arrived time.Time) time.Duration {
	h := s.holder
	if h == nil || h.state == active || h.spill != nil {
		return s.stall
	}
	since := arrived
	if h.lastUse.After(since) {
		since = h.lastUse
	}
	return s.stall - time.Since(since)
}

// evictLocked revokes the holder's lease and drains its response in the background. The lease must be parked.
func (s *session) evictLocked() {
	h := s.holder
	h.state, h.err = done, ErrClosed
	s.conn.detach() // the holder's Writer may be using the buffer
	rest := &lease{ctx: context.WithoutCancel(h.ctx), name: h.name, command: h.command, state: active, event: h.event}
	h.event = observation{}
	s.holder = rest
	s.background(func() {
		if err := h.resp.drain(); err != nil {
			s.fail(rest, err)
			return
		}
		s.release(rest)
	})
}

// requestSpillLocked starts spilling the holder's response if a caller is waiting.
func (s *session) requestSpillLocked() {
	if h := s.holder; h != nil && h.spill != nil && !h.spilling && s.waiters > 0 {
		h.spilling = true
		s.background(h.spill)
	}
}

// allowSpill sets the function that moves the rest of h's response to memory.
func (s *session) allowSpill(h *lease, spill func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.spill = spill
	s.requestSpillLocked()
}

// resume makes a parked lease active again. It returns an error if the lease has ended.
func (s *session) resume(h *lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.state == done {
		return h.err
	}
	h.state = active
	return nil
}

// park keeps the lease but gives up conn.
func (s *session) park(h *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.state == done {
		return
	}
	h.state = parked
	if s.waiters > 0 { // callers that arrive later measure the stall from their arrival
		h.lastUse = time.Now()
	}
	if s.cause != nil {
		h.err = s.cause
		s.releaseLocked(h)
	}
}

// release ends a lease whose responses have been read to their end.
func (s *session) release(h *lease) {
	s.conn.returnBuffer()
	s.mu.Lock()
	s.releaseLocked(h)
	s.mu.Unlock()
	s.observed(h, h.result)
}

// endResponse ends one response: a batch keeps its lease.
func (s *session) endResponse(h *lease) {
	if h.batch != nil {
		s.observed(h, nil)
		s.park(h)
		return
	}
	s.release(h)
}

func (s *session) releaseLocked(h *lease) {
	if h.state == done {
		return
	}
	h.state = done
	s.holder = nil
	s.sem.Release(1)
}

// fail closes the session because of err, which conn returned. It returns the error that closed the session, which may
// be an earlier one that led to err.
func (s *session) fail(h *lease, err error) error {
	s.mu.Lock()
	after := s.closeLocked(s.conn.explain(h.command, err))
	s.conn.buf, s.conn.r, s.conn.w = nil, 0, 0
	h.err = s.cause
	s.releaseLocked(h)
	cause := s.cause
	s.mu.Unlock()
	after()
	s.observed(h, cause)
	return cause
}

// closeLocked makes cause the error that closed the session, unless it has been closed before. The caller must call the
// returned function once it has unlocked mu: it closes the socket.
func (s *session) closeLocked(cause error) (after func() error) {
	if s.cause != nil {
		return func() error { return nil }
	}
	s.cause = cause
	s.end()
	if s.unwatch != nil {
		s.unwatch()
	}
	h := s.holder
	if h == nil || h.state != parked {
		return s.conn.sock.Close
	}
	h.err = cause
	event := h.event
	h.event = observation{}
	s.releaseLocked(h)
	return func() error {
		err := s.conn.sock.Close()
		s.observed(&lease{ctx: h.ctx, event: event}, cause)
		return err
	}
}

// shut closes the session because of cause, from any goroutine.
func (s *session) shut(cause error) error {
	s.mu.Lock()
	after := s.closeLocked(cause)
	s.mu.Unlock()
	return after()
}

// close is Client.Close.
func (s *session) close() error {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	s.mu.Unlock()
	return s.shut(ErrClosed)
}

var errUserPanic = errors.New("pop3: session abandoned by a panic or runtime.Goexit")

// closeOnPanic closes the session unless returned is true. It is deferred while a lease is active and user code may
// run.
func (s *session) closeOnPanic(returned *bool) {
	if !*returned {
		s.shut(errUserPanic)
	}
}

// background runs fn in a goroutine.
func (s *session) background(fn func()) { go s.contain(fn) }

// contain runs fn in a goroutine that the caller did not start. If user code panics in it, the session is closed, since
// the caller could not recover the panic.
func (s *session) contain(fn func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			s.shut(fmt.Errorf("%w: %v", errUserPanic, v))
			return
		}
		s.shut(errUserPanic)
	}()
	fn()
	returned = true
}

// probeGrace is how long a command that has not been sent may continue after its ctx is done. Only user code, or a TLS
// record for a peer that does not read, can take so long.
const probeGrace = 500 * time.Millisecond

// watch is like watchLocked, for a lease under which nothing is sent.
func (s *session) watch(h *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchLocked(h)
}

// watchLocked closes the session if h.ctx is done after a command was sent and before the lease ends. One registration
// serves for as long as the commands come with the same ctx.
func (s *session) watchLocked(h *lease) {
	done := h.ctx.Done()
	if done == nil || done == s.watched || s.cause != nil {
		return
	}
	if s.unwatch != nil {
		s.unwatch()
	}
	s.watched = done
	s.unwatch = context.AfterFunc(h.ctx, func() {
		s.contain(func() { s.contextDone(done) })
	})
}

// contextDone is called when a watched context is done.
func (s *session) contextDone(done <-chan struct{}) {
	s.mu.Lock()
	if s.watched == done {
		s.watched, s.unwatch = nil, nil
	}
	after := func() error { return nil }
	switch h := s.holder; {
	case h == nil || h.ctx.Done() != done || h.released:
	case h.sent:
		after = s.closeLocked(&commandError{h.labelLocked(), h.ctx.Err().Error(), h.ctx.Err()})
	default:
		time.AfterFunc(probeGrace, func() {
			s.contain(func() { s.abandonUnsent(h) })
		})
	}
	s.mu.Unlock()
	after()
}

// abandonUnsent closes the session if h is still about to send its first command.
func (s *session) abandonUnsent(h *lease) {
	s.mu.Lock()
	after := func() error { return nil }
	if s.holder == h && h.state == active && !h.sent {
		after = s.closeLocked(notSent(h.name, h.ctx.Err()))
	}
	s.mu.Unlock()
	after()
}

// releaseContext stops h.ctx from closing the session, before the lease ends.
func (s *session) releaseContext(h *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.ctx.Err() == nil { // otherwise contextDone is about to be called
		h.released = true
	}
}
