package fetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/seed-5b1d5243/pop3"
)

const (
	// maxListingLine bounds a line of a listing that is read again because the library has found a malformed line in it.
	maxListingLine = 16 << 10

	// maxQuoted is how many malformed lines of a listing are logged.
	maxQuoted = 5
)

// readUIDL reads the unique-ids into the table.
func (s *session) readUIDL(ctx context.Context) error {
	l, err := s.c.UIDL(ctx)
	if err != nil {
		return err
	}
	t := newTable()
	add := func(number int, uid string) {
		if !t.add(number, uid) {
			s.log.Warn("message number listed twice or too large", "command", "UIDL", "number", number)
		}
	}
	for u, entryErr := range l.All() {
		if err = entryErr; err == nil {
			add(u.Number, u.ID)
		}
	}
	if isMalformed(err) {
		t = newTable()
		err = s.readLines(ctx, "UIDL", func(number int, rest []byte) bool {
			if len(rest) == 0 || hasControl(rest) {
				return false
			}
			add(number, string(rest))
			return true
		})
	}
	s.t = t
	return err
}

// readLIST calls each for every message of the scan listing.
func (s *session) readLIST(ctx context.Context, each func(number int, size int64)) error {
	l, err := s.c.List(ctx)
	if err != nil {
		return err
	}
	for e, entryErr := range l.All() {
		if err = entryErr; err == nil {
			each(e.Number, e.Size)
		}
	}
	if isMalformed(err) {
		err = s.readLines(ctx, "LIST", func(number int, rest []byte) bool {
			digits := rest
			if i := bytes.IndexAny(rest, " \t"); i >= 0 {
				digits = rest[:i]
			}
			size, err := strconv.ParseInt(string(digits), 10, 64)
			if err != nil || size < 0 {
				return false
			}
			each(number, size)
			return true
		})
	}
	return err
}

// readSizes reads the sizes into the table. A message that is in one listing only remains without a size, or is not fetched.
func (s *session) readSizes(ctx context.Context) error {
	err := s.readLIST(ctx, s.setSize)
	if isServerError(err) {
		s.log.Warn("no scan listing", "err", err)
		return nil
	}
	return err
}

// setSize is the callback of readLIST that fills the table.
func (s *session) setSize(number int, size int64) {
	i, found := s.t.find(number)
	if !found {
		s.unlisted = append(s.unlisted, pop3.Entry{Number: number, Size: size})
		return
	}
	e := s.t.at(i)
	if e.size >= 0 && e.size != size {
		s.log.Warn("message listed with two sizes", "number", number)
		size = -1
	}
	e.size = size
}

var errNoUID = errors.New("the server lists no unique-id for it")

// readLines reads a listing that has malformed lines, and calls each for every other line. each reports whether the rest of the
// line is well formed.
func (s *session) readLines(ctx context.Context, command string, each func(number int, rest []byte) bool) error {
	m, err := s.c.CmdMultiline(ctx, command)
	if err != nil {
		return err
	}
	defer m.Close()
	r := bufio.NewReaderSize(m, maxListingLine)
	malformed := 0
	for {
		line, err := r.ReadSlice('\n')
		tooLong := false
		for err == bufio.ErrBufferFull {
			tooLong = true
			_, err = r.ReadSlice('\n')
		}
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil && err != io.EOF {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		number, rest, ok := cutNumber(line)
		if tooLong || !ok || !each(number, rest) {
			if malformed++; malformed <= maxQuoted {
				s.log.Warn("malformed line in a listing", "command", command, "line", fmt.Sprintf("%+q", line[:min(len(line), 100)]))
			}
		}
	}
	return nil
}

// cutNumber returns the message number at the beginning of a line, and the text after it.
func cutNumber(line []byte) (number int, rest []byte, ok bool) {
	digits := line
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		digits = line[:i]
		rest = bytes.TrimLeft(line[i:], " \t")
	}
	number, err := strconv.Atoi(string(digits))
	return number, rest, err == nil && number > 0 && digits[0] != '+'
}

func hasControl(b []byte) bool {
	return bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// isMalformed reports whether err is a malformed line in a listing.
func isMalformed(err error) bool {
	var protocol *pop3.ProtocolError
	return errors.As(err, &protocol)
}

func isServerError(err error) bool {
	var refusal *pop3.ServerError
	return errors.As(err, &refusal)
}
