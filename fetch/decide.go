package fetch

import (
	"iter"
	"slices"
	"time"
)

// decide applies the Policy to the listing: it fills fetch and due.
func (s *session) decide() {
	p := &s.f.Policy
	for i := range s.t.n {
		e := s.t.at(i)
		large := p.MaxSize > 0 && e.size > p.MaxSize
		if e.status == statusHeader && !large && (p.MaxSize <= 0 || e.size >= 0) {
			e.status = statusNew // the Policy now permits the message
			e.flags |= flagHadHeader
		}
		if e.status != statusNew {
			continue
		}
		if _, left := s.left[e.key()]; left {
			continue
		}
		if s.broken[e.key()] >= maxBroken {
			s.leave(s.messageOf(e), errTooManyLost)
			continue
		}
		if large && !p.HeaderOnly {
			s.skip(e)
			continue
		}
		if large {
			e.flags |= flagHeader
		}
		s.fetch = append(s.fetch, int32(i))
	}
	if len(s.broken) > 0 { // the others first
		slices.SortStableFunc(s.fetch, func(a, b int32) int {
			return s.broken[s.t.at(int(a)).key()] - s.broken[s.t.at(int(b)).key()]
		})
	}
	s.decideDue()
	s.setAside()
	if s.limit > 0 {
		s.due = s.within(s.due, s.limit)
		s.fetch = s.within(s.fetch, max(1, s.limit-len(s.due)))
	}
}

// setAside takes the messages at which a connection was lost out of this session, so that it can delete or filter the others.
func (s *session) setAside() {
	if !s.aside || !s.f.Policy.deletes() && s.f.Policy.Filter == nil {
		return
	}
	isBroken := func(i int32) bool { return s.broken[s.t.at(int(i)).key()] > 0 }
	fetch := slices.DeleteFunc(slices.Clone(s.fetch), isBroken)
	due := slices.DeleteFunc(slices.Clone(s.due), isBroken)
	n := len(fetch) + len(due)
	if n == 0 || n == len(s.fetch)+len(s.due) {
		return
	}
	s.fetch, s.due = fetch, due
	s.waiting, s.more = true, true
}

// within returns the first n items, and notes whether another session is to see to the others.
func (s *session) within(items []int32, n int) []int32 {
	if len(items) <= n {
		return items
	}
	s.more = true
	return items[:n]
}

// decideDue finds the messages of earlier sessions that the Policy wants deleted.
func (s *session) decideDue() {
	p := &s.f.Policy
	if !p.deletes() {
		return
	}
	over := s.overLimit(func(e *entry) bool { return e.status == statusNew })
	unproven := 0
	for i := range s.t.n {
		e := s.t.at(i)
		if e.status != statusDone {
			continue
		}
		rank := over
		if over > 0 {
			over--
		}
		if !s.wantsDeleted(e, rank > 0) {
			continue
		}
		if n := s.broken[e.key()]; n >= maxBroken {
			if n == maxBroken { // not reported yet
				s.broken[e.key()]++
				s.log.Warn("message not deleted", "number", e.number, "uid", e.uid, "err", errTooManyLost)
				problem := &MessageError{s.messageOf(e), errTooManyLost}
				s.count(func(report *Report) { report.add(problem) })
			}
			s.undone(1)
			continue
		}
		if s.proofs[e.proof-1].header.IsZero() {
			if !p.DeleteUnproven {
				unproven++
				continue
			}
			e.flags |= flagProven
		}
		s.due = append(s.due, int32(i))
	}
	if unproven > 0 {
		s.log.Warn("messages are not deleted because nothing proves that they are the recorded ones", "messages", unproven)
		s.undone(unproven)
	}
}

// overLimit returns how many delivered messages are to be deleted because of DeleteOver. counts reports whether a message counts
// that is not delivered yet.
func (s *session) overLimit(counts func(e *entry) bool) int {
	if s.f.Policy.DeleteOver <= 0 {
		return 0
	}
	n := -s.f.Policy.DeleteOver
	for i := range s.t.n {
		if e := s.t.at(i); e.status == statusDone || e.status == statusFetched || counts(e) {
			n++
		}
	}
	return max(0, n)
}

// wantsDeleted reports whether the Policy wants a delivered message deleted. over reports whether it is one of those that are too
// many.
func (s *session) wantsDeleted(e *entry, over bool) bool {
	p := &s.f.Policy
	if p.Delete || over {
		return true
	}
	fetched := s.m.now
	if e.status == statusDone {
		fetched = time.Unix(s.proofs[e.proof-1].fetched, 0)
	}
	return p.DeleteAfter > 0 && s.m.now.Sub(fetched) >= p.DeleteAfter
}

// dueEntries yields the entries to delete now.
func (s *session) dueEntries() iter.Seq[int] {
	return func(yield func(int) bool) {
		over := s.overLimit(func(*entry) bool { return false })
		partly := s.partlyDelivered()
		for i := range s.t.n {
			e := s.t.at(i)
			due := false
			switch e.status {
			case statusDropped:
				due = true
			case statusDone:
				due = e.flags&flagProven != 0 && s.wantsDeleted(e, over > 0)
				over--
			case statusFetched:
				due = e.flags&flagHeader == 0 && s.wantsDeleted(e, over > 0)
				over--
			}
			if due && partly[e.uid] && e.status != statusDropped {
				continue
			}
			if due && !yield(i) {
				return
			}
		}
	}
}

// partlyDelivered returns the unique-ids that several messages share of which not all are delivered. None of these is deleted:
// if the outcome of QUIT remained unknown, the next session would take an undelivered one for the one that was deleted.
func (s *session) partlyDelivered() map[string]bool {
	partly := make(map[string]bool)
	for uid, entries := range s.t.twins {
		for _, i := range entries {
			switch e := s.t.at(int(i)); e.status {
			case statusNew, statusHeader, statusRefused:
				partly[uid] = true
			case statusFetched:
				partly[uid] = partly[uid] || e.flags&flagHeader != 0
			}
		}
	}
	return partly
}

// prove compares the headers of the messages that are due with the recorded ones. Those that TOP does not prove are fetched, and
// compared then.
func (s *session) prove() error {
	var due []int32
	for _, i := range s.due {
		switch e := s.t.at(int(i)); {
		case e.flags&flagProven != 0:
		case s.broken[e.key()] > 0: // perhaps by TOP
			e.flags |= flagCompare
			s.fetch = append(s.fetch, i)
		default:
			due = append(due, i)
		}
	}
	if len(due) == 0 {
		return nil
	}
	return s.headers(due, maxDigested, func(e *entry, i int32, h *headerBuffer, err error) error {
		if err == nil && h.digest() == s.proofs[e.proof-1].header {
			e.flags |= flagProven
			return nil
		}
		e.flags |= flagCompare
		s.fetch = append(s.fetch, i)
		return nil
	})
}

// records returns the records of the messages in the listing, by Key.
func (s *session) records() (map[Key]Record, error) {
	records := make(map[Key]Record)
	for r, err := range s.f.Store.Load(s.quit) {
		if err != nil {
			return nil, storeError(err)
		}
		if s.t.withUID(r.Key.UID) >= 0 {
			records[r.Key] = r
		}
	}
	return records, nil
}

// steps returns the actions of a run.
func (s *session) steps(records map[Key]Record) []Step {
	s.decide()
	fetch := make(map[int32]bool, len(s.fetch))
	for _, i := range s.withinLimits(s.fetch) {
		fetch[i] = true
		e := s.t.at(int(i))
		if e.status = statusFetched; e.flags&flagHeader != 0 {
			e.status = statusHeader
		}
	}
	for _, i := range s.due {
		s.t.at(int(i)).flags |= flagProven
	}
	steps := make([]Step, s.t.n)
	for i := range s.t.n {
		e := s.t.at(i)
		step := Step{Message: s.messageOf(e), Action: ActionSkip}
		switch {
		case fetch[int32(i)] && e.flags&flagHeader != 0:
			step.Action = ActionHeader
		case fetch[int32(i)]:
			step.Action = ActionFetch
		case e.status != statusNew:
			step.Action = ActionKnown
		}
		if e.flags&flagReused == 0 {
			step.Record = records[e.key()]
		}
		steps[i] = step
	}
	for i := range s.dueEntries() {
		steps[i].Delete = true
	}
	return steps
}
