package fetch

import (
	"fmt"
	"io"
	"strconv"
)

// listByHeader makes the table for a server that has refused UIDL: the size of a message and the digest of its header stand for its
// unique-id.
func (s *session) listByHeader(refusal error) error {
	caps, err := s.c.Capabilities(s.quit)
	if err != nil {
		return lost(err)
	}
	if caps.Has("UIDL") {
		return lost(refusal) // it has it, but not now
	}
	if !s.f.Policy.deletes() && !s.f.Policy.NoUIDL {
		return of(ErrNoUIDL, refusal)
	}
	var numbers []int
	var sizes []int64
	seen := make(map[int]bool)
	err = s.readLIST(s.quit, func(number int, size int64) {
		if !seen[number] {
			seen[number] = true
			numbers, sizes = append(numbers, number), append(sizes, size)
		}
	})
	if err != nil {
		return lost(err)
	}
	s.t = newTable()
	s.sized = true
	k, refused := 0, 0
	for m, err := range s.c.TopAll(s.quit, numbers, 0) {
		if err != nil {
			return lost(err)
		}
		number, size := numbers[k], sizes[k]
		k++
		if err = s.body.open(m, maxDigested); err == nil {
			_, err = s.body.WriteTo(io.Discard)
		}
		if isServerError(err) {
			refused++
			refusal = err
			continue
		}
		if err != nil {
			return lost(err)
		}
		if s.t.add(number, fmt.Sprintf("size-header:%s:%v", strconv.FormatInt(size, 10), s.body.header.digest())) {
			s.t.at(s.t.n - 1).size = size
		}
	}
	if refused > 0 && s.t.n == 0 {
		return of(ErrNoUIDL, fmt.Errorf("and none of the headers: %w", refusal))
	}
	if refused > 0 {
		s.log.Warn("messages cannot be identified, because the server refuses TOP", "messages", refused, "err", refusal)
		s.leaveUnnamed(refused, Message{Account: s.f.Account, Size: -1, Time: s.now()}, refusal)
	}
	return nil
}
