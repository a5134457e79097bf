package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/connect"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// explain returns the text of an error without the prefixes of the packages that it comes from.
func explain(err error) string {
	var setup *connect.SetupError
	var usage *usageError
	if errors.As(err, &setup) && !errors.As(err, &usage) {
		err = setup // rather than the Fetcher's kind of error
	}
	text := err.Error()
	for _, prefix := range []string{"fetch: ", "pop3: "} {
		text = strings.TrimPrefix(text, prefix)
		text = strings.ReplaceAll(text, ": "+prefix, ": ")
		text = strings.ReplaceAll(text, "\n"+prefix, "\n")
	}
	return text
}

// hint returns a suggestion for an error, or "".
func hint(err error) string {
	var usage *usageError
	if errors.As(err, &usage) {
		return usage.hint
	}
	if cert, ok := connect.Untrusted(err); ok {
		var pin *connect.PinError
		if errors.As(err, &pin) {
			return fmt.Sprintf("the certificate has %v; it may have been renewed, or the connection is intercepted", connect.Fingerprint(cert))
		}
		return fmt.Sprintf("if you are sure that this is the right server, use -pin %v, or -ca FILE", connect.Fingerprint(cert))
	}
	switch {
	case errors.Is(err, pop3.ErrTLSNotSupported):
		return "a pops:// URL may work; -insecure continues without TLS"
	case errors.Is(err, fetch.ErrAllNew):
		return "-all-new fetches all of them; -all-new=match only those whose header is not known"
	case errors.Is(err, fetch.ErrNoUIDL):
		return "-delete fetches and deletes all messages; -no-uidl identifies them by their headers, which takes a TOP for each"
	case errors.Is(err, fetch.ErrLocked):
		return "another run of pop3 works for this account"
	}
	return ""
}

// clean makes a text from a server or a file harmless on a terminal: control characters and invalid UTF-8 are escaped.
func clean(s string) string {
	harmless := utf8.ValidString(s) && !strings.ContainsFunc(s, isHarmful)
	if harmless {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case isHarmful(r) && r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case isHarmful(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isHarmful reports control characters and those that change the direction of a text.
func isHarmful(r rune) bool {
	return r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}
