package interop

import (
	"fmt"
	"strings"

	"github.com/seed-5b1d5243/pop3/interop/servers"
)

// header is complete, so that no server adds to it.
func header(name string, n int) string {
	return fmt.Sprintf("From: Sender <s%d@example.org>\nTo: u@example.net\n"+
		"Subject: %s %d\nDate: Mon, 01 Jan 2024 00:00:00 +0000\nMessage-ID: <m%d@example.org>\n", n, name, n, n)
}

// A sample is a message that some server or client handles incorrectly, as stored (lines end with LF).
type sample struct{ name, text string }

var samples = []sample{
	{"plain", header("plain", 1) + "\nhello\nworld\n"},
	{"dots", header("dots", 2) + "\n.\n..\n.foo\n...bar\n.\nFrom the start\n>From quoted\nx.\n.\n"},
	{"a line of 100,000 bytes", header("long", 3) + "\nbefore\n" + strings.Repeat("A", 100_000) + "\nafter\n"},
	{"8 bits", header("8bit", 4) + "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n" +
		"\nutf8: h\xc3\xa9llo \xe2\x82\xac\nlatin1: h\xe9llo\nhigh: \x80\xff\ncontrol: \x01\x07\x1b\x7f\n"},
	{"8-bit header", header("8bit", 11) + "X-Name: h\xc3\xa9llo\n\nhello\n"},
	{"no body", header("empty", 5) + "\n"},
	{"no final newline", header("cut", 6) + "\nline one\nlast line"},
	{"headers only", header("headers", 7)},
	{"NUL and CR", header("nul", 8) + "\nnul[\x00]nul\ncr[\r]cr\nend\n"},
	{"a dot at the end", header("dot", 9) + "\nends with a dot\n."},
	{"stored with CRLF", strings.ReplaceAll(header("crlf", 10)+"\nstored with CRLF\n.dot\n", "\n", "\r\n")},
}

// samplesFor returns the samples that the server can store.
func samplesFor(tr servers.Traits) []sample {
	var kept []sample
	for _, s := range samples {
		switch {
		case tr.NoNUL && strings.Contains(s.text, "\x00"):
		default:
			kept = append(kept, s)
		}
	}
	return kept
}

// delivered is a message as the server sends it: all lines end with CRLF, including the last one.
func delivered(tr servers.Traits, text string) string {
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if !tr.CRCRLF {
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	return strings.ReplaceAll(text, "\n", "\r\n")
}
