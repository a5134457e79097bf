package fetch

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/seed-5b1d5243/pop3"
)

// headerUID begins the unique-ids of messages that are identified by their headers.
const headerUID = "size-header:"

// listByHeader makes the table for a server that has refused UIDL: the size of a message and the digest of its header stand for its
// unique-id.
func (s *session) listByHeader(refusal error) error {
	caps, err := s.c.Capabilities(s.quit)
	if err != nil {
		return lost(err)
	}
	var e *pop3.ServerError
	if caps.Has("UIDL") || errors.As(refusal, &e) && e.Temporary() {
		return lost(refusal) // it has it, but not now
	}
	if !s.f.Policy.NoUIDL {
		if err := s.checkNeverUIDL(refusal); err != nil {
			return err
		}
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
		if s.t.add(number, fmt.Sprintf(headerUID+"%s:%v", strconv.FormatInt(size, 10), s.body.header.digest())) {
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

// checkNeverUIDL returns the refusal as an error if the Store has messages with unique-ids of this server. Identified by their headers, they
// would be new.
func (s *session) checkNeverUIDL(refusal error) error {
	for r, err := range s.f.Store.Load(s.quit) {
		if err != nil {
			return storeError(err)
		}
		if !strings.HasPrefix(r.Key.UID, headerUID) {
			return lost(fmt.Errorf("messages were fetched by their unique-ids before: %w", refusal))
		}
	}
	return nil
}
