package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

// A session is one login of a run.
type session struct {
	*run
	c      *pop3.Client
	t      *table
	sized  bool // the table has the sizes
	m      *matcher
	proofs []proof // of entries that may have to be deleted

	fetch   []int32 // entries to fetch, in this order
	due     []int32 // entries of earlier sessions to delete, once they are proven
	body    body
	commits *committer

	unlisted []pop3.Entry // messages in the scan listing without a unique-id
	refusals int          // messages in a row that the server refused
	received int          // messages received
	hand     *entry       // the message that is being received

	waiting  bool // messages wait because run.aside is set
	progress bool // a batch is done, or a deletion confirmed
	more     bool // another session is to do the rest
	stopped  bool // something was left undone because the run must end
}

// A proof is the Store's record of a message that an earlier session delivered.
type proof struct {
	header  Digest
	fetched int64 // Unix time in seconds
}

// session opens a session and performs the run's work in it.
func (r *run) session() (s *session, err error) {
	s = &session{run: r}
	r.unnamed = 0
	r.count(func(report *Report) {
		report.Sessions++
		report.Left, report.Undone, report.Skipped = len(r.left), 0, 0
	}, Event{Kind: EventConnecting, Attempt: r.backoff.attempts + 1})
	c, err := r.f.Dial(r.quit)
	if c == nil && err == nil {
		return s, of(ErrServer, errors.New("no session returned by Dial"))
	}
	if c != nil {
		defer c.Close()
	}
	if err != nil {
		return s, dialError(err)
	}
	s.c = c
	return s, s.converse()
}

// converse performs the work of the session.
func (s *session) converse() error {
	s.backoff.connected(s.quit, s.c, time.Now())
	s.emit(Event{Kind: EventConnected})
	s.commits = newCommitter(s)
	err := s.plan()
	if err == nil {
		s.announce()
		if err = s.prove(); err == nil {
			err = s.receive()
		}
	}
	if err != nil {
		s.interrupted(err)
		if !isLost(err) {
			s.sayQuit()
		}
		return err
	}
	if err := s.remove(); err != nil {
		s.interrupted(err)
		return err
	}
	if s.waiting { // the next session tries them
		s.aside, s.progress = false, true
	}
	return nil
}

// plan compares the maildrop with the Store, and decides on the actions.
func (s *session) plan() error {
	if err := s.list(); err != nil {
		return err
	}
	if err := s.match(); err != nil {
		return err
	}
	if err := s.checkAllNew(); err != nil {
		return err
	}
	s.decide()
	if s.f.Policy.Filter == nil {
		s.fetch = s.withinLimits(s.fetch)
	}
	return s.update()
}

// sayQuit ends a session in which nothing is deleted.
func (s *session) sayQuit() {
	ctx, cancel := context.WithTimeout(s.kill, s.f.grace())
	defer cancel()
	s.c.Quit(ctx)
}

// list reads the listings of the maildrop.
func (s *session) list() error {
	err := s.readUIDL(s.quit)
	if isServerError(err) {
		return s.listByHeader(err)
	}
	return lost(err)
}

// announce reports the messages to be fetched.
func (s *session) announce() {
	e := Event{Kind: EventPlanned, Total: len(s.fetch)}
	for _, i := range s.fetch {
		e.TotalOctets += max(0, s.t.at(int(i)).size)
	}
	s.count(func(report *Report) { report.Listed, report.New = s.t.n, len(s.fetch) }, e)
}

// minLimit is the limit of a session after a connection was lost that gave no hint of its capacity.
const minLimit = 16

// interrupted records the progress of a lost session. If messages are to be deleted, the next sessions are limited, so
// that one of them can reach its QUIT.
func (s *session) interrupted(err error) {
	if !isLost(err) || s.quit.Err() != nil {
		return
	}
	if s.hand != nil {
		s.broken[s.hand.key()]++
		s.aside = true
	}
	switch {
	case !s.f.Policy.deletes():
	case s.received > minLimit || s.limit > 0 && s.received > 0:
		if s.lostAt == 0 || s.received < s.lostAt {
			s.lostAt = s.received
		}
		s.limit = max(1, s.lostAt/2)
	default:
		s.limit = max(minLimit, s.limit/2)
	}
}

// relax raises the limit after a session that has reached its QUIT.
func (s *session) relax() {
	if s.limit *= 4; s.lostAt > 0 {
		s.limit = min(s.limit, max(1, s.lostAt/2))
	}
}

// stopping reports whether nothing more is to be received.
func (s *session) stopping() bool {
	if s.quit.Err() != nil || s.commits.hasFailed() {
		s.stopped = true
	}
	return s.stopped
}

func (s *session) messageOf(e *entry) Message {
	m := s.message(e.key(), e.number, e.size)
	m.Header = e.flags&flagHeader != 0
	return m
}

// remove deletes the messages that are due and quits.
func (s *session) remove() error {
	var numbers []int
	for i := range s.dueEntries() {
		numbers = append(numbers, int(s.t.at(i).number))
	}
	if len(numbers) == 0 {
		s.sayQuit()
		return nil
	}
	refused := map[int]error{}
	if err := s.c.DeleAll(s.kill, numbers); err != nil {
		if !onlyServerErrors(err, refused) {
			s.undone(len(numbers))
			return lost(err)
		}
	}
	err := s.c.Quit(s.kill)
	if isServerError(err) {
		s.undone(len(numbers))
		return of(ErrServer, fmt.Errorf("%w: %w", errQuitRefused, err))
	}
	if err != nil {
		s.undone(len(numbers))
		s.count(func(report *Report) { report.QuitUnknown = true })
		return lost(err)
	}
	return s.removed(refused)
}

// undone counts messages that are due and still on the server, or may be.
func (s *session) undone(n int) {
	s.count(func(report *Report) { report.Undone += n })
}

// removed forgets the messages that the server has confirmed as deleted.
func (s *session) removed(refused map[int]error) error {
	var keys []Key
	var events []Event
	for i := range s.dueEntries() {
		e := s.t.at(i)
		m := s.messageOf(e)
		if err := refused[int(e.number)]; err != nil {
			s.log.Warn("message not deleted", "number", e.number, "uid", e.uid, "err", err)
			s.count(func(report *Report) {
				report.Undone++
				report.add(&MessageError{m, err})
			})
			continue
		}
		keys = append(keys, e.key())
		if s.f.Progress != nil {
			events = append(events, Event{Kind: EventDeleted, Message: m})
		}
	}
	if err := s.f.Store.Delete(s.kill, keys...); err != nil {
		return storeError(err)
	}
	s.progress = true
	s.relax()
	s.count(func(report *Report) {
		report.Deleted += len(keys)
		report.QuitUnknown = false
	}, events...)
	return nil
}

// onlyServerErrors collects the refusals in an error of DeleAll by message number, and reports whether there is nothing else in it.
func onlyServerErrors(err error, refused map[int]error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all := true
		for _, err := range joined.Unwrap() {
			all = onlyServerErrors(err, refused) && all
		}
		return all
	}
	var refusal *pop3.ServerError
	if !errors.As(err, &refusal) {
		return false
	}
	refused[refusal.Number] = err
	return refusal.Number > 0
}
