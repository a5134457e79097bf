package pop3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// transcript writes the dialogue to Options.DebugWriter, and knows the secrets that must not appear in it, in an error
// or in the log. It is safe for concurrent use.
type transcript struct {
	secrets  secrets
	debugger io.Writer  // nil if there is no transcript
	writing  sync.Mutex // the debugger receives one line at a time
}

// sent writes a line that the client sent.
func (t *transcript) sent(shown string) { t.debug("C: ", t.redactCommand(shown)) }

// received writes a line that the server sent.
func (t *transcript) received(line string) { t.debug("S: ", t.redactLine(line)) }

// receivedText writes a summary of a multi-line response.
func (t *transcript) receivedText(octets int64, complete bool) {
	if complete {
		t.debug("S: ", fmt.Sprintf("[%d octets]", octets))
	} else {
		t.debug("S: ", fmt.Sprintf("[%d octets, truncated]", octets))
	}
}

func (t *transcript) debug(prefix, text string) {
	if t.debugger == nil {
		return
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	fmt.Fprintf(t.debugger, "%s%s\n", prefix, printable(text))
}

// keepSecret adds secrets, which are hidden wherever text of the server is shown.
func (t *transcript) keepSecret(secrets ...string) { t.secrets.keep(secrets...) }

// redact hides the secrets in any text.
func (t *transcript) redact(text string) string { return t.secrets.hide(text, 0) }

// redactCommand hides secrets in the arguments of a command.
func (t *transcript) redactCommand(command string) string {
	verb, args, _ := strings.Cut(command, " ")
	if args == "" || messageNumber(command) > 0 { // no arguments, or numbers only
		return command
	}
	return t.secrets.hide(command, len(verb)+1)
}

// redactLine hides secrets in a status line, or in a line that should have been one.
func (t *transcript) redactLine(line string) string {
	word := line
	if i := strings.IndexAny(line, blanks); i >= 0 {
		word = line[:i]
	}
	text := strings.TrimLeft(line[len(word):], blanks)
	before := len(line) - len(text)
	switch word {
	case "+OK":
		return t.secrets.hide(line, before)
	case "-ERR":
		return line[:before] + t.redactRefusal(text)
	}
	return t.redact(line)
}

// redactRefusal hides secrets in the text after -ERR, but leaves a registered response code unchanged: it contains no
// secret, and hiding it would change the meaning of the error.
func (t *transcript) redactRefusal(text string) string {
	code, rest, ok := cutCode(text)
	if !ok {
		return t.redact(text)
	}
	known := ""
	for _, registered := range registeredCodes {
		if len(registered) > len(known) && ResponseCode(code).Is(registered) {
			known = code[:len(registered)]
		}
	}
	if known == "" {
		return t.redact(text)
	}
	levels := code[len(known):]
	if t.redact(levels) != levels {
		levels = "/" + hidden
	}
	harmless := "[" + known + levels + "] "
	return t.secrets.hide(harmless+rest, len(harmless))
}

// serverError makes a *ServerError of the text after -ERR.
func (t *transcript) serverError(command, text string) *ServerError {
	return serverError(command, t.redactRefusal(text))
}

// shown hides secrets in an error of the connection. Network errors quote only addresses.
func (t *transcript) shown(err error) error {
	if errors.As(err, new(*net.OpError)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	if text := t.redact(unprefixed(err)); text != unprefixed(err) {
		return &commandError{text: text, err: err}
	}
	return err
}

// failed is commandFailed with an error whose text may quote the server.
func (t *transcript) failed(command string, err error) error {
	return &commandError{command, t.redact(unprefixed(err)), err}
}

// quoted returns the part of a line that an error may quote. It truncates after redacting, as half a secret would not
// be recognized.
func (t *transcript) quoted(line []byte) string { return quote([]byte(t.redactLine(string(line)))) }

// unfinished returns the part of a truncated line that an error may quote. The line may end within a secret. A
// challenge is not quoted, since its base64 may contain a secret.
func (t *transcript) unfinished(line []byte) string {
	line = bytes.TrimRight(line, "\r")
	if len(line) > 1 && line[0] == '+' && strings.IndexByte(blanks, line[1]) >= 0 {
		return fmt.Sprintf("+ [%d octets]", len(line)-2)
	}
	if t.secrets.endsWithin(string(line)) {
		return hidden
	}
	return t.quoted(line)
}
