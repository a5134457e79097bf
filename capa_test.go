package pop3

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

func TestCapabilities(t *testing.T) {
	for _, test := range []struct {
		name, lines string
		want        Capabilities
	}{
		{"none", "", Capabilities{}},
		{"with and without parameters", "S: TOP\nS: SASL PLAIN cram-md5\nS: expire 60 USER", Capabilities{
			"TOP": nil, "SASL": {"PLAIN", "cram-md5"}, "EXPIRE": {"60", "USER"}}},
		{"blanks", `S: LOGIN-DELAY   60\t USER ` + "\nS:  TOP\nS: \nS:   ", Capabilities{"LOGIN-DELAY": {"60", "USER"}, "TOP": nil}},
		{"on several lines", "S: SASL PLAIN\nS: TOP\nS: sasl XOAUTH2 CRAM-MD5\nS: Sasl\nS: TOP\nS: EXPIRE\nS: EXPIRE 60", Capabilities{
			"SASL": {"PLAIN", "XOAUTH2", "CRAM-MD5"}, "TOP": nil, "EXPIRE": {"60"}}},
		{"SASL without mechanisms", "S: SASL", Capabilities{"SASL": nil}},
		{"of some servers", "S: EXPIRENEVER\nS: CAPA\nS: PIPELINE\nS: IMPLEMENTATION Cyrus POP3 v3.6.1", Capabilities{
			"EXPIRENEVER": nil, "CAPA": nil, "PIPELINE": nil, "IMPLEMENTATION": {"Cyrus", "POP3", "v3.6.1"}}},
		{"dots", "S: ..X\nS: .Y\nS: Z .", Capabilities{".X": nil, ".Y": nil, "Z": {"."}}},
		{"a bare LF is a blank", `S: TOP\nUIDL`, Capabilities{"TOP": {"UIDL"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialogue(t, nil, "\nC: CAPA\nS: +OK list follows\n"+test.lines+"\nS: .\nC: NOOP\nS: +OK")
			for range 3 { // cached, except for the first time
				got, err := c.Capabilities(background)
				must(t, err)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
				for name := range got { // the caller owns it
					if got[name] != nil {
						got[name][0] = "changed"
					}
					delete(got, name)
				}
				got["MORE"] = nil
			}
			must(t, c.Noop(background))
		})
	}
}

func TestCapabilitiesHas(t *testing.T) {
	caps := Capabilities{"TOP": nil, "SASL": {"Plain"}}
	if !caps.Has("TOP") || !caps.Has("top") || !caps.Has("Sasl") || caps.Has("UIDL") || caps.Has("") || Capabilities(nil).Has("TOP") {
		t.Error("Has is wrong")
	}
}

// Cached capabilities are returned only while the session is open.
func TestCapabilitiesAfterTheEnd(t *testing.T) {
	for name, test := range map[string]struct {
		transcript string
		end        func(c *Client) error
		is         error
	}{
		"Close": {"", func(c *Client) error { return c.Close() }, ErrClosed},
		"Quit":  {"C: QUIT\nS: +OK", func(c *Client) error { return c.Quit(background) }, ErrClosed},
		"lost": {"C: NOOP\n!close", func(c *Client) error {
			wantError(t, c.Noop(background), io.ErrUnexpectedEOF)
			return nil
		}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialogue(t, nil, "\nC: CAPA\nS: +OK\nS: TOP\nS: .\n"+test.transcript)
			_, err := c.Capabilities(background)
			must(t, err)
			must(t, test.end(c))
			caps, err := c.Capabilities(background)
			if caps != nil {
				t.Errorf("capabilities %v", caps)
			}
			wantError(t, err, ErrClosed, ErrNotSent, test.is)
		})
	}
}

func TestCapabilitiesRefused(t *testing.T) {
	c := dialogue(t, nil, `
		C: CAPA
		S: -ERR unknown command
		C: CAPA
		S: +OK
		S: TOP
		S: .`)
	for range 2 {
		caps, err := c.Capabilities(background)
		if caps == nil || len(caps) > 0 || err != nil {
			t.Errorf("Capabilities = %v, %v; want an empty set", caps, err)
		}
	}
	caps, err := c.RefreshCapabilities(background)
	if !caps.Has("TOP") || err != nil {
		t.Errorf("RefreshCapabilities = %v, %v", caps, err)
	}
}

func TestCapabilitiesFail(t *testing.T) {
	for _, test := range []struct {
		name, transcript string
		target           error // if nil, a ProtocolError
	}{
		{"cut", "S: +OK\nS: TOP\n!close", io.ErrUnexpectedEOF},
		{"cut in the terminator", "S: +OK\nS: TOP\nS- .\n!close", io.ErrUnexpectedEOF},
		{"a bare LF ends nothing", `S: +OK` + "\n" + `S- TOP\n.\n` + "\n!close", io.ErrUnexpectedEOF},
		{"without end", "S: +OK\n!repeat 2000 X\n!expect-close", nil},
		{"no status", "S: TOP\n!expect-close", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := pop3test.Play(t, "S: +OK\nC: CAPA\n"+test.transcript)
			c := connect(t, nil, conn)
			caps, err := c.Capabilities(background)
			if err == nil || len(caps) > 0 {
				t.Fatalf("Capabilities = %v, %v", caps, err)
			}
			if test.target != nil {
				wantError(t, err, test.target)
			} else {
				wantProtocolError(t, err)
			}
			wantError(t, c.Noop(background), ErrClosed)
		})
	}
	c := dialogue(t, &Options{MaxLineLength: 10}, `
		C: CAPA
		S: +OK
		S: 1234567890
		S: 12345678901
		!expect-close`)
	_, err := c.Capabilities(background)
	wantError(t, err, ErrLineTooLong)
}

// An endless list is not kept in memory, even if its lines are long and few.
func TestCapabilitiesSizeLimit(t *testing.T) {
	c := dialogue(t, nil, `
		C: CAPA
		S: +OK
		!repeat 5 X`+strings.Repeat(" y", maxListOctets/10)+`
		!expect-close`)
	_, err := c.Capabilities(background)
	if !isProtocolError(err) {
		t.Errorf("error %v", err)
	}
}

// The transcript of DebugWriter has the lines of a capability list, and of the languages.
func TestCapabilitiesInTheTranscript(t *testing.T) {
	var shown bytes.Buffer
	c := dialogue(t, &Options{DebugWriter: &shown, AllowInsecureLogin: true}, `
		C: PASS hunter2
		S: -ERR
		C: CAPA
		S: +OK list\x07
		S: TOP
		S: ..X \x1b[2J
		S: IMPLEMENTATION hunter2
		S: 
		S: .
		C: LANG
		S: +OK
		S: en English
		S: .`)
	c.Pass(background, "hunter2")
	shown.Reset()
	_, err := c.Capabilities(background)
	must(t, err)
	_, err = c.Langs(background)
	must(t, err)
	const want = "C: CAPA\nS: +OK list\\a\nS: TOP\nS: ..X \\x1b[2J\nS: IMPLEMENTATION ****\nS: \nS: .\n" +
		"C: LANG\nS: +OK\nS: en English\nS: .\n"
	if diff := cmp.Diff(want, shown.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLangs(t *testing.T) {
	c := dialogue(t, nil, `
		C: LANG
		S: +OK Language listing follows:
		S: en English
		S: es Español, de México
		S: i-default
		S: ..x two dots
		S: .
		C: LANG
		S: -ERR [SYS/PERM] no
		C: LANG es
		S: +OK es Idioma cambiado
		C: LANG *
		S: -ERR
		C: UTF8
		S: +OK`)
	got, err := c.Langs(background)
	must(t, err)
	want := []Language{{"en", "English"}, {"es", "Español, de México"}, {"i-default", ""}, {".x", "two dots"}}
	if !slices.Equal(got, want) {
		t.Errorf("Langs = %q, want %q", got, want)
	}
	_, err = c.Langs(background)
	if refused := new(ServerError); !errors.As(err, &refused) || refused.Command != "LANG" || refused.Code != CodeSysPerm {
		t.Errorf("Langs refused: %v", err)
	}
	must(t, c.Lang(background, "es"))
	refusedWith("LANG *", "")(t, c.Lang(background, "*"))
	must(t, c.UTF8(background))
}
