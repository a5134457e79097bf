package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
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
		{"[IN-USE/POP3] locked", "IN-USE/POP3", "locked", true},
		{"[login-delay/300] wait", "LOGIN-DELAY/300", "wait", true},
		{"[SYS/TEMP/DISK] full", "SYS/TEMP/DISK", "full", true},
		{"[SYS/TEMPORAL] x", "SYS/TEMPORAL", "x", false},
		{"[IN-USED] x", "IN-USED", "x", false},
		{"[SYS] x", "SYS", "x", false},
		{"[SYS/PERM/TEMP] x", "SYS/PERM/TEMP", "x", false},
		{"[not a code] x", "", "[not a code] x", false},
		{"[] x", "", "[] x", false},
		{"[IN-USE", "", "[IN-USE", false},
		{"IN-USE] x", "", "IN-USE] x", false},
		{"x [IN-USE]", "", "x [IN-USE]", false},
	} {
		e := serverError("DELE 1", test.text)
		if e.Code != test.code || e.Text != test.rest || e.Temporary() != test.temporary || e.Command != "DELE 1" || e.Number != 1 {
			t.Errorf("serverError(%q) = %+v, temporary: %v", test.text, e, e.Temporary())
		}
	}
}

func TestServerErrorNumber(t *testing.T) {
	for command, want := range map[string]int{
		"RETR 7": 7, "TOP 12 0": 12, "DELE 3": 3, "LIST 4": 4, "UIDL 5": 5, "dele 6": 6,
		"LIST": 0, "STAT": 0, "USER 7": 0, "APOP 7 ****": 0, "greeting": 0, "": 0, "DELE": 0, "DELE x": 0, "DELE -1": 0,
		"DELE 99999999999999999999": 0, "XTND 3": 0,
	} {
		if got := serverError(command, "").Number; got != want {
			t.Errorf("%q is about message %d, want %d", command, got, want)
		}
	}
}

func TestResponseCodeIs(t *testing.T) {
	for _, test := range []struct {
		code, parent ResponseCode
		want         bool
	}{
		{CodeInUse, CodeInUse, true},
		{"IN-USE/OTHER", CodeInUse, true},
		{"IN-USE/A/B", "IN-USE/A", true},
		{"in-use/other", CodeInUse, true},
		{CodeSysTemp, "SYS", true},
		{"SYS/TEMP/", CodeSysTemp, true},
		{CodeInUse, "IN-USE/OTHER", false},
		{"IN-USED", CodeInUse, false},
		{"IN-USED/X", CodeInUse, false},
		{"SYS", CodeSysTemp, false},
		{CodeSysPerm, CodeSysTemp, false},
		{"", CodeInUse, false},
		{"", "", true},
		{CodeInUse, "", false},
		{"/X", "", false},
	} {
		if got := test.code.Is(test.parent); got != test.want {
			t.Errorf("%q.Is(%q) = %v", test.code, test.parent, got)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{ErrInsecureLogin, "pop3: connection is not encrypted"},
		{ErrTLSNotSupported, "pop3: server does not support STLS"},
		{ErrLineTooLong, "pop3: line too long"},
		{ErrTooManyEntries, "pop3: too many entries"},
		{ErrBusy, "pop3: session busy"},
		{ErrClosed, "pop3: closed"},
		{ErrNotSent, "pop3: not sent"},
		{&ServerError{}, "pop3: -ERR"},
		{&ServerError{Command: "greeting", Text: "too many"}, "pop3: greeting: -ERR too many"},
		{&ServerError{Command: "DELE 1", Code: "SYS/TEMP", Text: "gone"}, "pop3: DELE 1: -ERR [SYS/TEMP] gone"},
		{&ServerError{Command: "PASS ****", Code: "AUTH", Text: "no"}, "pop3: PASS ****: -ERR [AUTH] no"},
		{&ServerError{Command: "AUTH XOAUTH2", Detail: "{}"}, "pop3: AUTH XOAUTH2: -ERR ({})"},
		{&ServerError{Command: "X", Code: "\x1b]", Text: "a\r\nb\x1b[2J\u009b\u202e\x9b ä"}, `pop3: X: -ERR [\x1b]] a\r\nb\x1b[2J\u009b\u202e\ufffd ä`},
		{&ProtocolError{Command: "STAT", Line: "two\x00", Reason: "invalid message count or size"}, `pop3: STAT: invalid message count or size: "two\x00"`},
		{&ProtocolError{Reason: "bad"}, "pop3: bad"},
		{closed(&ProtocolError{Reason: "bad"}), "pop3: session closed: bad"},
		{closed(closed(errors.New("bad"))), "pop3: session closed: bad"},
		{&lostError{"NOOP", "", io.EOF}, "pop3: NOOP: connection closed by server"},
		{&lostError{"NOOP", "-ERR bye", io.EOF}, `pop3: NOOP: connection closed by server after "-ERR bye"`},
		{&lostError{"NOOP", "-ERR \x07", errors.New("reset")}, `pop3: NOOP: connection lost after "-ERR \a": reset`},
		{&lostError{"NOOP", "", errors.New("x509: not valid for \x1b[2J\n")}, `pop3: NOOP: connection lost: x509: not valid for \x1b[2J\n`},
		{&timeoutError{"NOOP", ""}, "pop3: NOOP: timed out waiting for the server"},
		{&timeoutError{"NOOP", "bye"}, `pop3: NOOP: timed out waiting for the server after "bye"`},
		{&busyError{"DELE 3", "RETR 7", "read it to EOF or Close it"}, "pop3: DELE 3: RETR 7 is still open (read it to EOF or Close it)"},
		{notSent("DELE 3", context.Canceled), "pop3: DELE 3: not sent: context canceled"},
		{notSent("DELE 3", closed(nil)), "pop3: DELE 3: not sent: closed"},
		{notSent("DELE 3", closed(&timeoutError{"NOOP", ""})), "pop3: DELE 3: not sent: session closed: NOOP: timed out waiting for the server"},
		{invalidArgument("RETR 0", invalidNumber(0)), "pop3: RETR 0: invalid message number 0"},
		{commandFailed("CAPA", ErrLineTooLong), "pop3: CAPA: line too long"},
		{errTooManyEntries(2, "entries"), "pop3: more than 2 entries"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%T: %q, want %q", test.err, got, test.want)
		}
	}
}

// Arguments from the caller are escaped in error texts too.
func TestCommandsAreShownEscaped(t *testing.T) {
	c := dialogue(t, nil, "\nC: USER a\x1b[2J\nS: -ERR no")
	err := c.User(background, "a\x1b[2J")
	for _, err := range []error{
		err, &ProtocolError{Command: "\x1b"}, &lostError{"\x1b", "", io.EOF}, &timeoutError{"\x1b", ""}, &busyError{"\x1b", "\x1b", ""},
		notSent("\x1b", context.Canceled), invalidArgument("\x1b", ""), commandFailed("\x1b", errors.New("\x1b")),
	} {
		if strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q", err)
		}
	}
}

// TestErrorIs has every error also within another, and as the cause of a session's end.
func TestErrorIs(t *testing.T) {
	reset := errors.New("reset")
	for _, test := range []struct {
		err    error
		is, no []error
	}{
		{ErrClosed, []error{ErrClosed, net.ErrClosed}, []error{io.EOF, io.ErrUnexpectedEOF, ErrBusy, ErrNotSent}},
		{&lostError{"", "", io.EOF}, []error{io.ErrUnexpectedEOF}, []error{io.EOF, ErrNotSent}},
		{&lostError{"", "", fmt.Errorf("TLS handshake: %w", io.EOF)}, []error{io.ErrUnexpectedEOF}, []error{io.EOF}},
		{&lostError{"", "", reset}, []error{io.ErrUnexpectedEOF, reset}, []error{io.EOF, os.ErrDeadlineExceeded}},
		{&timeoutError{}, []error{os.ErrDeadlineExceeded}, []error{io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, ErrNotSent}},
		{&busyError{}, []error{ErrBusy, ErrNotSent}, []error{io.EOF}},
		{commandFailed("X", ErrLineTooLong), []error{ErrLineTooLong}, []error{ErrTooManyEntries, ErrNotSent}},
		{errTooManyEntries(1, "entries"), []error{ErrTooManyEntries}, []error{ErrLineTooLong, ErrNotSent}},
		{notSent("X", context.Canceled), []error{ErrNotSent, context.Canceled}, []error{context.DeadlineExceeded, ErrBusy}},
		{notSent("X", closed(reset)), []error{ErrNotSent, ErrClosed, net.ErrClosed, reset}, []error{io.EOF}},
		{notSent("X", ErrInsecureLogin), []error{ErrNotSent, ErrInsecureLogin}, []error{ErrTLSNotSupported}},
		{invalidArgument("X", "y"), []error{ErrNotSent}, []error{ErrBusy, ErrClosed}},
	} {
		for _, err := range []error{test.err, fmt.Errorf("mail: %w", test.err), errors.Join(io.ErrShortWrite, test.err), closed(test.err)} {
			for _, target := range test.is {
				if !errors.Is(err, target) {
					t.Errorf("%q is not %q", err, target)
				}
			}
			for _, target := range test.no {
				if _, isClosed := err.(closedError); isClosed && target == ErrClosed {
					continue
				}
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

// TestNotSent has a session that is closed before a command, and one that is closed after the command was written.
func TestNotSent(t *testing.T) {
	calls := map[string]func(ctx context.Context, c *Client) error{
		"Noop":  func(ctx context.Context, c *Client) error { return c.Noop(ctx) },
		"User":  func(ctx context.Context, c *Client) error { return c.User(ctx, "u") },
		"Pass":  func(ctx context.Context, c *Client) error { return c.Pass(ctx, "p") },
		"Login": func(ctx context.Context, c *Client) error { return c.Login(ctx, "u", "p") },
		"Auth":  func(ctx context.Context, c *Client) error { return c.Auth(ctx, XOAUTH2("u", "t")) },
		"Cmd":   func(ctx context.Context, c *Client) error { _, err := c.Cmd(ctx, "PASS", "p"); return err },
		"Size":  func(ctx context.Context, c *Client) error { _, err := c.Size(ctx, 1); return err },
		"Retr":  func(ctx context.Context, c *Client) error { _, err := c.Retr(ctx, 1); return err },
		"List":  func(ctx context.Context, c *Client) error { _, err := c.List(ctx); return err },
		"Langs": func(ctx context.Context, c *Client) error { _, err := c.Langs(ctx); return err },
		"Capabilities": func(ctx context.Context, c *Client) error {
			_, err := c.Capabilities(ctx)
			return err
		},
		"StartTLS": func(ctx context.Context, c *Client) error { return c.StartTLS(ctx, nil) },
		"DeleAll":  func(ctx context.Context, c *Client) error { return c.DeleAll(ctx, []int{1}) },
		"Quit":     func(ctx context.Context, c *Client) error { return c.Quit(ctx) },
	}
	for name, call := range calls {
		t.Run(name+"/closed", func(t *testing.T) {
			c := dialogue(t, &Options{AllowInsecureLogin: true}, "\n!expect-close")
			must(t, c.Close())
			wantError(t, call(background, c), ErrNotSent, ErrClosed, net.ErrClosed)
		})
		t.Run(name+"/closed by the server", func(t *testing.T) {
			c := dialogue(t, &Options{AllowInsecureLogin: true}, "\nC: NOOP\n!close")
			wantError(t, c.Noop(background), io.ErrUnexpectedEOF)
			wantError(t, call(background, c), ErrNotSent, ErrClosed, io.ErrUnexpectedEOF)
		})
		t.Run(name+"/in flight", func(t *testing.T) {
			c := dialogue(t, &Options{AllowInsecureLogin: true, TLSConfig: pop3test.TLSConfig()}, "\nC* \n!close")
			if err := call(background, c); err == nil || errors.Is(err, ErrNotSent) {
				t.Errorf("error %v, want none that is ErrNotSent", err)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for _, n := range []int{0, 1, maxQuote, maxQuote + 1, 1 << 20} {
		got := quote([]byte(strings.Repeat("x", n)))
		if len(got) > maxQuote+3 || n <= maxQuote && len(got) != n || n > maxQuote && !strings.HasSuffix(got, "x...") {
			t.Errorf("%d bytes are quoted as %q", n, got)
		}
	}
}

// TestErrorsNameTheCommand has each command of a longer exchange fail in each way. The error names the command and, in
// a batch, the message.
func TestErrorsNameTheCommand(t *testing.T) {
	const capa = "\nC: CAPA\nS: +OK\nS: "
	login := func(c *Client) error { return c.Login(background, "u", "p4ssw0rd") }
	startTLS := func(c *Client) error { return c.StartTLS(background, nil) }
	all := func(seq iter.Seq2[*Message, error]) error {
		for m, err := range seq {
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, m); err != nil && !isServerError(err) {
				return err
			}
		}
		return nil
	}
	retrAll := func(c *Client) error { return all(c.RetrAll(background, []int{1, 2, 3})) }
	breakOut := func(c *Client) error {
		for range c.RetrAll(background, []int{1, 2, 3}) {
			break
		}
		return errors.Unwrap(errors.Unwrap(c.Noop(background))) // not sent: closed: the cause
	}
	for _, test := range []struct {
		command string
		before  string // up to the command
		do      func(c *Client) error
	}{
		{"CAPA", "\nC: CAPA", login},
		{"APOP u ****", " <1@2>\nC: CAPA\nS: -ERR\nC* APOP u ", login},
		{"STLS", capa + "STLS\nS: .\nC: STLS", login},
		{"CAPA", capa + "STLS\nS: .\nC: STLS\nS: +OK\n!tls\nC: CAPA", login},
		{"USER u", "\nC: CAPA\nS: -ERR\nC: USER u", login},
		{"PASS ****", "\nC: CAPA\nS: -ERR\nC: USER u\nS: +OK\nC: PASS p4ssw0rd", login},
		{"AUTH PLAIN", capa + "SASL PLAIN\nS: .\nC: AUTH PLAIN " + in64("\x00u\x00p4ssw0rd"), login},
		{"CAPA", "\nC: CAPA", startTLS},
		{"STLS", capa + "STLS\nS: .\nC: STLS", startTLS},
		{"AUTH X", "\nC: AUTH X", func(c *Client) error { return c.Auth(background, &mechanism{name: "X"}) }},
		{"AUTH X", "\nC: AUTH X\nS: + YQ==\nC: Yg==", func(c *Client) error {
			return c.Auth(background, &mechanism{name: "X", responses: []string{"b"}})
		}},
		{"CAPA", "\nC: CAPA", func(c *Client) error { _, err := c.Capabilities(background); return err }},
		{"LANG", "\nC: LANG", func(c *Client) error { _, err := c.Langs(background); return err }},
		{"USER u", "\nC: USER u", func(c *Client) error { return c.User(background, "u") }},
		{"PASS ****", "\nC: PASS p4ssw0rd", func(c *Client) error { return c.Pass(background, "p4ssw0rd") }},
		{"LIST 2", "\nC: LIST 2", func(c *Client) error { _, err := c.Size(background, 2); return err }},
		{"LIST", "\nC: LIST", func(c *Client) error { _, err := c.List(background); return err }},
		{"TOP 2 0", "\nC: TOP 2 0", func(c *Client) error { _, err := c.Top(background, 2, 0); return err }},
		{"XA b", "\nC: XA b", func(c *Client) error { _, err := c.Cmd(background, "XA", "b"); return err }},
		{"QUIT", "\nC: QUIT", func(c *Client) error { return c.Quit(background) }},
		{"CAPA", "\nC: CAPA", retrAll},
		{"RETR 1", "\nC: CAPA\nS: -ERR\nC: RETR 1", retrAll},
		{"RETR 2", "\nC: CAPA\nS: -ERR\nC: RETR 1\nS: -ERR\nC: RETR 2", retrAll},
		{"RETR 2", "\nC: CAPA\nS: -ERR\nC: RETR 1\nS: +OK\nS: .\nC: RETR 2", retrAll},
		{"RETR 2", capa + "PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nC: RETR 3\nS: +OK\nS: .", retrAll},
		{"RETR 3", capa + "PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nC: RETR 3\nS: +OK\nS: .\nS: -ERR", retrAll},
		{"RETR 2", capa + "PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nC: RETR 3\nS: +OK\nS: .", breakOut},
		{"TOP 1 5", "\nC: CAPA\nS: -ERR\nC: TOP 1 5", func(c *Client) error { return all(c.TopAll(background, []int{1}, 5)) }},
		{"DELE 2", "\nC: CAPA\nS: -ERR\nC: DELE 1\nS: +OK\nC: DELE 2", func(c *Client) error { return c.DeleAll(background, []int{1, 2}) }},
		{"DELE 2", capa + "PIPELINING\nS: .\nC: DELE 1\nC: DELE 2\nS: +OK", func(c *Client) error { return c.DeleAll(background, []int{1, 2}) }},
	} {
		for how, answer := range map[string]string{
			"cut":       "!close",
			"silence":   "!stall",
			"no status": "S: hello\n!expect-close",
			"bare LF":   `S- +OK\n` + "\n!expect-close",
			"too long":  "S: +OK " + strings.Repeat("x", 16384) + "\n!expect-close",
			"too much":  "S- +OK " + strings.Repeat("x", 17000) + "\n!stall",
		} {
			t.Run(test.command+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := script(t, Options{AllowInsecureLogin: true, Timeout: time.Minute}, "S: +OK"+test.before+"\n"+answer)
					checkNamed(t, test.do(c), test.command)
				})
			})
		}
	}
	lists := func(c *Client) error { _, err := c.Langs(background); return err }
	reads := func(c *Client) error {
		m, err := c.Retr(background, 1)
		must(t, err)
		_, err = io.Copy(io.Discard, m)
		return err
	}
	for _, test := range []struct {
		command, transcript string
		do                  func(c *Client) error
	}{
		{"CAPA", capa + "A\nS- B\n!close", login},
		{"CAPA", capa + "A\nS- B\n!stall", startTLS},
		{"CAPA", capa + strings.Repeat("x", 17000) + "\n!expect-close", retrAll},
		{"CAPA", capa + "A\n!repeat 2000 A\n!expect-close", login},
		{"LANG", "\nC: LANG\nS: +OK\n!repeat 2000 en x\n!expect-close", lists},
		{"RETR 1", "\nC: RETR 1\nS: +OK\nS: x\n!close", reads},
		{"RETR 1", "\nC: RETR 1\nS: +OK\nS: x\n!stall", reads},
		{"RETR 2", "\nC: CAPA\nS: -ERR\nC: RETR 1\nS: +OK\nS: .\nC: RETR 2\nS: +OK\nS: x\n!close", retrAll},
		{"RETR 2", capa + "PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nC: RETR 3\nS: +OK\nS: .\nS: +OK\nS: x\n!stall", retrAll},
		{"RETR 2", capa + "PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nC: RETR 3\nS: +OK\nS: .\nS: +OK\nS: x\n!close", breakOut},
	} {
		t.Run(test.command+" "+test.transcript[max(0, len(test.transcript)-20):], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := script(t, Options{AllowInsecureLogin: true, Timeout: time.Minute}, "S: +OK"+test.transcript)
				checkNamed(t, test.do(c), test.command)
			})
		})
	}
	for how, answer := range map[string]string{
		"refused": "S: -ERR no", "cut": "!close", "silence": "!stall", "no status": "S: hello", "too long": "S- " + strings.Repeat("x", 17000), "bare LF": `S- +OK\n`,
	} {
		t.Run("greeting "+how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := NewClient(background, pop3test.Play(t, answer), nil)
				checkNamed(t, err, "greeting")
			})
		})
	}
}

// checkNamed checks that the error names the command exactly once.
func checkNamed(t *testing.T, err error, command string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "pop3: "+command+": ") || strings.Count(err.Error(), "pop3:") != 1 {
		t.Errorf("error %.200q, want one of %s", fmt.Sprint(err), command)
	}
	if protocol := new(ProtocolError); errors.As(err, &protocol) && protocol.Command != command {
		t.Errorf("protocol error of %q, want %q", protocol.Command, command)
	}
	if refused := new(ServerError); errors.As(err, &refused) && refused.Command != command {
		t.Errorf("server error of %q, want %q", refused.Command, command)
	}
}

// The error of a context that is done names the command in flight.
func TestContextNamesTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		c := dialogue(t, &Options{AllowInsecureLogin: true}, "\nC: CAPA\nS: -ERR\nC: USER u\nS: +OK\nC: PASS p\n!stall")
		err := c.Login(ctx, "u", "p")
		wantError(t, err, context.DeadlineExceeded)
		checkNamed(t, err, "PASS ****")
	})
}
