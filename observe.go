package pop3

import (
	"context"
	"errors"
	"strings"
	"time"
)

// An Event describes one command and its response, for [Options.Observe]. A batch causes an event for each of its
// commands. A time is zero if the command did not get that far.
type Event struct {
	// Verb is the name of the command, such as "RETR", or "" for the greeting. Of the arguments, only Number is
	// shown, so that an event contains no secret.
	Verb string
	// Number is the message number that the command names, or 0.
	Number int
	// Queued is the time of the call, Sent when the command was written, Answered when its status line was read, and
	// End when its response had been read or discarded.
	Queued, Sent, Answered, End time.Time
	// Octets is the size of the multi-line response, without dot-stuffing, as far as it has been received.
	Octets int64
	// Err is the error of the command, or nil.
	Err error
}

// An observation is the event of the command in flight under a lease. It is used by the goroutine whose lease is
// active, and taken by the one that closes the session while the lease is parked.
type observation struct {
	Event
	open bool
}

// newEvent returns the event of a command that was called at the time queued.
func newEvent(command string, queued time.Time) Event {
	verb, _, _ := strings.Cut(command, " ")
	if verb == "greeting" {
		verb = ""
	}
	return Event{Verb: strings.ToUpper(verb), Number: messageNumber(command), Queued: queued}
}

// observes ends the event of the previous command and starts the event of the command that is about to be sent.
func (s *session) observes(h *lease, command string) {
	if s.observe == nil {
		return
	}
	s.observed(h, nil)
	h.event = observation{newEvent(command, h.queued), true}
	h.observed = true
}

// wrote and answered record the time.
func (s *session) wrote(h *lease) {
	if s.observe != nil {
		h.event.Sent = time.Now()
	}
}

func (s *session) answered(h *lease) {
	if s.observe != nil {
		h.event.Answered = time.Now()
	}
}

// observed ends the event of h, if one is open. User code runs.
func (s *session) observed(h *lease, err error) {
	if s.observe == nil || !h.event.open {
		return
	}
	e := h.event.Event
	h.event = observation{}
	e.Err = err
	s.emit(h.ctx, e)
}

// emit calls Options.Observe. A single-line response ends when its status line has been read.
func (s *session) emit(ctx context.Context, e Event) {
	if e.End = e.Answered; e.End.IsZero() || e.Octets > 0 || e.Err != nil {
		e.End = time.Now()
	}
	s.observe(ctx, e)
}

// refused observes a command whose arguments were refused, and returns err.
func (s *session) refused(ctx context.Context, err error) error {
	var unsent *notSentError
	if s.observe != nil && errors.As(err, &unsent) {
		e := newEvent(unsent.command, time.Now())
		e.Err = err
		s.emit(ctx, e)
	}
	return err
}
