package pop3

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

var statusLine = regexp.MustCompile(`(?s)^(\+OK|-ERR)(?:[ \t]+([^\n]*))?\r\n`)

// FuzzStatusLine checks that a status line is +OK or -ERR in upper case, followed by a blank or the end of the line,
// and ends at the first LF, which must follow a CR.
func FuzzStatusLine(f *testing.F) {
	for _, line := range []string{"+OK ready\r\n", "-ERR [IN-USE] no\r\n", "+OK\r\n", "+OK\n", "+OKAY\r\n", "+ \r\n", "-ERR \t\r\r\n.", "\r\n"} {
		f.Add(line, []byte{0})
	}
	f.Fuzz(func(t *testing.T, line string, pieces []byte) {
		o := (&Options{Timeout: -1, MaxLineLength: 100}).withDefaults()
		c := newConn(&memory{ready: []byte(line), pieces: oracle.Lengths(pieces)}, &o)
		word, text, err := c.status()
		match := statusLine.FindStringSubmatch(line)
		switch {
		case match == nil || len(match[0])-2 > 100:
			if err == nil {
				t.Errorf("%q is taken for %q, %q", line, word, text)
			}
		case err != nil:
			t.Errorf("%q is refused: %v", line, err)
		case word != match[1] || text != match[2]:
			t.Errorf("%q is taken for %q, %q; want %q, %q", line, word, text, match[1], match[2])
		}
	})
}

var (
	entryLine = regexp.MustCompile(`(?s)^[ \t]*([0-9]+)[ \t]+([0-9]+)(?:[ \t]+([^\x00-\x08\x0a-\x1f\x7f]*))?$`)
	uidLine   = regexp.MustCompile(`(?s)^[ \t]*([0-9]+)[ \t]+([^ \t\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^ \x00-\x1f\x7f])?)[ \t]*$`)
)

// listSlowly is the reference: the entries in a multi-line response, and how it ends.
func listSlowly(wire string, line *regexp.Regexp) (entries []string, err error) {
	for {
		text, rest, whole := strings.Cut(wire, "\r\n")
		switch {
		case !whole:
			return entries, io.ErrUnexpectedEOF
		case text == ".":
			return entries, nil
		}
		wire = rest
		if strings.Trim(text, " \t") == "" {
			continue
		}
		match := line.FindStringSubmatch(text)
		if match == nil {
			return entries, errRefusedLine
		}
		number, err := strconv.Atoi(match[1])
		if err != nil || number < 1 {
			return entries, errRefusedLine
		}
		if line == entryLine {
			size, err := strconv.ParseInt(match[2], 10, 64)
			if err != nil {
				return entries, errRefusedLine
			}
			match[2] = strconv.FormatInt(size, 10)
		}
		entries = append(entries, strconv.Itoa(number)+" "+match[2])
	}
}

// checkListing compares a listing with the reference for the same data.
func checkListing(t *testing.T, wire string, pattern *regexp.Regexp, got []string, err error) {
	t.Helper()
	want, wantErr := listSlowly(wire, pattern)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("entries of %q: %q, want %q", wire, got, want)
	}
	if (err == nil) != (wantErr == nil) {
		t.Errorf("listing %q ends with %v, want %v", wire, err, wantErr)
	}
	if wantErr == errRefusedLine {
		wantProtocolError(t, err)
	}
}

func collectList(c *Client) (entries []string, err error) {
	l, err := c.List(background)
	if err != nil {
		return nil, err
	}
	for e := range l.C() {
		entries = append(entries, strconv.Itoa(e.Number)+" "+strconv.FormatInt(e.Size, 10))
	}
	return entries, l.Err()
}

func collectUIDL(c *Client) (entries []string, err error) {
	l, err := c.UIDL(background)
	if err != nil {
		return nil, err
	}
	for u, err := range l.All() {
		if err != nil {
			return entries, err
		}
		entries = append(entries, strconv.Itoa(u.Number)+" "+u.ID)
	}
	return entries, nil
}

// FuzzListing sends arbitrary data as the response to LIST and to UIDL.
func FuzzListing(f *testing.F) {
	for _, wire := range []string{"1 120\r\n2 200 more\r\n.\r\n", "1 a\r\n2  b c\r\n.\r\n", ".\r\n", "1\r\n.\r\n", "0 1\r\n.\r\n", "1 -1\r\n",
		"1 9223372036854775808\r\n.\r\n", "1 1\n2 2\r\n.\r\n", "1 1\r\n..\r\n.\r\n", "1 \x01\r\n", "3 x", "1\t1 \r\n.\r\n",
		"\r\n 1 1\r\n\t\r\n\t2 2\t\r\n\r\n.\r\n", "1 a\t\r\n2 b  \r\n3 c d \r\n4 e\tf\r\n.\r\n"} {
		f.Add(wire, []byte{3})
	}
	f.Fuzz(func(t *testing.T, wire string, pieces []byte) {
		longest := 0
		for line := range strings.SplitSeq(wire, "\r\n") {
			longest = max(longest, len(line))
		}
		if longest > 16384 {
			t.Skip()
		}
		c := connect(t, &Options{Timeout: -1}, &memory{answers: []string{"+OK\r\n", "+OK\r\n" + wire}, pieces: oracle.Lengths(pieces)})
		entries, err := collectList(c)
		checkListing(t, wire, entryLine, entries, err)
		c = connect(t, &Options{Timeout: -1}, &memory{answers: []string{"+OK\r\n", "+OK\r\n" + wire}, pieces: oracle.Lengths(pieces)})
		entries, err = collectUIDL(c)
		checkListing(t, wire, uidLine, entries, err)
	})
}

// FuzzSession is a session with a server that sends arbitrary responses, which are separated by NUL. Nothing panics or
// hangs, and every reported success was one. Then the connection ends at cut, after any byte of any response: the
// results before it are unchanged, and no truncated response looks complete. A step is a letter; see takeStep.
func FuzzSession(f *testing.F) {
	for _, seed := range []struct {
		steps, said string
		pieces      []byte
	}{
		{"lsluraqx", "+OK <1@2>\r\n\x00-ERR\r\n\x00+OK\r\n\x00+OK 2 320\r\n\x00+OK\r\n1 120\r\n.\r\n\x00+OK\r\n1 a\r\n.\r\n\x00+OK\r\nx\r\n.\r\n", []byte{7}},
		{"cpazkgoq", "+OK\r\n\x00+OK\r\nTOP\r\nPIPELINING\r\n.\r\n\x00+ \r\n\x00-ERR [AUTH] x\r\n\x00+OK\r\nen English\r\n.\r\n", []byte{0}},
		{"rrdtSUnbDR", "+OK\r\n\x00+OK\r\n..a\r\n.\r\n\x00-ERR\r\n\x00+OK\r\n\x00+OK\r\n.\r\n\x00+OK 1 7\r\n\x00+OK 1 x\r\n\x00+OK\r\n", []byte{2, 100}},
		{"lurtbq", "+OK\r\n\x00+OK\r\n1 120\r\n2 1\r\n.\r\n\x00+OK\r\n1 a b\r\n2 c\r\n.\r\n\x00+OK\r\nSubject: x\r\n\r\n..\r\n.\r\n\x00+OK\r\nx\r\n\r\n.\r\n" +
			"\x00+OK\r\n1\r\n.\r\n\x00-ERR gone\r\n\x00+OK\r\n3\r\n.\r\n\x00-ERR [SYS/TEMP] kept\r\n", []byte{4}},
		{"cgSUsDq", "+OK\r\n\x00+OK\r\nTOP\r\nSASL A B\r\n.\r\n\x00+OK\r\nen English\r\nde\r\n.\r\n\x00+OK 1 200\r\n\x00+OK 1 abc\r\n\x00+OK 12 340\r\n" +
			"\x00+OK\r\n\x00-ERR\r\n\x00+OK\r\n\x00+OK\r\n", []byte{255}},
	} {
		for cut := 0; cut < len(seed.said); cut += 4 { // TestTranscripts cuts after every byte
			f.Add(seed.steps, seed.said, seed.pieces, uint16(cut))
		}
	}
	f.Fuzz(func(t *testing.T, steps, said string, pieces []byte, cut uint16) {
		steps = steps[:min(len(steps), 20)]
		answers := strings.Split(said, "\x00")
		left := int(cut) % (len(said) + 1)
		short := strings.Split(said[:left], "\x00")
		var whole, arrived []outcome
		synctest.Test(t, func(t *testing.T) { whole = converse(t, steps, answers, pieces) })
		synctest.Test(t, func(t *testing.T) { arrived = converse(t, steps, short, pieces) })
		for i, got := range arrived {
			want := whole[i]
			switch {
			case errors.Is(got.err, io.ErrUnexpectedEOF), errors.Is(got.err, ErrClosed):
				if !strings.HasPrefix(want.data, got.data) {
					t.Errorf("cut at %d, step %c: %q, which is not the begin of %q", left, steps[i], got.data, want.data)
				}
			case got.data != want.data || fmt.Sprint(got.err) != fmt.Sprint(want.err):
				t.Errorf("cut at %d, step %c: %q, %v; want %q, %v, or the loss", left, steps[i], got.data, got.err, want.data, want.err)
			}
		}
	})
}

// An outcome is the result of a step: the data that was read, and the error.
type outcome struct {
	data string
	err  error
}

// converse takes the steps, with a pause before each.
func converse(t *testing.T, steps string, answers []string, pieces []byte) (outcomes []outcome) {
	conn := &memory{answers: answers, pieces: oracle.Lengths(pieces)}
	c, err := NewClient(background, conn, &Options{AllowInsecureLogin: true, NoPipelining: true, Timeout: -1, StallTimeout: -1})
	greeting := statusLine.FindStringSubmatch(answers[0])
	if (err == nil) != (greeting != nil && greeting[1] == "+OK" && len(greeting[0]) <= 16384+2) {
		t.Fatalf("greeting %q: %v", answers[0], err)
	}
	if err != nil {
		return nil
	}
	defer c.Close()
	for _, step := range []byte(steps) {
		before := len(conn.asked)
		c.s.mu.Lock()
		rest := c.s.holder
		c.s.mu.Unlock()
		if rest != nil { // of a listing, which the step would read just before its command, without a pause
			rest.spill()
		}
		c.s.conn.idle = time.Time{}
		data, err := takeStep(t, c, conn, step)
		sent := conn.asked[before:]
		if errors.Is(err, io.EOF) {
			t.Errorf("step %c: error %v is an EOF", step, err)
		}
		if errors.Is(err, ErrClosed) && len(sent) > 0 && step != 'q' && step != 'x' {
			t.Errorf("step %c: closed, but %q was sent", step, sent)
		}
		outcomes = append(outcomes, outcome{data, err})
	}
	return outcomes
}

// ifNil returns got, or nil if there was an error.
func ifNil(err error, got ...any) string {
	if err != nil {
		return ""
	}
	return fmt.Sprint(got...)
}

// takeStep performs one step and compares a success with the response to its last line. Steps that continue the lease
// of the step before are not compared.
func takeStep(t *testing.T, c *Client, conn *memory, step byte) (data string, err error) {
	said := conn.answers // the responses to come
	status := func() []string {
		t.Helper()
		if len(said) == 0 {
			t.Fatalf("step %c: a success without a response", step)
		}
		match := statusLine.FindStringSubmatch(said[0])
		if match == nil || match[1] != "+OK" {
			t.Fatalf("step %c: %q is taken for a success", step, said[0])
		}
		return match
	}
	message := func(m *Message, err error) (string, error) {
		if err != nil {
			return "", err
		}
		got, err := io.ReadAll(m)
		if err == nil {
			text, _, end := oracle.Unstuff(said[0][len(status()[0]):])
			if !end || text != string(got) {
				t.Errorf("message of %q reads %q", said[0], got)
			}
		}
		return string(got), err
	}
	switch step {
	case 's':
		n, size, err := c.Stat(background)
		if err == nil {
			got := strconv.Itoa(n) + " " + strconv.FormatInt(size, 10)
			words := strings.Fields(status()[2])
			for i := range min(2, len(words)) {
				if words[i] = strings.TrimLeft(words[i], "0"); words[i] == "" {
					words[i] = "0"
				}
			}
			if len(words) < 2 || strings.Join(words[:2], " ") != got {
				t.Errorf("STAT %q is taken for %s", said[0], got)
			}
		}
		return ifNil(err, n, size), err
	case 'S':
		size, err := c.Size(background, 1)
		if err == nil && !regexp.MustCompile(`^0*1[ \t]+0*`+strconv.FormatInt(size, 10)+`([ \t]|$)`).MatchString(status()[2]) && size != 0 {
			t.Errorf("LIST 1 %q is taken for %d", said[0], size)
		}
		return ifNil(err, size), err
	case 'U':
		uid, err := c.UID(background, 1)
		if err == nil && (uid == "" || !strings.HasSuffix(status()[2], uid)) {
			t.Errorf("UIDL 1 %q is taken for %q", said[0], uid)
		}
		return uid, err
	case 'l':
		entries, err := collectList(c)
		if err == nil {
			checkListing(t, said[0][len(status()[0]):], entryLine, entries, err)
		}
		return strings.Join(append(entries, ""), "\n"), err
	case 'u':
		entries, err := collectUIDL(c)
		if err == nil {
			checkListing(t, said[0][len(status()[0]):], uidLine, entries, err)
		}
		return strings.Join(append(entries, ""), "\n"), err
	case 'r':
		return message(c.Retr(background, 1))
	case 't':
		return message(c.Top(background, 1, 2))
	case 'k':
		m, err := c.Retr(background, 1)
		if err != nil {
			return "", err
		}
		n, err := m.Read(make([]byte, 3))
		if err == nil || err == io.EOF {
			err = m.Close()
		}
		return strings.Repeat("x", n), err
	case 'd':
		if err = c.Dele(background, 1); err == nil {
			status()
		}
	case 'n':
		if err = c.Noop(background); err == nil {
			status()
		}
	case 'q':
		if err = c.Quit(background); err == nil {
			status()
		}
	case 'c':
		caps, err := c.RefreshCapabilities(background)
		return ifNil(err, caps), err
	case 'g':
		langs, err := c.Langs(background)
		return ifNil(err, langs), err
	case 'p':
		err = c.Login(background, "u", "p")
	case 'a':
		if err = c.Auth(background, XOAUTH2("u", "token")); err == nil {
			last := conn.asked[len(conn.asked)-1]
			if last == "*\r\n" {
				t.Error("AUTH was canceled but succeeded")
			}
		}
	case 'b':
		for m, broke := range c.RetrAll(background, []int{1, 2, 3}) {
			if m == nil {
				t.Fatal("a batch yields no message")
			}
			text, end := io.ReadAll(m)
			if data += string(text); end == nil || isServerError(end) {
				data += fmt.Sprint("end ", end)
			} else {
				err = end
			}
			if broke != nil {
				err = broke
			}
		}
	case 'D':
		err = c.DeleAll(background, []int{1, 2, 3})
	case 'z':
		err = c.StartTLS(background, nil)
	case 'x':
		l, err := c.List(background)
		if err != nil {
			return "", err
		}
		l.Stop()
		return "", c.Noop(background) // which reads the rest
	}
	return data, err
}
