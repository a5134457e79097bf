package pop3test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Script is a transcript that the server's side of a connection follows, byte for byte. Create one with ParseScript
// or LoadScript; a copy may have other options. It may be played any number of times, also concurrently.
type Script struct {
	// Dribble sends one byte per write instead of one line.
	Dribble bool

	// Cut is the number of bytes after which the connection ends, whatever the transcript contains. If negative, as set
	// by ParseScript, the connection is not cut.
	Cut int

	// Reset resets a TCP connection (RST) at Cut instead of closing it.
	Reset bool

	// TLS is the server's TLS configuration for !tls. It may be nil. If it has no certificate, the package's
	// certificate is used: see [TLSConfig]. All plays share it, so that a client with a ClientSessionCache resumes its
	// TLS sessions.
	TLS *tls.Config

	tls   *serverTLS
	name  string
	lines int // in the transcript
	steps []step
}

// A step is one line of a transcript.
type step struct {
	line  int // in the transcript, from 1
	do    action
	text  string        // what the server sends, or the client must
	times int           // of repeat
	wait  time.Duration // of wait
}

type action int

const (
	send action = iota
	repeat
	receive
	receivePrefix
	handshake
	wait
	closeConn
	resetConn
	stall
	expectClose
)

// last reports whether nothing may follow the action.
func (a action) last() bool { return a >= closeConn }

// ParseScript parses a transcript. Every line is one step; blanks before it are ignored, blanks at its end are part of
// it:
//
//	S: text         the server sends text and CRLF
//	S- text         the server sends text alone
//	C: text         the client must send text and CRLF, exactly
//	C* text         the client must send a line that begins with text
//	!tls            TLS handshake
//	!repeat N text  the server sends text and CRLF N times
//	!wait 5s        time passes
//	!close          the server closes the connection
//	!reset          the server resets the connection
//	!stall          the server does nothing more until the client closes the connection
//	!expect-close   the client must close the connection here, or during
//	                the line before this one
//	# text          a comment
//
// A text may contain the escapes \r, \n, \t, \0, \\ and \xNN. After the last line the client may close the connection,
// but must not send anything.
func ParseScript(transcript string) (*Script, error) {
	return parse("transcript", transcript)
}

// LoadScript parses the transcript in a file. It fails the test if it cannot.
func LoadScript(t testing.TB, file string) *Script {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse(file, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parse(name, transcript string) (*Script, error) {
	s := &Script{Cut: -1, name: name, tls: new(serverTLS)}
	total := 0
	for line := range strings.SplitSeq(transcript, "\n") {
		s.lines++
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		st, err := parseStep(line)
		if err == nil && len(s.steps) > 0 && s.steps[len(s.steps)-1].do.last() {
			err = errors.New("nothing can follow the end")
		}
		if err == nil && len(st.text) > 0 && st.times > (math.MaxInt-total)/len(st.text) {
			err = errors.New("too many octets")
		}
		if err != nil {
			return nil, fmt.Errorf("pop3test: %s:%d: %w: %q", name, s.lines, err, line)
		}
		st.line = s.lines
		total += st.octets()
		s.steps = append(s.steps, st)
	}
	return s, nil
}

func parseStep(line string) (step, error) {
	word, text, _ := strings.Cut(line, " ")
	st := step{times: 1}
	var err error
	switch word {
	case "S:":
		st.do = send
		st.text, err = unescape(text)
		st.text += "\r\n"
	case "S-":
		st.do = send
		st.text, err = unescape(text)
	case "C:":
		st.do = receive
		st.text, err = unescape(text)
	case "C*":
		st.do = receivePrefix
		st.text, err = unescape(text)
	case "!repeat":
		st.do = repeat
		times, text, _ := strings.Cut(text, " ")
		if st.times, err = strconv.Atoi(times); err == nil && st.times < 0 {
			err = errors.New("a negative number")
		}
		if err == nil {
			st.text, err = unescape(text)
		}
		st.text += "\r\n"
	case "!wait":
		st.do = wait
		st.wait, err = time.ParseDuration(text)
	default:
		var ok bool
		if st.do, ok = directives[line]; !ok {
			err = errors.New("not a line of a transcript")
		}
	}
	return st, err
}

var directives = map[string]action{
	"!tls":          handshake,
	"!close":        closeConn,
	"!reset":        resetConn,
	"!stall":        stall,
	"!expect-close": expectClose,
}

// unescape replaces \r, \n, \t, \0, \\ and \xNN.
func unescape(text string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, `\`)
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if after == "" {
			return "", errors.New("a lone backslash at the end")
		}
		switch after[0] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if len(after) < 3 {
				return "", errors.New(`\x without two digits`)
			}
			octet, err := strconv.ParseUint(after[1:3], 16, 8)
			if err != nil {
				return "", errors.New(`\x without two digits`)
			}
			b.WriteByte(byte(octet))
			after = after[2:]
		default:
			return "", fmt.Errorf(`unknown escape \%c`, after[0])
		}
		text = after[1:]
	}
}

// octets returns the number of bytes that the server sends in the step.
func (st *step) octets() int {
	if st.do == send || st.do == repeat {
		return len(st.text) * st.times
	}
	return 0
}

// Octets returns the total number of bytes that the server sends, not counting the overhead of TLS. A thorough test
// plays the script with every Cut from 0 to Octets.
func (s *Script) Octets() int {
	total := 0
	for i := range s.steps {
		total += s.steps[i].octets()
	}
	return total
}
