package fetch

import (
	"fmt"
	"slices"
	"time"
)

// How many new messages it takes until checkAllNew looks at them: by their sizes, or because they replace as many others.
const (
	fewNew  = 3
	manyNew = 20
)

// checkAllNew follows Policy.AllNew if all messages look new at once.
func (s *session) checkAllNew() error {
	if s.agreed {
		return nil
	}
	all, err := s.looksAllNew()
	if err != nil || !all {
		return err
	}
	switch s.f.Policy.AllNew {
	case AllNewFetch:
		s.log.Warn("all messages are new; they are fetched", "messages", s.t.n, "known", s.m.known)
	case AllNewMatch:
		if err := s.matchHeaders(); err != nil {
			return err
		}
	default:
		return of(ErrAllNew, fmt.Errorf("%d messages in the maildrop, %d known", s.t.n, s.m.known))
	}
	s.agreed = true
	return nil
}

// looksAllNew reports whether the messages that look new are probably known: if none is known, but most have the size of one that
// is known, or they are as many as those that have vanished; or if nearly all known unique-ids have other sizes.
func (s *session) looksAllNew() (bool, error) {
	m := s.m
	if m.reused >= manyNew && m.reused > 9*m.matched {
		return true, nil
	}
	if m.known == 0 || m.matched > 0 || s.t.n-m.reused < fewNew {
		return false, nil
	}
	sizes := make(map[int64]int)
	live := 0
	for r, err := range s.f.Store.Load(s.quit) {
		if err != nil {
			return false, storeError(err)
		}
		sizes[r.Size]++
		if r.Gone.IsZero() {
			live++
		}
	}
	if live >= manyNew && s.t.n >= live*9/10 {
		return true, nil
	}
	same := 0
	for i := range s.t.n {
		if size := s.t.at(i).size; size >= 0 && sizes[size] > 0 {
			sizes[size]--
			same++
		}
	}
	return same >= s.t.n*3/4, nil
}

// matchHeaders finds known messages by the digests of their headers, and gives their records the new keys.
func (s *session) matchHeaders() error {
	known := make(map[Digest][]Record)
	for r, err := range s.f.Store.Load(s.quit) {
		if err != nil {
			return storeError(err)
		}
		if !r.Header.IsZero() {
			known[r.Header] = append(known[r.Header], r)
		}
	}
	var items []int32
	for i := range s.t.n {
		if e := s.t.at(i); e.status == statusNew && s.broken[e.key()] < maxBroken {
			items = append(items, int32(i))
		}
	}
	var put []Record
	moved := make(map[Key]bool)
	err := s.headers(items, maxDigested, func(e *entry, i int32, h *headerBuffer, err error) error {
		if err != nil {
			return nil // it is fetched
		}
		digest := h.digest()
		records := known[digest]
		if len(records) == 0 {
			return nil
		}
		// Of messages with the same header, one may be refused and another delivered: the size tells them apart.
		k := max(0, slices.IndexFunc(records, func(r Record) bool { return r.Size == e.size }))
		r := records[k]
		records[k] = records[0]
		known[digest] = records[1:]
		if r.Key != e.key() {
			moved[r.Key] = true
		}
		r.Key, r.Size, r.Gone = e.key(), e.size, time.Time{}
		s.m.attach(int(i), r)
		put = append(put, r)
		return nil
	})
	if err != nil {
		return err
	}
	s.log.Warn("all unique-ids are new; messages are found by their headers", "messages", s.t.n, "found", len(put))
	return s.rename(put, moved)
}

// rename stores records under new keys, and removes the old ones.
func (s *session) rename(put []Record, moved map[Key]bool) error {
	s.m.updates, s.m.forget = nil, nil
	for _, r := range put {
		delete(moved, r.Key)
	}
	if len(put) > 0 {
		if err := s.f.Store.Put(s.quit, put...); err != nil {
			return storeError(err)
		}
	}
	keys := make([]Key, 0, len(moved))
	for k := range moved {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil
	}
	if err := s.f.Store.Delete(s.quit, keys...); err != nil {
		return storeError(err)
	}
	return nil
}
