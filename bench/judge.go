package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The verdicts on delivered messages, from the best to the worst.
const (
	same   = "same bytes"
	lf     = "same, LF line ends"
	header = "same bodies, header changed"
	wrong  = "**wrong bytes**"
	failed = "**failed**"
	late   = "**too slow**"
)

// worse returns the worse of two verdicts, of which the first may be "". The count of messages that are missing or
// doubled is the worst.
func worse(a, b string) string {
	rank := func(verdict string) int {
		if i := slices.Index([]string{"", same, lf, header, wrong, failed, late}, verdict); i >= 0 {
			return i
		}
		return 7
	}
	if rank(a) > rank(b) {
		return a
	}
	return b
}

// judge compares the concatenated deliveries with the messages sent.
func judge(got []byte, want []string) string {
	whole := []byte(strings.Join(want, ""))
	if sha256.Sum256(got) == sha256.Sum256(whole) {
		return same
	}
	got, whole = withLF(got), withLF(whole)
	if sha256.Sum256(got) == sha256.Sum256(whole) {
		return lf
	}
	for i, text := range want {
		_, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
		at := bytes.Index(got, []byte("\n\n"))
		if at < 0 || !bytes.HasPrefix(got[at+2:], []byte(body)) {
			return wrong
		}
		got = got[at+2+len(body):]
		if i == len(want)-1 && len(got) > 0 {
			return wrong
		}
	}
	return header
}

func withLF(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) }

// sent returns a message with LF line ends without the header fields that were added to it: Subject is the only one that
// the messages have.
func sent(text []byte) []byte {
	fields, body, _ := bytes.Cut(text, []byte("\n\n"))
	var out []byte
	for line := range bytes.Lines(append(slices.Clip(fields), '\n')) {
		if bytes.HasPrefix(line, []byte("Subject: ")) {
			out = append(out, line...)
		}
	}
	return append(append(out, '\n'), body...)
}

// digests has the SHA-256 of messages, each with its verdict and the number of the message.
type digests map[[sha256.Size]byte]struct {
	verdict string
	number  int
}

func digestsOf(messages []string) digests {
	d := make(digests)
	for n, text := range messages {
		d.add([]byte(text), same, n)
		d.add(withLF([]byte(text)), lf, n)
	}
	return d
}

func (d digests) add(text []byte, verdict string, n int) {
	e := d[sha256.Sum256(text)]
	e.verdict, e.number = verdict, n
	d[sha256.Sum256(text)] = e
}

// judge compares the files of a Maildir with the messages, each of which must be there once.
func (d digests) judge(dir string) (verdict string, err error) {
	times := make(map[int]int)
	for _, e := range d {
		times[e.number] = 0
	}
	foreign := 0
	for _, folder := range []string{"new", "cur"} {
		files, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(dir, folder, file.Name()))
			if err != nil {
				return "", err
			}
			e, ok := d[sha256.Sum256(text)]
			if !ok {
				e, ok = d[sha256.Sum256(sent(withLF(text)))]
				e.verdict = header
			}
			if !ok {
				foreign++
				continue
			}
			times[e.number]++
			verdict = worse(verdict, e.verdict)
		}
	}
	missing, doubled := 0, 0
	for _, n := range times {
		switch {
		case n == 0:
			missing++
		case n > 1:
			doubled++
		}
	}
	if missing+doubled+foreign > 0 {
		verdict = fmt.Sprintf("**of %d messages %d missing, %d doubled, %d changed**", len(times), missing, doubled, foreign)
	}
	return verdict, nil
}
