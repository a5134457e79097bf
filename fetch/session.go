package fetch

import (
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

	progress bool // a batch is done, or a deletion confirmed
	more     bool // another session is to do the rest
	stopped  bool // something was left undone because the run must end
}

// A proof is what the Store knows of a message that an earlier session delivered.
type proof struct {
	header  Digest
	fetched int64 // Unix time in seconds
}

// session opens a session and does in it what is to be done.
func (r *run) session() (s *session, err error) {
	s = &session{run: r}
	r.unnamed = 0
	r.count(func(report *Report) {
		report.Sessions++
		report.Left, report.Undone, report.Skipped = len(r.left), 0, 0
	}, Event{Kind: EventConnecting, Attempt: r.backoff.attempts + 1})
	c, err := r.f.Dial(r.quit)
	if err != nil {
		return s, dialError(err)
	}
	if c == nil {
		return s, of(ErrServer, errors.New("Dial returned no session"))
	}
	s.c = c
	defer c.Close()
	s.commits = newCommitter(s)
	r.backoff.connected(r.quit, c, time.Now())
	r.emit(Event{Kind: EventConnected})

	if err := s.list(); err != nil {
		return s, err
	}
	if err := s.match(); err != nil {
		return s, err
	}
	if err := s.checkAllNew(); err != nil {
		return s, err
	}
	s.decide()
	if err := s.update(); err != nil {
		return s, err
	}
	if s.f.Policy.Filter == nil {
		s.fetch = s.withinLimits(s.fetch)
	}
	s.announce()
	if err = s.prove(); err == nil {
		err = s.receive()
	}
	if err == nil {
		err = s.remove()
	}
	if err != nil {
		return s, s.interrupted(err)
	}
	return s, nil
}

// list reads the listings of the maildrop.
func (s *session) list() error {
	err := s.readUIDL(s.quit)
	if isServerError(err) {
		return s.listByHeader(err)
	}
	return lost(err)
}

// announce reports what is to be fetched.
func (s *session) announce() {
	e := Event{Kind: EventPlanned, Total: len(s.fetch)}
	for _, i := range s.fetch {
		e.TotalOctets += max(0, s.t.at(int(i)).size)
	}
	s.count(func(report *Report) { report.Listed, report.New = s.t.n, len(s.fetch) }, e)
}

// interrupted notes where a session was lost.
func (s *session) interrupted(err error) error {
	var interruption *lostError
	if !errors.As(err, &interruption) || s.quit.Err() != nil {
		return err
	}
	if s.hand != nil {
		s.broken[s.hand.key()]++
	}
	if s.f.Policy.deletes() {
		s.limit = max(1, s.received/2) // so that one session can reach its QUIT
	}
	return err
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

// remove deletes what is due and quits.
func (s *session) remove() error {
	var numbers []int
	for i := range s.dueEntries() {
		numbers = append(numbers, int(s.t.at(i).number))
	}
	if len(numbers) == 0 {
		s.c.Quit(s.kill) // nothing depends on it
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
