package pop3

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// encodings are the encodings of a secret that are recognized.
var encodings = map[string]func(secret string) string{
	"as it is":         func(s string) string { return s },
	"upper case":       strings.ToUpper,
	"lower case":       strings.ToLower,
	"base64":           in64,
	"base64, unpadded": func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
	"base64url":        func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"base64, upper":    func(s string) string { return strings.ToUpper(in64(s)) },
	"within base64":    func(s string) string { return in64("say: " + s + "?") },
	"within base64, 1": func(s string) string { return in64("say:  " + s + "??") },
	"within base64, 2": func(s string) string { return base64.URLEncoding.EncodeToString([]byte("say:   " + s + "???")) },
	"hex":              func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":              func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"query":            url.QueryEscape,
	"path":             url.PathEscape,
	"percent":          octetwise("%%%02X"),
	"quoted-printable": octetwise("=%02X"),
	"backslash x":      octetwise(`\x%02x`),
	"backslash u":      runewise(`\u%04x`),
	"HTML":             html.EscapeString,
	"HTML, numbers":    runewise("&#%d;"),
	"HTML, hex":        runewise("&#x%X;"),
	"quoted":           func(s string) string { return fmt.Sprintf("%q", s) },
}

// octetwise formats each byte.
func octetwise(format string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, format, c)
		}
		return b.String()
	}
}

// runewise formats each character.
func runewise(format string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			fmt.Fprintf(&b, format, r)
		}
		return b.String()
	}
}

func TestHideEncodings(t *testing.T) {
	for _, secret := range []string{"hunter2", "S3cret", "s3cret/tan~~~?&<af", "a~~~???>>>b", "correct horse battery", `quo"ted\back`, "0123456789abcdef", "\x00user\x00pass"} {
		for name, encode := range encodings {
			said := encode(secret)
			var s secrets
			s.keep("another secret", secret)
			for _, text := range []string{said, "not " + said + ", no", "(" + said + ")", said + said} {
				got := s.hide(text, 0)
				if strings.Contains(strings.ToLower(got), strings.ToLower(said)) || strings.Contains(strings.ToLower(got), strings.ToLower(secret)) {
					t.Errorf("%s of %q: %q is shown as %q", name, secret, text, got)
				}
				if !strings.Contains(got, hidden) || len(got) > len(text)-len(said)+2*len(hidden)+8 {
					t.Errorf("%s of %q: %q is shown as %q", name, secret, text, got)
				}
			}
			if got := s.hide("not "+said+", no", 0); !strings.HasPrefix(got, "not ") || !strings.HasSuffix(got, ", no") {
				t.Errorf("%s of %q: more than it is hidden: %q", name, secret, got)
			}
		}
	}
}

func TestHide(t *testing.T) {
	for _, test := range []struct{ secret, text, want string }{
		{"hunter2", "", ""},
		{"", "text", "text"},
		{"  ", "a  b", "a  b"},
		{"hunter2", "no secret", "no secret"},
		{"hunter2", "hunter2", "****"},
		{"hunter2", "HunTer2 is wrong", "**** is wrong"},
		{"hunter2", "hunterhunter2", "hunter****"},
		{"hunter2", "hunter2hunter2", "********"},
		{"ababab", "abababab", "****"},
		{" hunter2 ", "wrong: hunter2", "wrong: ****"},
		{"two  words", "not two words", "not ****"},
		{"two words", "not two \t words", "not ****"},
		{"correct horse battery", "unknown argument horse battery", "unknown argument ****"},
		{"correct horse battery", "unknown command CORRECT", "unknown command ****"},
		{"correct horse battery", "correct horse", "****"},
		{"correct horse battery", "correct horse is no command", "**** is no command"},
		{"paßwörter", "PAßWÖRTER", "****"},
		{"\u212aelvin-sign", "kelvin-sign", "****"},
		{"pass\xffword", "pass\xffword, pass\xfeword", "****, pass\xfeword"},

		{"hunter2", "x " + in64("say: hunter2, ok?") + " y", "x **** y"},
		{"hunter2", "x=aHVudGVyMg==. y", "****. y"},

		// One that is shorter hides the complete text.
		{"p", "not implemented", "****"},
		{"P", "not implemented", "****"},
		{"p", "no", "no"},
		{"bob12", "x bob12 y", "****"},
		{"bob12", "x BOB12 y", "****"},
		{"bob12", "x " + in64("bob12"), "****"},
		{"bob12", "x Ym9iMTI y", "****"},
		{"p", "cA==", "****"},
		{"p", "x70 cAx", "x70 cAx"}, // too short to be found in a word
		{"p", "x 70", "****"},
		{"a\tb", "x a b", "****"},

		// A part of a secret counts at the end of a text, or if the secret is a token.
		{"hunter2", "you said hunter", "you said ****"},
		{"hunter2", "you said hunte", "you said hunte"},
		{"hunter2", "hunter, you said", "hunter, you said"},
		{"ya29.a0AfH6SMBx7Q", "invalid token ya29.a0AfH6S...", "invalid token ****..."},
		{"ya29.a0AfH6SMBx7Q", "invalid token ya29.a0AfH6... of", "invalid token ya29.a0AfH6... of"},
	} {
		var s secrets
		s.keep(test.secret)
		if got := s.hide(test.text, 0); got != test.want {
			t.Errorf("%q is shown as %q, want %q, with the secret %q", test.text, got, test.want, test.secret)
		}
	}
	for harmless, want := range []string{"****", "b****", "bo****", "bob****", "bob ****", "bob x"} {
		var s secrets
		s.keep("bob", "b x") // the last of which begins within the harmless part
		if harmless == 5 {
			s = secrets{}
		}
		if got := s.hide("bob x", harmless); got != want {
			t.Errorf("after %d bytes: %q, want %q", harmless, got, want)
		}
	}
}

func TestEndsWithin(t *testing.T) {
	var s secrets
	s.keep("hunter2")
	for text, want := range map[string]bool{
		"": false, "x": false, "hu": false, "hun": true, "you said hunter": true, "you said HUNT": true, "hunter2": false, "hunter, you said": false,
		"aHVudG": true,
	} {
		if got := s.endsWithin(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if (&secrets{}).endsWithin("hunter") {
		t.Error("within a secret, though there is none")
	}
}

// TestHideManySecrets checks that secrets within or overlapping others are hidden with them.
func TestHideManySecrets(t *testing.T) {
	var s secrets
	s.keep("tanstaaf", "staaf-user", "tanstaaf-tanstaaf")
	for text, want := range map[string]string{
		"tanstaaf-user":           "****",
		"a tanstaaf-tanstaaf b":   "a **** b",
		"staaf-usertanstaaf":      "********",
		"tanstaa":                 "****",
		"user tanstaaf user":      "user **** user",
		"tanstaaf, and tanstaaf.": "****, and ****.",
	} {
		if got := s.hide(text, 0); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// TestRedactRefusal checks that a response code does not depend on the password.
func TestRedactRefusal(t *testing.T) {
	for _, test := range []struct {
		secret, text string
		code         ResponseCode
		rest         string
	}{
		{"S", "[SYS/TEMP] down", CodeSysTemp, "down"},
		{"S", "[SYS/TEMP] disk full", CodeSysTemp, "****"},
		{"s", "[sys/temp] down", CodeSysTemp, "down"},
		{"AUTH", "[AUTH] wrong", CodeAuth, "wrong"},
		{"AUTH", "[AUTH] authentication failed", CodeAuth, "****"},
		{"]", "[IN-USE] locked", CodeInUse, "locked"},
		{"in-use/pop3", "[IN-USE/POP3] locked", "IN-USE/POP3", "locked"},
		{"hunter2", "[hunter2] wrong", "****", "wrong"},
		{"hunter2", "[X-HUNTER2] wrong", "X-****", "wrong"},
		{"hunter2", "[SYS/TEMP/HUNTER2] down", "SYS/TEMP/****", "down"},
		{"p", "[SYS/PERM/P] down", "SYS/PERM/****", "down"},
		{"p", "[X-P] down", "", "****"},
		{"hunter2", "[AUTH] not hunter2", CodeAuth, "not ****"},
		{"SYS/TEMP] d", "[SYS/TEMP] down", CodeSysTemp, "****own"},
		{"X] hunter2", "[X] hunter2 is wrong", "", "[**** is wrong"},
		{"hunter2", "not [hunter2]", "", "not [****]"},
		{"hunter2", "", "", ""},
	} {
		var tr transcript
		tr.keepSecret(test.secret)
		e := tr.serverError("PASS ****", test.text)
		if e.Code != test.code || e.Text != test.rest {
			t.Errorf("%q is [%s] %q, want [%s] %q, with the secret %q", test.text, e.Code, e.Text, test.code, test.rest, test.secret)
		}
	}
}

func TestRedactLine(t *testing.T) {
	for _, test := range []struct{ secret, line, want string }{
		{"OK", "+OK fine", "+OK fine"},
		{"OK", "+OK ok", "+OK ****"},
		{"OK", "+OK\tok", "+OK\t****"},
		{"ERR", "-ERR [AUTH]  no", "-ERR [AUTH] no"},
		{"ERR", "-ERR", "-ERR"},
		{"ERR", "-ERROR", "****"},
		{"", "", ""},
		{"x", "+", "+"},
		{"hunter2", "250 hunter2", "250 ****"},
	} {
		var tr transcript
		tr.keepSecret(test.secret)
		if got := tr.redactLine(test.line); got != test.want {
			t.Errorf("%q is shown as %q, want %q", test.line, got, test.want)
		}
	}
}

func TestRedactCommand(t *testing.T) {
	var tr transcript
	tr.keepSecret("1", "USER", "hunter2")
	for command, want := range map[string]string{
		"RETR 1": "RETR 1", "TOP 11 1": "TOP 11 1", "NOOP": "NOOP", "USER bob": "USER bob", "USER user": "USER ****", "USER b1": "USER ****",
		"X a hunter2": "X a ****", "": "", "****": "****", "USER ": "USER ",
	} {
		if got := tr.redactCommand(command); got != want {
			t.Errorf("%q is shown as %q, want %q", command, got, want)
		}
	}
}

// FuzzHide checks that no encoding of a secret remains in a text.
//
// An escape that begins before the secret may reach into it, and is left out.
func FuzzHide(f *testing.F) {
	f.Add("hunter2", "you said ", ", no")
	f.Add("p", "not im", "lemented")
	f.Add("two  words", "\xff%4", "1=")
	f.Add("\u0130stanbul", "&#", ";\\u00")
	f.Fuzz(func(t *testing.T, secret, before, after string) {
		secret, before, after = secret[:min(len(secret), 100)], before[:min(len(before), 100)], after[:min(len(after), 100)]
		secret = strings.Trim(secret, blanks)
		if secret == "" || strings.Contains(secret, "*") || strings.ContainsAny(before[max(0, len(before)-12):], `%=\&`) || !utf8.ValidString(secret) || strings.IndexFunc(secret, func(r rune) bool { return r > 0xffff }) >= 0 {
			t.Skip()
		}
		var s secrets
		s.keep(secret)
		for name, encode := range encodings {
			if len(secret) < shortSecret && strings.Contains(name, "base64") { // found only as a word
				continue
			}
			said := encode(secret)
			if len(said) < shortSecret && name != "as it is" {
				continue
			}
			got := s.hide(before+said+after, 0)
			if !strings.Contains(before+after, said) && !strings.Contains(hidden, said) && strings.Contains(got, said) {
				t.Errorf("%s: %q is shown as %q", name, before+said+after, got)
			}
			if len(secret) < shortSecret && got != hidden {
				t.Errorf("%s: %q is shown as %q", name, before+said+after, got)
			}
		}
	})
}
