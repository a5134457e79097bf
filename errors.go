package pop3

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Errors of the caller's making, or of the connection's end. Compare with errors.Is.
var (
	// ErrInsecureLogin refuses to send a password over a connection that is not encrypted.
	ErrInsecureLogin = errors.New("pop3: no secure way to log in: the connection is not encrypted")

	// ErrTLSNotSupported says that the server does not list STLS.
	ErrTLSNotSupported = errors.New("pop3: the server does not offer STLS")

	// ErrLineTooLong breaks the session: a line passed Options.MaxLineLength, or a listing Options.MaxEntries.
	ErrLineTooLong = errors.New("pop3: line too long")

	// ErrBusy refuses a command because an open response that nobody reads holds the session.
	ErrBusy = errors.New("pop3: session busy")

	// ErrClosed says that the session, or the message, is closed. It is a net.ErrClosed too.
	ErrClosed error = closedError{}
)

// ResponseCode is the extended response code of an -ERR (RFC 2449, section 8), without its brackets.
type ResponseCode string

// The registered response codes.
const (
	CodeInUse      ResponseCode = "IN-USE"      // maildrop locked by another session (RFC 2449)
	CodeLoginDelay ResponseCode = "LOGIN-DELAY" // logged in too recently (RFC 2449)
	CodeSysTemp    ResponseCode = "SYS/TEMP"    // system failure that should pass (RFC 3206)
	CodeSysPerm    ResponseCode = "SYS/PERM"    // system failure that needs an operator (RFC 3206)
	CodeAuth       ResponseCode = "AUTH"        // the credentials are at fault (RFC 3206)
	CodeUTF8       ResponseCode = "UTF8"        // the maildrop or message needs UTF8 mode (RFC 6856)
)

// ServerError is the server's -ERR. The session is in step and stays usable.
type ServerError struct {
	Command   string       // the command refused, never with a secret; "" for a greeting
	Code      ResponseCode // upper-cased, without brackets; "" if there was none
	Text      string       // what follows the code
	Challenge string       // the error challenge of XOAUTH2 and OAUTHBEARER, decoded
}

func (e *ServerError) Error() string {
	var b strings.Builder
	b.WriteString("pop3: ")
	if e.Command != "" {
		b.WriteString(printable(e.Command) + ": ")
	}
	b.WriteString("server says -ERR")
	if e.Code != "" {
		b.WriteString(" [" + printable(string(e.Code)) + "]")
	}
	if e.Text != "" {
		b.WriteString(" " + printable(e.Text))
	}
	if e.Challenge != "" {
		b.WriteString(" (" + printable(e.Challenge) + ")")
	}
	return b.String()
}

// Temporary reports whether the same command may succeed later: IN-USE, LOGIN-DELAY, SYS/TEMP.
func (e *ServerError) Temporary() bool {
	return e.Code == CodeInUse || e.Code == CodeLoginDelay || e.Code == CodeSysTemp
}

// serverError makes a *ServerError of the text behind -ERR, which may begin with a response code.
func serverError(command, text string) *ServerError {
	e := &ServerError{Command: command, Text: text}
	if code, rest, ok := strings.Cut(text, "]"); ok && len(code) > 1 && code[0] == '[' && !strings.ContainsAny(code, " \t") {
		e.Code = ResponseCode(strings.ToUpper(code[1:]))
		e.Text = strings.TrimLeft(rest, " \t")
	}
	return e
}

func isServerError(err error) bool {
	var e *ServerError
	return errors.As(err, &e)
}

// ProtocolError is an answer that is no POP3. Where nobody knows any more where the session stands, it is broken;
// an answer that is in step and only makes no sense leaves it usable.
type ProtocolError struct {
	Command string // the command answered, never with a secret; "connecting" for a greeting
	Line    string // the line at fault, without CRLF, cut to a sensible length
	Reason  string
}

func (e *ProtocolError) Error() string {
	s := "pop3: "
	if e.Command != "" {
		s += printable(e.Command) + ": "
	}
	s += e.Reason
	if e.Line != "" {
		s += `: "` + printable(e.Line) + `"`
	}
	return s
}

// closedError is ErrClosed, with what ended the session where that is known.
type closedError struct{ cause error }

func (e closedError) Error() string {
	if e.cause == nil {
		return "pop3: closed"
	}
	return "pop3: session closed: " + strings.TrimPrefix(e.cause.Error(), "pop3: ")
}

func (e closedError) Is(target error) bool {
	_, closed := target.(closedError)
	return closed || target == net.ErrClosed
}

func (e closedError) Unwrap() error { return e.cause }

// lostError is a connection that ended, or failed, inside a response.
type lostError struct {
	command  string
	lastLine string // what the server had said unasked
	err      error
}

func (e *lostError) Error() string {
	s := "pop3: "
	if e.command != "" {
		s += printable(e.command) + ": "
	}
	if e.err == io.EOF {
		s += "connection closed by the server"
	} else {
		s += "connection lost: " + printable(e.err.Error())
	}
	if e.lastLine != "" {
		s += `; its last words: "` + printable(e.lastLine) + `"`
	}
	return s
}

func (e *lostError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Unwrap hides io.EOF: a cut must never look like an end.
func (e *lostError) Unwrap() error {
	if errors.Is(e.err, io.EOF) { // also one of the TLS handshake
		return nil
	}
	return e.err
}

// escapedError is an error of another package that may quote the server: the names in its certificate, for one.
type escapedError struct{ err error }

func (e escapedError) Error() string { return printable(e.err.Error()) }
func (e escapedError) Unwrap() error { return e.err }

// timeoutError is a server that was silent for Options.Timeout. It is a net.Error.
type timeoutError struct{ command, lastLine string }

func (e *timeoutError) Error() string {
	s := "pop3: "
	if e.command != "" {
		s += printable(e.command) + ": "
	}
	s += "timed out waiting for the server"
	if e.lastLine != "" {
		s += `; its last words: "` + printable(e.lastLine) + `"`
	}
	return s
}

func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Unwrap() error   { return os.ErrDeadlineExceeded }

// busyError is ErrBusy with the names of both commands.
type busyError struct{ command, holder, hint string }

func (e *busyError) Error() string {
	return fmt.Sprintf("pop3: %s: %s is still open (%s)", printable(e.command), printable(e.holder), e.hint)
}

func (e *busyError) Unwrap() error { return ErrBusy }

// printable escapes what does not print, which a server could use to write on a terminal or to forge lines of a log.
func printable(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// An octet that is no UTF-8 may be a control character to a terminal that expects another encoding.
func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// maxQuote bounds what an error quotes of a line.
const maxQuote = 256

func quote(line []byte) string {
	if len(line) > maxQuote {
		return string(line[:maxQuote]) + "..."
	}
	return string(line)
}
