package boltstore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// maxLine limits a line of a state file. A longer one is an error.
const maxLine = 1 << 20

// A ForeignEntry is one message that another program has fetched.
type ForeignEntry struct {
	User string    // login name; empty if the file does not contain it
	Host string    // name of the server; empty if the file does not contain it
	UID  string    // unique-id, as the server sent it
	Time time.Time // when the message was fetched; zero if the file does not contain it
}

// A LineError reports a malformed line of a file.
type LineError struct {
	Line int // counted from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// ReadMpop returns the entries of a UIDLs file of mpop (~/.mpop_uidls/USER_at_HOST), which can hold
// several accounts. The sequence ends at the first error, which names the line.
//
// The file begins with comments. A list begins with " COUNT HOST USER", and COUNT lines follow, each
// of them a unique-id. A unique-id that two messages share is listed twice.
func ReadMpop(r io.Reader) iter.Seq2[ForeignEntry, error] {
	return func(yield func(ForeignEntry, error) bool) {
		var list ForeignEntry
		left := 0        // unique-ids still to come of the current list
		comments := true // until the first line that is not one: a unique-id may begin with #
		lines := newLineReader(r)
		for lines.next() {
			line := lines.text
			if comments && strings.HasPrefix(line, "#") {
				continue
			}
			comments = false
			if left > 0 {
				if line == "" || strings.ContainsRune(line, 0) {
					lines.fail("malformed unique-id %q", clip(line))
					break
				}
				left--
				list.UID = line
				if !yield(list, nil) {
					return
				}
				continue
			}
			var err error
			if list, left, err = parseMpopList(line); err != nil {
				lines.fail("%v", err)
				break
			}
		}
		if lines.err == nil && left > 0 {
			lines.fail("%d unique-ids of %s at %s are missing", left, list.User, list.Host)
		}
		if lines.err != nil {
			yield(ForeignEntry{}, lines.err)
		}
	}
}

// parseMpopList parses " COUNT HOST USER". The user name may contain blanks.
func parseMpopList(line string) (list ForeignEntry, count int, err error) {
	rest, ok := strings.CutPrefix(line, " ")
	if !ok {
		return list, 0, fmt.Errorf("unique-id %q outside a list", clip(line))
	}
	number, rest, _ := strings.Cut(rest, " ")
	count, err = strconv.Atoi(number)
	if err != nil || count < 1 {
		return list, 0, fmt.Errorf("invalid number of unique-ids %q", clip(number))
	}
	list.Host, list.User, _ = strings.Cut(rest, " ")
	if list.Host == "" || list.User == "" {
		return list, 0, errors.New("the list has no host or no user name")
	}
	return list, count, nil
}

// ReadGetmail returns the entries of a state file of getmail or getmail6
// (oldmail-HOST-PORT-USER in its directory). It has one account, which only the name of the file shows.
// The sequence ends at the first error, which names the line.
//
// A line is the unique-id, a NUL, and the time in seconds since 1970.
func ReadGetmail(r io.Reader) iter.Seq2[ForeignEntry, error] {
	return func(yield func(ForeignEntry, error) bool) {
		lines := newLineReader(r)
		for lines.next() {
			if lines.text == "" {
				continue
			}
			uid, seconds, ok := strings.Cut(lines.text, "\x00")
			if !ok {
				lines.fail("no NUL after the unique-id %q", clip(uid))
				break
			}
			n, err := strconv.ParseInt(seconds, 10, 64)
			if err != nil {
				lines.fail("invalid time %q", clip(seconds))
				break
			}
			if uid == "" {
				lines.fail("the unique-id is empty")
				break
			}
			if !yield(ForeignEntry{UID: uid, Time: time.Unix(n, 0)}, nil) {
				return
			}
		}
		if lines.err != nil {
			yield(ForeignEntry{}, lines.err)
		}
	}
}

// ReadFetchmail returns the entries of a state file of fetchmail (~/.fetchids), which can hold
// several accounts. The sequence ends at the first error, which names the line.
//
// A line is USER@HOST, a blank, and the unique-id. USER may contain blanks and @ signs. fetchmail
// cuts a unique-id at the first blank and after 128 bytes, so a message with such a unique-id is
// fetched again.
func ReadFetchmail(r io.Reader) iter.Seq2[ForeignEntry, error] {
	return func(yield func(ForeignEntry, error) bool) {
		lines := newLineReader(r)
		for lines.next() {
			if lines.text == "" {
				continue
			}
			e, err := parseFetchmailLine(lines.text)
			if err != nil {
				lines.fail("%v", err)
				break
			}
			if !yield(e, nil) {
				return
			}
		}
		if lines.err != nil {
			yield(ForeignEntry{}, lines.err)
		}
	}
}

func parseFetchmailLine(line string) (ForeignEntry, error) {
	blank := strings.LastIndexByte(line, ' ')
	if blank < 0 || blank == len(line)-1 {
		return ForeignEntry{}, errors.New("no unique-id after USER@HOST")
	}
	account := line[:blank]
	at := strings.LastIndexByte(account, '@')
	if at < 1 || at == len(account)-1 || strings.ContainsAny(account[at:], " \t") {
		return ForeignEntry{}, fmt.Errorf("%q is not USER@HOST", clip(account))
	}
	if strings.ContainsRune(line, 0) {
		return ForeignEntry{}, errors.New("the line contains a NUL")
	}
	return ForeignEntry{User: account[:at], Host: account[at+1:], UID: line[blank+1:]}, nil
}

// A lineReader reads the lines of a state file, of maxLine bytes at most, each of them terminated.
// The end of a file that was cut would otherwise pass for a shorter unique-id, which could be that of
// another message.
type lineReader struct {
	r    *bufio.Reader
	buf  []byte
	line int
	text string // without the line end
	err  error  // a *LineError, or that of the underlying reader
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{r: bufio.NewReader(r)} }

// next reads a line and reports whether there was one.
func (l *lineReader) next() bool {
	if l.err != nil {
		return false
	}
	l.line++
	l.buf = l.buf[:0]
	for {
		chunk, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, chunk...)
		switch {
		case len(l.buf) > maxLine:
			l.fail("the line is longer than %d bytes", maxLine)
			return false
		case err == nil:
			l.text = string(bytes.TrimSuffix(l.buf[:len(l.buf)-1], []byte("\r")))
			return true
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(l.buf) > 0:
			l.fail("the last line is not terminated: the file seems to be truncated")
			return false
		case err == io.EOF:
			return false
		default:
			l.err = &LineError{Line: l.line, Err: err}
			return false
		}
	}
}

func (l *lineReader) fail(format string, args ...any) {
	l.err = &LineError{Line: l.line, Err: fmt.Errorf(format, args...)}
}

// clip shortens text that an error quotes.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
