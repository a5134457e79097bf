package fetch

import (
	"fmt"
	"slices"
	"time"
)

// The numbers of new messages from which on checkAllNew compares them with the known ones, or only counts them.
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

// looksAllNew reports whether the messages that look new are probably known, under other unique-ids or with other sizes.
func (s *session) looksAllNew() (bool, error) {
	m := s.m
	if m.reused >= manyNew && m.reused > 9*m.matched {
		return true, nil
	}
	if m.known == 0 || m.matched > 0 || s.t.n-m.reused < fewNew {
		return false, nil
	}
	k := knownMessages{sizes: make(map[int64]int), headers: make(map[Digest]struct{})}
	for r, err := range s.f.Store.Load(s.quit) {
		if err != nil {
			return false, storeError(err)
		}
		k.add(r)
	}
	// If messages are deleted at once, records remain only after a QUIT that was not answered, and say nothing.
	if n := s.t.n; !s.f.Policy.Delete && k.live >= manyNew && n >= k.live*9/10 && n <= k.live*5/4 {
		return true, nil
	}
	if len(k.headers) > 0 {
		found, asked, err := s.sampleHeaders(k.headers)
		if err != nil || asked > 0 {
			return 2*found >= max(1, asked), err
		}
	}
	return s.sizesAgree(k.sizes), nil
}

// knownMessages is what the Store knows of all messages.
type knownMessages struct {
	live    int // in the last listing
	sizes   map[int64]int
	headers map[Digest]struct{}
}

func (k *knownMessages) add(r Record) {
	if r.Gone.IsZero() {
		k.live++
	}
	k.sizes[r.Size]++
	if !r.Header.IsZero() {
		k.headers[r.Header] = struct{}{}
	}
}

// sampleHeaders asks for the headers of some messages, and returns how many of them are known.
func (s *session) sampleHeaders(known map[Digest]struct{}) (found, asked int, err error) {
	items := make([]int32, s.t.n)
	for i := range items {
		items[i] = int32(i)
	}
	sample, _ := split(items, sampleSize)
	err = s.headers(sample, maxDigested, func(_ *entry, _ int32, h *headerBuffer, err error) error {
		if err != nil {
			return nil
		}
		asked++
		if _, ok := known[h.digest()]; ok {
			found++
		}
		return nil
	})
	return found, asked, err
}

// sizesAgree reports whether most messages have the size of one that is known, and their sizes differ enough to mean something.
func (s *session) sizesAgree(known map[int64]int) bool {
	same := 0
	different := make(map[int64]struct{})
	for i := range s.t.n {
		if size := s.t.at(i).size; size >= 0 && known[size] > 0 {
			known[size]--
			same++
			different[size] = struct{}{}
		}
	}
	return same >= s.t.n*3/4 && len(different) > same/2
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
