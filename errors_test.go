package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

func TestServerError(t *testing.T) {
	for _, test := range []struct {
		text      string
		code      ResponseCode
		rest      string
		temporary bool
	}{
		{"", "", "", false},
		{"no such message", "", "no such message", false},
		{"[IN-USE] locked", CodeInUse, "locked", true},
		{"[in-use]locked", CodeInUse, "locked", true},
		{"[LOGIN-DELAY]", CodeLoginDelay, "", true},
		{"[SYS/TEMP] disk full", CodeSysTemp, "disk full", true},
		{"[SYS/PERM] no", CodeSysPerm, "no", false},
		{"[AUTH]  wrong", CodeAuth, "wrong", false},
		{"[UTF8] use UTF8", CodeUTF8, "use UTF8", false},
		{"[X-NEW/SUB] a [b]", "X-NEW/SUB", "a [b]", false},
		{"[not a code] x", "", "[not a code] x", false},
		{"[] x", "", "[] x", false},
		{"[IN-USE", "", "[IN-USE", false},
		{"IN-USE] x", "", "IN-USE] x", false},
		{"x [IN-USE]", "", "x [IN-USE]", false},
	} {
		e := serverError("DELE 1", test.text)
		if e.Code != test.code || e.Text != test.rest || e.Temporary() != test.temporary || e.Command != "DELE 1" {
			t.Errorf("serverError(%q) = %+v, temporary: %v", test.text, e, e.Temporary())
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&ServerError{}, "pop3: server says -ERR"},
		{&ServerError{Command: "DELE 1", Text: "gone"}, "pop3: DELE 1: server says -ERR gone"},
		{&ServerError{Command: "PASS ****", Code: "AUTH", Text: "no"}, "pop3: PASS ****: server says -ERR [AUTH] no"},
		{&ServerError{Command: "AUTH XOAUTH2", Challenge: "{}"}, "pop3: AUTH XOAUTH2: server says -ERR ({})"},
		{&ServerError{Command: "X", Code: "\x1b]", Text: "a\r\nb\x1b[2J\u009b\u202e\x9b ä"}, `pop3: X: server says -ERR [\x1b]] a\r\nb\x1b[2J\u009b\u202e\ufffd ä`},
		{&ProtocolError{Command: "STAT", Line: "two\x00", Reason: "not a count and a size"}, `pop3: STAT: not a count and a size: "two\x00"`},
		{&ProtocolError{Reason: "bad"}, "pop3: bad"},
		{ErrClosed, "pop3: closed"},
		{closed(&ProtocolError{Reason: "bad"}), "pop3: session closed: bad"},
		{&lostError{"NOOP", "", io.EOF}, "pop3: NOOP: connection closed by the server"},
		{&lostError{"NOOP", "-ERR \x07", errors.New("reset")}, `pop3: NOOP: connection lost: reset; its last words: "-ERR \a"`},
		{&timeoutError{"NOOP", "bye"}, `pop3: NOOP: timed out waiting for the server; its last words: "bye"`},
		{&lostError{"NOOP", "", errors.New("x509: not valid for \x1b[2J\n")}, `pop3: NOOP: connection lost: x509: not valid for \x1b[2J\n`},
		{&busyError{"DELE 3", "RETR 7", "read it to EOF or Close it"}, "pop3: DELE 3: RETR 7 is still open (read it to EOF or Close it)"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%T: %q, want %q", test.err, got, test.want)
		}
	}
}

// TestErrorIs has every error also within another, and as the cause of a session's end.
// What a caller puts into a command does not get raw into a text either.
func TestCommandsAreShownEscaped(t *testing.T) {
	c := dialogue(t, nil, "\nC: USER a\x1b[2J\nS: -ERR no")
	err := c.User(background, "a\x1b[2J")
	for _, err := range []error{err, &ProtocolError{Command: "\x1b"}, &lostError{"\x1b", "", io.EOF}, &timeoutError{"\x1b", ""}, &busyError{"\x1b", "\x1b", ""}} {
		if strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q", err)
		}
	}
}

func TestErrorIs(t *testing.T) {
	reset := errors.New("reset")
	for _, test := range []struct {
		err    error
		is, no []error
	}{
		{ErrClosed, []error{ErrClosed, net.ErrClosed}, []error{io.EOF, io.ErrUnexpectedEOF, ErrBusy}},
		{&lostError{"", "", io.EOF}, []error{io.ErrUnexpectedEOF}, []error{io.EOF}},
		{&lostError{"", "", fmt.Errorf("TLS handshake: %w", io.EOF)}, []error{io.ErrUnexpectedEOF}, []error{io.EOF}},
		{&lostError{"", "", reset}, []error{io.ErrUnexpectedEOF, reset}, []error{io.EOF, os.ErrDeadlineExceeded}},
		{&timeoutError{}, []error{os.ErrDeadlineExceeded}, []error{io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded}},
		{&busyError{}, []error{ErrBusy}, []error{io.EOF}},
	} {
		for _, err := range []error{test.err, fmt.Errorf("mail: %w", test.err), errors.Join(io.ErrShortWrite, test.err), closed(test.err)} {
			for _, target := range test.is {
				if !errors.Is(err, target) {
					t.Errorf("%q is not %q", err, target)
				}
			}
			for _, target := range test.no {
				if errors.Is(err, target) {
					t.Errorf("%q is %q", err, target)
				}
			}
		}
	}
	for _, err := range []error{closed(reset), closed(closed(reset))} {
		wantError(t, err, ErrClosed, net.ErrClosed, reset)
	}
	var timed net.Error
	if err := closed(&timeoutError{}); !errors.As(err, &timed) || !timed.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
	if errors.As(closed(reset), &timed) {
		t.Error("a reset is a timeout")
	}
}

func TestQuote(t *testing.T) {
	for _, n := range []int{0, 1, maxQuote, maxQuote + 1, 1 << 20} {
		got := quote([]byte(strings.Repeat("x", n)))
		if len(got) > maxQuote+3 || n <= maxQuote && len(got) != n || n > maxQuote && !strings.HasSuffix(got, "x...") {
			t.Errorf("%d octets are quoted as %q", n, got)
		}
	}
}
