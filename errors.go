package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Errors to be matched with errors.Is.
var (
	// ErrInsecureLogin is returned instead of sending a password over a connection that is not encrypted.
	ErrInsecureLogin = errors.New("pop3: connection is not encrypted")

	// ErrTLSNotSupported is returned if the server does not list STLS.
	ErrTLSNotSupported = errors.New("pop3: server does not support STLS")

	// ErrLineTooLong is returned if a line exceeds Options.MaxLineLength. The session is closed.
	ErrLineTooLong = errors.New("pop3: line too long")

	// ErrTooManyEntries is returned if a listing exceeds Options.MaxEntries. The session is closed.
	ErrTooManyEntries = errors.New("pop3: too many entries")

	// ErrBusy is returned if an open response has not been read for Options.StallTimeout. It also matches ErrNotSent.
	ErrBusy = errors.New("pop3: session busy")

	// ErrClosed is returned if the session, or the message, is closed. It also matches net.ErrClosed.
	ErrClosed error = closedError{}

	// ErrNotSent is matched by the error of a command if no part of the command was written, so that it is safe to
	// repeat: an argument was refused, the password would have been sent without TLS (Pass and Auth), the session was
	// busy, or ctx was done or the session closed while the command was queued.
	ErrNotSent = errors.New("pop3: not sent")
)

// ResponseCode is the extended response code of an -ERR (RFC 2449, section 8), without its brackets.
type ResponseCode string

// The registered response codes.
const (
	CodeInUse      ResponseCode = "IN-USE"      // maildrop locked by another session (RFC 2449)
	CodeLoginDelay ResponseCode = "LOGIN-DELAY" // logged in too recently (RFC 2449)
	CodeSysTemp    ResponseCode = "SYS/TEMP"    // temporary system failure (RFC 3206)
	CodeSysPerm    ResponseCode = "SYS/PERM"    // system failure that needs an operator (RFC 3206)
	CodeAuth       ResponseCode = "AUTH"        // the credentials are at fault (RFC 3206); many servers send no code for that
	CodeUTF8       ResponseCode = "UTF8"        // the maildrop or message needs UTF8 mode (RFC 6856)
)

var registeredCodes = []ResponseCode{CodeInUse, CodeLoginDelay, CodeSysTemp, CodeSysPerm, CodeAuth, CodeUTF8}

// Is reports whether c is parent or a level below it, as "IN-USE/OTHER" is below "IN-USE". A client ignores levels
// that it does not know (RFC 2449, section 8).
func (c ResponseCode) Is(parent ResponseCode) bool {
	n := len(parent)
	return len(c) >= n && strings.EqualFold(string(c[:n]), string(parent)) && (len(c) == n || n > 0 && c[n] == '/')
}

// ServerError is a negative response (-ERR). The session remains usable.
type ServerError struct {
	Command string       // the command refused, without secrets; "greeting" for a greeting
	Number  int          // the message number in the command, or 0
	Code    ResponseCode // upper-cased, without brackets; "" if there was none
	Text    string       // the text after the code
	Detail  string       // the error challenge of XOAUTH2 and OAUTHBEARER, decoded
}

func (e *ServerError) Error() string {
	text := "-ERR"
	if e.Code != "" {
		text += " [" + string(e.Code) + "]"
	}
	if e.Text != "" {
		text += " " + e.Text
	}
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return errorText(e.Command, text)
}

// Temporary reports whether the same command may succeed later: whether Code is IN-USE, LOGIN-DELAY, SYS/TEMP, or a
// level below one of them.
func (e *ServerError) Temporary() bool {
	return e.Code.Is(CodeInUse) || e.Code.Is(CodeLoginDelay) || e.Code.Is(CodeSysTemp)
}

// serverError makes a *ServerError of the text after -ERR, which may begin with a response code.
func serverError(command, text string) *ServerError {
	code, text, _ := cutCode(text)
	return &ServerError{Command: command, Number: messageNumber(command), Code: ResponseCode(strings.ToUpper(code)), Text: text}
}

// cutCode splits the text after -ERR into a response code, without its brackets, and the rest.
func cutCode(text string) (code, rest string, ok bool) {
	code, rest, ok = strings.Cut(text, "]")
	if !ok || len(code) < 2 || code[0] != '[' || strings.ContainsAny(code, blanks) {
		return "", text, false
	}
	return code[1:], strings.TrimLeft(rest, blanks), true
}

// messageNumber returns the number of the message that a command is about, or 0.
func messageNumber(command string) int {
	verb, rest, _ := strings.Cut(command, " ")
	switch strings.ToUpper(verb) {
	case "RETR", "TOP", "DELE", "LIST", "UIDL":
		number, _, _ := strings.Cut(rest, " ")
		if n, err := strconv.Atoi(number); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

func isServerError(err error) bool {
	var e *ServerError
	return errors.As(err, &e)
}

// ProtocolError is a response that violates the protocol. It closes the session if client and server may be out of
// sync; if only the text after +OK is invalid, the session remains usable.
type ProtocolError struct {
	Command string // the command, without secrets; "greeting" for the greeting
	Line    string // the invalid line, without CRLF, possibly truncated
	Reason  string
}

func (e *ProtocolError) Error() string {
	text := e.Reason
	if e.Line != "" {
		text += `: "` + e.Line + `"`
	}
	return errorText(e.Command, text)
}

// commandError is an error of a command other than a negative response.
type commandError struct {
	command string
	text    string
	err     error
}

// commandFailed adds the command to err.
func commandFailed(command string, err error) error {
	return &commandError{command, unprefixed(err), err}
}

// errTooManyEntries is ErrTooManyEntries with the limit. explain adds the command.
func errTooManyEntries(max int, unit string) error {
	return &commandError{text: fmt.Sprintf("more than %d %s", max, unit), err: ErrTooManyEntries}
}

func (e *commandError) Error() string { return errorText(e.command, e.text) }
func (e *commandError) Unwrap() error { return e.err }

// notSentError is a command of which nothing was written.
type notSentError struct{ commandError }

// notSent returns the error of a command that was not sent because of cause.
func notSent(command string, cause error) error {
	return &notSentError{commandError{command, "not sent: " + unprefixed(cause), cause}}
}

// invalidArgument refuses a command before anything is sent.
func invalidArgument(command, reason string) error {
	return &notSentError{commandError{command, reason, nil}}
}

func (e *notSentError) Is(target error) bool { return target == ErrNotSent }

// closed is the error of a call that finds the session closed.
func closed(cause error) error {
	if c, ok := cause.(closedError); ok {
		return c
	}
	return closedError{cause}
}

// closedError is ErrClosed with the error that ended the session, if known.
type closedError struct{ cause error }

func (e closedError) Error() string {
	if e.cause == nil {
		return "pop3: closed"
	}
	return errorText("", "session closed: "+unprefixed(e.cause))
}

func (e closedError) Is(target error) bool {
	_, closed := target.(closedError)
	return closed || target == net.ErrClosed
}

func (e closedError) Unwrap() error { return e.cause }

// lostError means that the connection ended, or failed, within a response.
type lostError struct {
	command  string
	lastLine string // the last unsolicited line
	err      error
}

func (e *lostError) Error() string {
	if e.err == io.EOF {
		return errorText(e.command, "connection closed by server"+after(e.lastLine))
	}
	return errorText(e.command, "connection lost"+after(e.lastLine)+": "+unprefixed(e.err))
}

func (e *lostError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Unwrap hides io.EOF: a truncated response must never look complete.
func (e *lostError) Unwrap() error {
	if errors.Is(e.err, io.EOF) { // also one of the TLS handshake
		return nil
	}
	return e.err
}

// timeoutError means that the server sent nothing for Options.Timeout. It is a net.Error.
type timeoutError struct{ command, lastLine string }

func (e *timeoutError) Error() string {
	return errorText(e.command, "timed out waiting for the server"+after(e.lastLine))
}

func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Unwrap() error   { return os.ErrDeadlineExceeded }

// withPortHint adds a hint to the error of a new connection: its port may expect TLS, or may not.
func withPortHint(err error, port string, overTLS bool) error {
	var protocol *ProtocolError
	hint := ""
	switch {
	case errors.Is(err, errNoTLS), overTLS && (port == "110" || port == "pop3") && isSilence(err):
		hint = "the port may not expect TLS: use DialStartTLS"
	case overTLS:
	case errors.As(err, &protocol) && isTLSRecord([]byte(protocol.Line)), (port == "995" || port == "pop3s") && isSilence(err):
		hint = "the port may expect TLS: use DialTLS"
	}
	if hint == "" {
		return err
	}
	return &commandError{text: unprefixed(err) + " (" + hint + ")", err: err}
}

// isSilence reports whether the server sent nothing before err.
func isSilence(err error) bool {
	var timeout *timeoutError
	var lost *lostError
	return errors.As(err, &timeout) && timeout.lastLine == "" || errors.As(err, &lost) && lost.lastLine == "" || errors.Is(err, context.DeadlineExceeded)
}

// busyError is ErrBusy with the names of both commands.
type busyError struct{ command, holder, hint string }

func (e *busyError) Error() string {
	return errorText(e.command, fmt.Sprintf("%s is still open (%s)", e.holder, e.hint))
}

func (e *busyError) Unwrap() []error { return []error{ErrBusy, ErrNotSent} }

// joined adds earlier refusals to err, unless err is nil.
func joined(err error, refusals ...error) error {
	refusals = slices.DeleteFunc(refusals, func(e error) bool { return e == nil })
	if err == nil || len(refusals) == 0 {
		return err
	}
	return errors.Join(append([]error{err}, refusals...)...)
}

// prefix begins the text of every error, once.
const prefix = "pop3: "

func errorText(command, text string) string {
	if command != "" {
		text = command + ": " + text
	}
	return prefix + printable(text)
}

// unprefixed returns the text of an error for use within another error.
func unprefixed(err error) string { return strings.TrimPrefix(err.Error(), prefix) }

func after(lastLine string) string {
	if lastLine == "" {
		return ""
	}
	return ` after "` + lastLine + `"`
}

// printable escapes characters that are not printable: a server could use them to control a terminal or to forge log
// lines.
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

// A byte that is not UTF-8 may be a control character for a terminal that expects another encoding.
func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// maxQuote limits the part of a line that an error quotes.
const maxQuote = 256

func quote(line []byte) string {
	if len(line) > maxQuote {
		return string(line[:maxQuote]) + "..."
	}
	return string(line)
}
