package pop3test

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The commands of the TRANSACTION state (RFC 1939, section 5).

// find returns the message number that arg names, or 0 after refusing the command.
func (s *session) find(arg string) int {
	n, err := strconv.ParseUint(arg, 10, 31)
	if err != nil || n < 1 || int(n) > s.count {
		s.fail("no such message")
		return 0
	}
	if s.marked[int(n)] {
		s.fail("message is deleted")
		return 0
	}
	return int(n)
}

func (s *session) size(n int) int64 { return s.srv.Maildrop.Size(original(s.numbers, n)) }
func (s *session) uid(n int) string { return s.srv.Maildrop.UID(original(s.numbers, n)) }

func (s *session) stat(string) error {
	var size int64
	for n := 1; n <= s.count; n++ {
		if len(s.marked) == 0 || !s.marked[n] {
			size += s.size(n)
		}
	}
	s.ok(strconv.Itoa(s.count-len(s.marked)) + " " + strconv.FormatInt(size, 10))
	return nil
}

func (s *session) list(arg string) error {
	return s.listing(arg, func(b []byte, n int) []byte {
		return strconv.AppendInt(b, s.size(n), 10)
	})
}

func (s *session) uidl(arg string) error {
	return s.listing(arg, func(b []byte, n int) []byte {
		return append(b, s.uid(n)...)
	})
}

// listing responds to LIST or UIDL. value appends the second column.
func (s *session) listing(arg string, value func(b []byte, n int) []byte) error {
	row := func(b []byte, n int) []byte {
		b = strconv.AppendInt(b, int64(n), 10)
		return value(append(b, ' '), n)
	}
	if arg != "" {
		if n := s.find(arg); n > 0 {
			s.ok(string(row(nil, n)))
		}
		return nil
	}
	s.ok(strconv.Itoa(s.count-len(s.marked)) + " messages")
	for n := 1; n <= s.count; n++ {
		if len(s.marked) > 0 && s.marked[n] {
			continue
		}
		b := append(row(s.w.AvailableBuffer(), n), crlf...)
		if _, err := s.w.Write(b); err != nil {
			return err
		}
	}
	_, err := s.w.Write(terminator)
	return err
}

const messageFollows = "message follows"

func (s *session) retr(arg string) error {
	n := s.find(arg)
	if n == 0 {
		return nil
	}
	if m, ok := s.srv.Maildrop.(messages); ok {
		s.ok(messageFollows)
		_, err := s.w.Write(m[original(s.numbers, n)-1].wire)
		return err
	}
	return s.send(n, -1)
}

func (s *session) top(arg string) error {
	number, count, _ := strings.Cut(arg, " ")
	lines, err := strconv.ParseUint(count, 10, 31)
	if err != nil {
		s.fail("wrong number of lines")
		return nil
	}
	n := s.find(number)
	if n == 0 {
		return nil
	}
	return s.send(n, int(lines))
}

// send responds with message n, or with its top if lines is not negative.
func (s *session) send(n, lines int) error {
	d := &dotWriter{w: s.buffer(), open: func() { s.ok(messageFollows) }}
	w := io.Writer(d)
	if lines >= 0 {
		w = &topWriter{w: d, lines: lines}
	}
	err := s.srv.Maildrop.WriteMessage(w, original(s.numbers, n))
	switch {
	case err == nil || errors.Is(err, errEnough):
		err = d.Close()
	case !d.begun:
		s.fail(err.Error())
		return nil
	}
	if err != nil {
		s.flush()
		s.cut = true
	}
	return err
}

func (s *session) dele(arg string) error {
	if n := s.find(arg); n > 0 {
		if s.marked == nil {
			s.marked = make(map[int]bool)
		}
		s.marked[n] = true
		s.ok("message deleted")
	}
	return nil
}

func (s *session) rset(string) error {
	s.marked = nil
	s.ok("nothing is deleted")
	return nil
}

func (s *session) noop(string) error {
	s.ok("nothing done")
	return nil
}

// quit commits the deletions: the UPDATE state (RFC 1939, section 6).
func (s *session) quit(string) error {
	var numbers []int
	var uids []string
	for _, n := range slices.Sorted(maps.Keys(s.marked)) {
		numbers = append(numbers, original(s.numbers, n))
		uids = append(uids, s.uid(n))
	}
	s.srv.remove(numbers, uids)
	if s.locked {
		s.srv.unlock()
		s.locked = false
	}
	s.state = update
	s.ok("bye")
	return nil
}
