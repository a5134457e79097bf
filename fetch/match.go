package fetch

import (
	"context"
	"slices"
	"time"
)

const (
	// keepGone is how long a record is kept after its message has vanished from the listing: servers lose a listing for a while.
	keepGone = 30 * 24 * time.Hour

	// maxUpdates bounds the records that a session changes because of the listing. The next session changes more of them.
	maxUpdates = 10000
)

// A matcher compares the records of the Store with the listing of a session.
type matcher struct {
	s   *session
	now time.Time

	known   int                 // records
	matched int                 // messages that are known
	reused  int                 // messages whose unique-id was that of a message of another size
	adopt   map[int]Record      // records without a size, by entry
	odd     map[string][]Record // records of unique-ids that more than one message has or had
	updates []Record
	forget  []Key
}

// match reads the scan listing, and meanwhile finds the records of the messages.
func (s *session) match() error {
	ctx, cancel := context.WithCancel(s.quit)
	defer cancel()
	listed := make(chan error, 1)
	if s.sized {
		listed <- nil
	} else {
		go func() { listed <- s.readSizes(ctx) }() // the Store takes its time too
	}
	m := &matcher{s: s, now: s.now(), adopt: map[int]Record{}, odd: map[string][]Record{}}
	s.t.indexUIDs()
	loadErr := m.load()
	if loadErr != nil {
		cancel()
	}
	if err := <-listed; err != nil && loadErr == nil {
		return lost(err)
	}
	if loadErr != nil {
		return storeError(loadErr)
	}
	for _, e := range s.unlisted {
		s.leave(Message{Account: s.f.Account, Number: e.Number, Size: e.Size, Time: m.now}, errNoUID)
	}
	for uid, records := range m.odd {
		m.matchTwins(uid, records)
	}
	for i := range s.t.n {
		m.compareSize(i)
	}
	s.m = m
	return nil
}

func (m *matcher) load() error {
	for r, err := range m.s.f.Store.Load(m.s.quit) {
		if err != nil {
			return err
		}
		if r.State == Intent {
			continue // only if the Store is used by another run
		}
		m.known++
		first := m.s.t.withUID(r.Key.UID)
		switch {
		case first < 0:
			m.vanished(r)
		case r.Key.Nth != 0 || m.s.t.twins[r.Key.UID] != nil:
			m.odd[r.Key.UID] = append(m.odd[r.Key.UID], r)
		default:
			m.attach(first, r)
		}
	}
	return nil
}

// vanished notes that a message is not in the listing.
func (m *matcher) vanished(r Record) {
	if len(m.updates)+len(m.forget) >= maxUpdates {
		return
	}
	switch {
	case r.Gone.IsZero() || r.Gone.After(m.now): // the clock was set back
		r.Gone = m.now
		m.updates = append(m.updates, r)
	case m.now.Sub(r.Gone) > keepGone:
		m.forget = append(m.forget, r.Key)
	}
}

// attach gives an entry its record.
func (m *matcher) attach(i int, r Record) {
	s := m.s
	e := s.t.at(i)
	switch {
	case r.State == Refused:
		e.status = statusRefused
	case r.HeaderOnly:
		e.status = statusHeader
	default:
		e.status = statusDone
	}
	e.stored, e.nth = r.Size, int32(r.Key.Nth)
	changed := false
	if !r.Gone.IsZero() {
		r.Gone, changed = time.Time{}, true
	}
	if r.Time.IsZero() || r.Time.After(m.now.Add(24*time.Hour)) { // unknown, or the clock was wrong, then or now
		r.Time, changed = m.now, true
	}
	if s.f.Policy.deletes() && e.status == statusDone {
		s.proofs = append(s.proofs, proof{header: r.Header, fetched: r.Time.Unix()})
		e.proof = int32(len(s.proofs))
	}
	if len(m.updates)+len(m.adopt) >= maxUpdates {
		return
	}
	if r.Size < 0 {
		m.adopt[i] = r
	} else if changed {
		m.updates = append(m.updates, r)
	}
}

// matchTwins gives the messages that share a unique-id their records: those in the same place if the size permits, else any of the
// same size. The other messages are new, and get places that no message has.
func (m *matcher) matchTwins(uid string, records []Record) {
	t := m.s.t
	entries := t.twins[uid]
	if entries == nil {
		entries = []int32{int32(t.withUID(uid))}
	}
	slices.SortFunc(records, func(a, b Record) int { return a.Key.Nth - b.Key.Nth })
	place := make(map[int]int, len(records)) // of records, by Nth
	sizes := make(map[int64][]int)           // of records, by size
	for k, r := range records {
		place[r.Key.Nth] = k
		sizes[r.Size] = append(sizes[r.Size], k)
	}
	taken := make([]bool, len(records))
	used := make(map[int32]bool)
	var fresh []int32
	give := func(i int32, k int) {
		taken[k] = true
		used[int32(records[k].Key.Nth)] = true
		m.attach(int(i), records[k])
	}
	var rest []int32
	for n, i := range entries {
		k, ok := place[n]
		if size := t.at(int(i)).size; ok && (size < 0 || records[k].Size < 0 || records[k].Size == size) {
			give(i, k)
		} else {
			rest = append(rest, i)
		}
	}
	for _, i := range rest {
		same := sizes[t.at(int(i)).size]
		for len(same) > 0 && taken[same[0]] {
			same = same[1:]
		}
		sizes[t.at(int(i)).size] = same
		if len(same) > 0 {
			give(i, same[0])
		} else {
			fresh = append(fresh, i)
		}
	}
	next := int32(0)
	for _, i := range fresh {
		for used[next] {
			next++
		}
		used[next] = true
		e := t.at(int(i))
		e.nth = next
		if k, ok := place[int(next)]; ok && !taken[k] {
			taken[k] = true // it is replaced
			m.s.reused(e)
			m.reused++
		}
	}
	for k, r := range records {
		if !taken[k] {
			m.vanished(r)
		}
	}
}

// compareSize decides whether the message is the recorded one, as far as the size shows.
func (m *matcher) compareSize(i int) {
	e := m.s.t.at(i)
	if e.status == statusNew {
		return
	}
	if e.size >= 0 && e.stored >= 0 && e.size != e.stored {
		m.s.reused(e)
		m.reused++
		return
	}
	m.matched++
	if r, ok := m.adopt[i]; ok && e.size >= 0 {
		r.Size = e.size
		m.updates = append(m.updates, r)
	}
}

// reused makes a message new that has the unique-id of another one.
func (s *session) reused(e *entry) {
	s.log.Warn("unique-id used again for another message", "number", e.number, "uid", e.uid, "size", e.size, "recorded", e.stored)
	e.status = statusNew
	e.flags |= flagReused
	e.flags &^= flagProven | flagCompare
}

// update stores the changes due to the listing.
func (s *session) update() error {
	m := s.m
	if len(m.updates) > 0 {
		if err := s.f.Store.Put(s.quit, m.updates...); err != nil {
			return storeError(err)
		}
	}
	if len(m.forget) > 0 {
		if err := s.f.Store.Delete(s.quit, m.forget...); err != nil {
			return storeError(err)
		}
	}
	return nil
}
