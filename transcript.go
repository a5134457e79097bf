package pop3

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// transcript writes the dialogue to Options.DebugWriter, and knows the secrets that neither it nor an error nor the log may
// show. It may be used from any goroutine.
type transcript struct {
	debugger io.Writer  // nil: none
	writing  sync.Mutex // the debugger receives one line at a time; it may block, so that mu is not held meanwhile

	mu      sync.Mutex
	secrets []string
}

// debug writes one line of the transcript.
func (t *transcript) debug(who, text string) {
	if t.debugger != nil {
		text = printable(t.redact(text))
		t.writing.Lock()
		defer t.writing.Unlock()
		fmt.Fprintf(t.debugger, "%s%s\n", who, text)
	}
}

// debugBody sums up a multi-line response in the transcript.
func (t *transcript) debugBody(octets int64, whole bool) {
	if t.debugger == nil {
		return
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	if whole {
		fmt.Fprintf(t.debugger, "S: [%d octets]\n", octets)
	} else {
		fmt.Fprintf(t.debugger, "S: [%d octets, truncated]\n", octets)
	}
}

// keepSecret has secrets, and their base64 forms, replaced wherever a text of the server is shown.
func (t *transcript) keepSecret(secrets ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range secrets {
		// Trimmed too: the blanks around a text are taken off before it is shown.
		for _, form := range []string{s, strings.Trim(s, " \t"), base64.StdEncoding.EncodeToString([]byte(s))} {
			if form != "" && !slices.Contains(t.secrets, form) {
				t.secrets = append(t.secrets, form)
			}
		}
	}
	// The longest first: one may be part of another.
	slices.SortFunc(t.secrets, func(a, b string) int { return len(b) - len(a) })
}

func (t *transcript) redact(s string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, secret := range t.secrets {
		s = strings.ReplaceAll(s, secret, "****")
	}
	return s
}

// unfinished is what an error may show of a line that was cut off. Of a challenge it shows nothing: base64 may hide a secret.
func (t *transcript) unfinished(line []byte) string {
	if challenge, ok := bytes.CutPrefix(line, []byte("+ ")); ok {
		return fmt.Sprintf("+ [%d octets]", len(challenge))
	}
	return t.quoted(bytes.TrimRight(line, "\r"))
}

// quoted is what an error may show of a line. It is cut behind the redaction, which would not know half a secret.
func (t *transcript) quoted(line []byte) string { return quote([]byte(t.redact(string(line)))) }
