package pop3

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// hidden replaces a secret.
const hidden = "****"

const (
	shortSecret  = 6  // a shorter one hides the complete text: the redacted part of a word would reveal it
	longSecret   = 16 // of a longer one, such as a token, a prefix is hidden too: servers may truncate it
	longPrefix   = 12
	brokenPrefix = 6 // of any, at the end of a text that may have been truncated
	brokenOff    = 3 // the same, if the text certainly was: it is hidden completely
)

// secrets finds the passwords, digests and tokens of a session in the server's text, regardless of case and blanks,
// also if they are escaped, in hexadecimal or in base64, even as part of a longer text. It is safe for concurrent use.
type secrets struct {
	mu    sync.Mutex
	kept  map[string]bool
	forms []secretForm
}

// A secretForm is one way to write a secret.
type secretForm struct {
	text []rune // folded
	all  bool   // it hides the complete text
	word bool   // it is so short that it is matched only as a complete word
	in64 bool   // the rest of the base64 around it is hidden too
}

// keep adds secrets.
func (s *secrets) keep(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range secrets {
		secret = strings.Trim(secret, blanks) // they are lost around the text of a status line
		if secret == "" || s.kept[secret] {
			continue
		}
		if s.kept == nil {
			s.kept = make(map[string]bool)
		}
		s.kept[secret] = true
		s.forms = append(s.forms, secretForms(secret)...)
	}
}

func secretForms(secret string) (forms []secretForm) {
	all := len(secret) < shortSecret
	add := func(text string, encoded, in64 bool) {
		runes, _ := fold([]byte(text), nil)
		forms = append(forms, secretForm{runes, all, encoded && len(text) < shortSecret, in64})
	}
	for _, words := range wordsOf(secret) {
		add(words, false, false)
	}
	add(hex.EncodeToString([]byte(secret)), true, false)
	for _, text := range base64Of(secret) {
		add(text, true, !all)
		if url := strings.NewReplacer("+", "-", "/", "_").Replace(text); url != text {
			add(url, true, !all)
		}
	}
	return forms
}

// wordsOf returns a secret and, if it consists of several words, the shortest runs of them that are no short secret: a
// server may quote one argument of many.
func wordsOf(secret string) []string {
	words := strings.FieldsFunc(secret, func(r rune) bool { return strings.ContainsRune(blanks, r) })
	runs := []string{strings.Join(words, " ")}
	for first := range words {
		for last := first; last < len(words) && len(words) > 1; last++ {
			if run := strings.Join(words[first:last+1], " "); len(run) >= shortSecret {
				runs = append(runs, run)
				break
			}
		}
	}
	return runs
}

// base64Of returns the base64 of a secret, without padding. Unless the secret is short, it returns the part common to
// the base64 of all texts that contain the secret. As 8 bits are not aligned to 6, there are three forms.
func base64Of(secret string) (texts []string) {
	if len(secret) < shortSecret {
		return []string{base64.RawStdEncoding.EncodeToString([]byte(secret))}
	}
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		texts = append(texts, text[(8*shift+5)/6:8*(shift+len(secret))/6])
	}
	return texts
}

// A span of a text is to be hidden.
type span struct {
	from, to int
	all      bool // with all the text
}

// hide replaces the secrets in a text whose first bytes are known to be harmless.
func (s *secrets) hide(text string, harmless int) string {
	spans := s.find(text)
	var b strings.Builder
	shown := harmless
	for _, p := range spans {
		switch {
		case p.to <= harmless:
			continue
		case p.all:
			return text[:harmless] + hidden
		}
		if p.from = max(p.from, harmless); p.from >= shown {
			b.WriteString(text[shown:p.from] + hidden)
		}
		shown = max(shown, p.to)
	}
	return text[:harmless] + b.String() + text[shown:]
}

// find returns the spans of the secrets in a text, ordered by their starts.
func (s *secrets) find(text string) (spans []span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.forms) == 0 {
		return nil
	}
	runes, at := fold([]byte(text), nil)
	spans = s.findIn(spans, text, runes, at)
	for _, e := range escapes {
		if strings.Contains(text, e.octets[:1]) {
			runes, at = fold(e.undoAll(text))
			spans = s.findIn(spans, text, runes, at)
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	return spans
}

// findIn finds the secrets in a text that has been folded.
func (s *secrets) findIn(spans []span, text string, runes []rune, at []int) []span {
	for _, f := range s.forms {
		for i := range runes {
			n := commonPrefix(runes[i:], f.text)
			whole := n == len(f.text)
			switch {
			case n == 0, f.word && (i > 0 && isLetter(runes[i-1]) || i+n < len(runes) && isLetter(runes[i+n])):
				continue
			case !whole && (len(f.text) < longSecret || n < longPrefix) && (i+n < len(runes) || n < brokenPrefix):
				continue
			case !whole && f.text[n-1] == ' ':
				n--
			}
			p := span{at[i], at[i+n], f.all}
			for f.in64 && p.from > 0 && isBase64(text[p.from-1]) {
				p.from--
			}
			for f.in64 && p.to < len(text) && isBase64(text[p.to]) {
				p.to++
			}
			spans = append(spans, p)
		}
	}
	return spans
}

// endsWithin reports whether a text ends within a secret.
func (s *secrets) endsWithin(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	runes, _ := fold([]byte(text), nil)
	return slices.ContainsFunc(s.forms, func(f secretForm) bool {
		for n := min(len(runes), len(f.text)-1); n >= brokenOff; n-- {
			if slices.Equal(runes[len(runes)-n:], f.text[:n]) {
				return true
			}
		}
		return false
	})
}

// fold makes texts comparable regardless of case and of the number of blanks. at[i] is the offset of rune i in the text
// that b was unescaped from, mapped with from; the last element is the length of that text.
func fold(b []byte, from []int) (runes []rune, at []int) {
	where := func(i int) int {
		if from == nil {
			return i
		}
		return from[i]
	}
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			r = unicode.MaxRune + 1 + rune(b[i]) // bytes that are not UTF-8 differ
		}
		if r == '\t' {
			r = ' '
		}
		if r != ' ' || len(runes) == 0 || runes[len(runes)-1] != ' ' {
			runes, at = append(runes, foldRune(r)), append(at, where(i))
		}
		i += size
	}
	return runes, append(at, where(len(b)))
}

func foldRune(r rune) rune {
	r = unicode.ToUpper(r) // a dotless i has an upper case but no fold
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return unicode.ToLower(least)
}

// An escape decodes text that begins with one of its bytes: an escaped character, or that byte itself. A text without
// the first byte contains none.
type escape struct {
	octets string
	undo   func(text string) (octets string, size int)
}

// escapes are those of URLs, quoted-printable, programming languages and JSON, and HTML.
var escapes = []escape{
	{"%", unescapeOctet},
	{"+%", unescapeQuery},
	{"=", unescapeOctet},
	{"\\", unescapeBackslash},
	{"&", unescapeEntity},
}

// undoAll decodes an escape throughout a text. from[i] is the original offset of byte i; the last element is the length
// of the text.
func (e escape) undoAll(text string) (b []byte, from []int) {
	for i := 0; i < len(text); {
		octets, size := text[i:i+1], 1
		if strings.IndexByte(e.octets, text[i]) >= 0 {
			octets, size = e.undo(text[i:])
		}
		b = append(b, octets...)
		for len(from) < len(b) {
			from = append(from, i)
		}
		i += size
	}
	return b, append(from, len(text))
}

func unescapeOctet(text string) (octets string, size int) { return unescapeHex(text, 1) }

func unescapeQuery(text string) (octets string, size int) {
	if text[0] == '+' {
		return " ", 1
	}
	return unescapeOctet(text)
}

// unescapeHex returns the byte of two hexadecimal digits after a prefix, or the first byte of the text.
func unescapeHex(text string, prefix int) (octets string, size int) {
	if len(text) >= prefix+2 {
		if b, err := hex.DecodeString(text[prefix : prefix+2]); err == nil {
			return string(b), prefix + 2
		}
	}
	return text[:1], 1
}

func unescapeBackslash(text string) (octets string, size int) {
	if len(text) < 2 {
		return text, 1
	}
	switch text[1] {
	case 'x':
		return unescapeHex(text, 2)
	case 'u':
		if n, err := strconv.ParseUint(text[2:min(len(text), 6)], 16, 16); err == nil && len(text) >= 6 {
			return string(rune(n)), 6
		}
	}
	if i := strings.IndexByte("abfnrtv0", text[1]); i >= 0 {
		return "\a\b\f\n\r\t\v\x00"[i : i+1], 2
	}
	return text[1:2], 2
}

func unescapeEntity(text string) (octets string, size int) {
	name, _, ok := strings.Cut(text[1:min(len(text), 12)], ";")
	if !ok || strings.Contains(name, "&") {
		return text[:1], 1
	}
	size = len("&") + len(name) + len(";")
	if number, ok := strings.CutPrefix(name, "#"); ok {
		base := 10
		if strings.HasPrefix(strings.ToLower(number), "x") {
			number, base = number[1:], 16
		}
		if n, err := strconv.ParseUint(number, base, 31); err == nil {
			return string(rune(n)), size
		}
	}
	return html.UnescapeString(text[:size]), size
}

func commonPrefix(a, b []rune) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func isLetter(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func isBase64(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("+/-_=", c) >= 0
}
