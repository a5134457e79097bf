package pop3

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// The example of RFC 1939, section 7.
const (
	rfcChallenge = "<1896.697170952@dbc.mtview.ca.us>"
	rfcDigest    = "c4c9334bac560ecc979e58001b3e22fb"
	blankDigest  = "6c3f5540f08ca95c793c858fec6ac037" // with the challenge of Twisted's example, which is no msg-id
)

// script is a transcript with the greeting in it. The client's options know the certificate of !tls.
func script(t testing.TB, opts Options, transcript string) *Client {
	t.Helper()
	if opts.TLSConfig == nil {
		opts.TLSConfig = pop3test.TLSConfig()
	}
	return connect(t, &opts, pop3test.Play(t, transcript))
}

// refusedWith wants a *ServerError.
func refusedWith(command, text string) func(t *testing.T, err error) {
	return func(t *testing.T, err error) {
		t.Helper()
		var refused *ServerError
		if !errors.As(err, &refused) || refused.Command != command || refused.Text != text {
			t.Errorf("error %v, want a ServerError of %q: %q", err, command, text)
		}
	}
}

// refusedTwice wants two refusals, the final one first.
func refusedTwice(final, earlier string) func(t *testing.T, err error) {
	return func(t *testing.T, err error) {
		t.Helper()
		if want := "pop3: " + final + "\npop3: " + earlier; err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if refused := new(ServerError); !errors.As(err, &refused) || refused.Error() != "pop3: "+final {
			t.Errorf("the first is %v, want %s", refused, final)
		}
	}
}

func failsWith(target error) func(t *testing.T, err error) {
	return func(t *testing.T, err error) {
		t.Helper()
		wantError(t, err, target)
	}
}

// wantProtocolError wants a *ProtocolError, and returns it.
func wantProtocolError(t testing.TB, err error) *ProtocolError {
	t.Helper()
	var protocol *ProtocolError
	if !errors.As(err, &protocol) {
		t.Errorf("error %v, want a ProtocolError", err)
		return new(ProtocolError)
	}
	return protocol
}

func TestLogin(t *testing.T) {
	allow := Options{AllowInsecureLogin: true}
	for _, test := range []struct {
		name       string
		opts       Options
		transcript string
		check      func(t *testing.T, err error) // nil: success
	}{
		{"APOP", Options{}, `
			S: +OK POP3 server ready ` + rfcChallenge + `
			C: CAPA
			S: -ERR what
			C: APOP mrose ` + rfcDigest + `
			S: +OK maildrop has 1 message (369 octets)`, nil},
		{"APOP before STLS and USER", allow, `
			S: +OK ` + rfcChallenge + `
			C: CAPA
			S: +OK
			S: STLS
			S: USER
			S: .
			C: APOP mrose ` + rfcDigest + `
			S: +OK`, nil},
		{"APOP refused is final", allow, `
			S: +OK ` + rfcChallenge + `
			C: CAPA
			S: +OK
			S: USER
			S: .
			C: APOP mrose ` + rfcDigest + `
			S: -ERR permission denied`, refusedWith("APOP mrose ****", "permission denied")},
		{"no msg-id: APOP", Options{}, `
			S: +OK <no-at-sign>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: +OK`, nil},
		{"no msg-id: APOP refused, on to USER", allow, `
			S: +OK SESSIONID=<cyrus-1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"no msg-id, and STLS is listed: no APOP", Options{}, `
			S: +OK <1234>
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"no msg-id, and encrypted: no APOP", Options{}, `
			!tls
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"no msg-id: APOP refused, and nothing secure", Options{}, `
			S: +OK <1234>
			C: CAPA
			S: +OK
			S: .
			C* APOP mrose 
			S: -ERR [AUTH] wrong`, func(t *testing.T, err error) {
			wantError(t, err, ErrInsecureLogin)
			refusedWith("APOP mrose ****", "wrong")(t, err)
			if errors.Is(err, ErrNotSent) {
				t.Errorf("error %v is an ErrNotSent", err)
			}
		}},
		{"no msg-id: APOP refused, and USER", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: USER mrose
			S: -ERR [IN-USE] locked`, refusedTwice("USER mrose: -ERR [IN-USE] locked", "APOP mrose ****: -ERR [AUTH] wrong")},
		{"no msg-id: APOP refused, and PASS", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: -ERR no`, refusedTwice("PASS ****: -ERR no", "APOP mrose ****: -ERR [AUTH] wrong")},
		{"no msg-id: APOP refused, and AUTH PLAIN", allow, `
			S: +OK <1234>
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: .
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: -ERR no`, refusedTwice("AUTH PLAIN: -ERR no", "APOP mrose ****: -ERR [AUTH] wrong")},
		{"no msg-id: APOP refused, and cut", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: USER mrose
			!close`, func(t *testing.T, err error) {
			wantError(t, err, io.ErrUnexpectedEOF)
			refusedWith("APOP mrose ****", "wrong")(t, err)
		}},
		{"blanks in a challenge", Options{}, `
			S: +OK <challenge string goes here>
			C: CAPA
			S: -ERR
			C: APOP mrose ` + blankDigest + `
			S: +OK`, nil},
		{"blanks and an @ are no msg-id", allow, `
			S: +OK <write to postmaster@example.org>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"CAPA refused, and nothing secure", Options{}, `
			S: +OK
			C: CAPA
			S: -ERR [SYS/TEMP] too busy`, func(t *testing.T, err error) {
			wantError(t, err, ErrInsecureLogin)
			refusedWith("CAPA", "too busy")(t, err)
		}},
		{"no msg-id: APOP answered with nonsense is final", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: what?
			!expect-close`, func(t *testing.T, err error) { wantProtocolError(t, err) }},
		{"a challenge that is not printable ASCII is none", allow, `
			S: +OK <1896\xe4@host>
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"STLS", Options{}, `
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: +OK
			S: USER
			S: SASL PLAIN
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"STLS even where login in the clear is allowed", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"STLS refused is final", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: STLS
			S: -ERR [SYS/TEMP] no certificate`, refusedWith("STLS", "no certificate")},
		{"the capabilities under TLS count", Options{}, `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: +OK
			S: SASL LOGIN plain
			S: .
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: +OK`, nil},
		{"encrypted from the first octet", Options{}, `
			!tls
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"in the clear, no CAPA", allow, `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"USER rather than PLAIN", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: USER
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"neither USER nor PLAIN is listed", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL CRAM-MD5
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"PLAIN where USER is not listed", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL CRAM-MD5 PLAIN
			S: .
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: -ERR [AUTH] no`, refusedWith("AUTH PLAIN", "no")},
		{"PLAIN is answered with a challenge", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: .
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: + bW9yZT8=
			C: *
			S: -ERR cancelled`, func(t *testing.T, err error) {
			wantProtocolError(t, err)
			refusedWith("AUTH PLAIN", "cancelled")(t, err)
		}},
		{"nothing secure", Options{}, `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: SASL PLAIN
			S: .`, failsWith(ErrInsecureLogin)},
		{"USER refused", allow, `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER mrose
			S: -ERR sorry, no mailbox for mrose here`, refusedWith("USER mrose", "sorry, no mailbox for mrose here")},
		{"PASS refused", allow, `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: -ERR [in-use] maildrop locked`, func(t *testing.T, err error) {
			refusedWith("PASS ****", "maildrop locked")(t, err)
			if refused := new(ServerError); !errors.As(err, &refused) || refused.Code != CodeInUse || !refused.Temporary() {
				t.Errorf("error %v, want a temporary IN-USE", err)
			}
		}},
		{"CAPA cut", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: STL
			!close`, failsWith(io.ErrUnexpectedEOF)},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opts.TLSConfig = pop3test.TLSConfig()
			conn := pop3test.Play(t, test.transcript)
			if strings.HasPrefix(strings.TrimSpace(test.transcript), "!tls") {
				conn = tls.Client(conn, pop3test.TLSConfig())
			}
			c := connect(t, &test.opts, conn)
			err := c.Login(background, "mrose", "tanstaaf")
			if test.check != nil {
				test.check(t, err)
			} else {
				must(t, err)
			}
		})
	}
}

// closing is a mechanism in whose Next the client is closed.
type closing struct{ c *Client }

func (closing) Start() (string, []byte, error) { return "X", nil, nil }

func (m closing) Next([]byte) ([]byte, error) { return nil, m.c.Close() }

func TestCloseWithinNext(t *testing.T) {
	c := dialogue(t, nil, `
		C: AUTH X
		S: + YQ==
		!expect-close`)
	wantError(t, c.Auth(background, closing{c}), ErrClosed)
}

// panicking is a mechanism whose Next panics.
type panicking struct{}

func (panicking) Start() (string, []byte, error) { return "X", nil, nil }
func (panicking) Next([]byte) ([]byte, error)    { panic("no more") }

// What comes after a panic must not be taken for the response that the server waits for.
func TestNextPanics(t *testing.T) {
	c := dialogue(t, nil, `
		C: AUTH X
		S: + YQ==
		!expect-close`)
	func() {
		defer func() {
			if got := recover(); got != "no more" {
				t.Errorf("recovered %v", got)
			}
		}()
		c.Auth(background, panicking{})
	}()
	err := c.Noop(background)
	wantError(t, err, ErrClosed)
	if want := "pop3: NOOP: not sent: session closed: AUTH X: SASL mechanism panicked"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// TestUnaskedWithinATurn has a server say more than it was asked, between the lines of one turn: it is taken for no answer.
func TestUnaskedWithinATurn(t *testing.T) {
	t.Run("login", func(t *testing.T) {
		c := dialogue(t, &Options{AllowInsecureLogin: true}, `
			C: CAPA
			S: +OK\r\nUSER\r\n.\r\n-ERR\r\n+OK
			C: USER mrose
			S: +OK\r\n+OK logged in
			C: PASS tanstaaf
			S: -ERR no`)
		refusedWith("PASS ****", "no")(t, c.Login(background, "mrose", "tanstaaf"))
	})
	t.Run("AUTH", func(t *testing.T) {
		c := dialogue(t, nil, `
			C: AUTH CRAM-MD5
			S: + PDFAMj4=\r\n+OK logged in
			C: aGVsbG8gMTIz
			S: -ERR no`)
		refusedWith("AUTH CRAM-MD5", "no")(t, c.Auth(background, &mechanism{name: "CRAM-MD5", responses: []string{"hello 123"}}))
	})
	t.Run("batch", func(t *testing.T) {
		c := dialogue(t, &Options{NoPipelining: true}, `
			C: DELE 1
			S: +OK\r\n+OK deleted
			C: DELE 2
			S: -ERR no`)
		refusedWith("DELE 2", "no")(t, c.DeleAll(background, []int{1, 2}))
	})
	t.Run("batch, sent ahead", func(t *testing.T) {
		c := dialogue(t, nil, `
			C: CAPA
			S: +OK\r\nPIPELINING\r\n.\r\n+OK deleted
			C: DELE 1
			C: DELE 2
			S: +OK\r\n-ERR no`)
		refusedWith("DELE 2", "no")(t, c.DeleAll(background, []int{1, 2}))
	})
}

// TestLoginForgetsCapabilities: servers list more after a login, and a refused one changes nothing.
func TestLoginForgetsCapabilities(t *testing.T) {
	const list = `
		C: CAPA
		S: +OK
		S: TOP
		S: .`
	for name, test := range map[string]struct {
		transcript string
		do         func(c *Client) error
	}{
		"Login": {"C: USER u\nS: +OK\nC: PASS p\nS: ", func(c *Client) error { return c.Login(background, "u", "p") }},
		"Pass":  {"C: PASS p\nS: ", func(c *Client) error { return c.Pass(background, "p") }},
		"APOP":  {"C* APOP u \nS: ", func(c *Client) error { return c.APOP(background, "u", "p") }},
		"Auth":  {"C: AUTH X\nS: ", func(c *Client) error { return c.Auth(background, &mechanism{name: "x"}) }},
		"Cmd": {"C: pass p\nS: ", func(c *Client) error {
			_, err := c.Cmd(background, "pass", "p")
			return err
		}},
	} {
		greeting := "\nS: +OK"
		if name == "APOP" {
			greeting += " <1@2>"
		}
		t.Run(name, func(t *testing.T) {
			for _, ok := range []bool{true, false} {
				transcript := greeting + list + "\n" + test.transcript
				if ok {
					transcript += "+OK" + list
				} else {
					transcript += "-ERR"
				}
				c := script(t, Options{AllowInsecureLogin: true}, transcript)
				_, err := c.Capabilities(background)
				must(t, err)
				if err := test.do(c); (err == nil) != ok {
					t.Fatal(err)
				}
				_, err = c.Capabilities(background)
				must(t, err)
			}
		})
	}
}

func TestChallenge(t *testing.T) {
	for greeting, want := range map[string]string{
		"":                    "",
		"ready":               "",
		rfcChallenge:          rfcChallenge,
		"a " + rfcChallenge:   rfcChallenge,
		"x" + rfcChallenge:    rfcChallenge,
		rfcChallenge + ".":    rfcChallenge,
		"<a@b> <c@d>":         "<a@b>",
		"<a> <c@d>":           "<c@d>",
		"<a> <b>":             "<a>",
		"<a<b@c>":             "<b@c>",
		"<a@b":                "",
		"a@b>":                "",
		"<>":                  "",
		"< a@b>":              "< a@b>",
		"<a b>":               "<a b>",
		"<a b> <c>":           "<a b>",
		"<a b> <c@d>":         "<c@d>",
		"<a @b> <c@d>":        "<c@d>",
		"< >":                 "",
		"<a\t@b>":             "",
		"<a\x7f@b>":           "",
		"<a\x00@b>":           "",
		"<\xe4@b> <c>":        "<c>",
		"<ä@b>":               "",
		"<2eb2.1./+=@vm>":     "<2eb2.1./+=@vm>",
		"> < <<<<a@b>>>>":     "<a@b>",
		"Hello <there> user>": "<there>",
	} {
		if got := challenge(greeting); got != want {
			t.Errorf("challenge in %q: %q, want %q", greeting, got, want)
		}
	}
	c := dialogue(t, nil, " "+rfcChallenge)
	if c.Challenge() != rfcChallenge || c.Greeting() != "ready "+rfcChallenge {
		t.Errorf("greeting %q, challenge %q", c.Greeting(), c.Challenge())
	}
}

// A server that refuses CAPA may support STLS after all; how it refused may tell.
func TestStartTLSAfterRefusedCAPA(t *testing.T) {
	c := dialogue(t, nil, `
		C: CAPA
		S: -ERR [SYS/TEMP] too busy
		C: CAPA
		S: +OK
		S: .`)
	err := c.StartTLS(background, nil)
	wantError(t, err, ErrTLSNotSupported)
	refusedWith("CAPA", "too busy")(t, err)
	_, err = c.RefreshCapabilities(background)
	must(t, err)
	if err := c.StartTLS(background, nil); err != ErrTLSNotSupported {
		t.Errorf("error %v", err)
	}
}

func TestInsecure(t *testing.T) {
	plain := func(name string) SASL { return &mechanism{name: name, initial: []byte("\x00u\x00p")} }
	for name, do := range map[string]func(c *Client) error{
		"Pass":        func(c *Client) error { return c.Pass(background, "p") },
		"Cmd PASS":    func(c *Client) error { _, err := c.Cmd(background, "Pass", "p"); return err },
		"PLAIN":       func(c *Client) error { return c.Auth(background, plain("PLAIN")) },
		"plain":       func(c *Client) error { return c.Auth(background, plain("plain")) },
		"LOGIN":       func(c *Client) error { return c.Auth(background, plain("LOGIN")) },
		"OAUTHBEARER": func(c *Client) error { return c.Auth(background, plain("OAUTHBEARER")) },
		"XOAUTH2":     func(c *Client) error { return c.Auth(background, XOAUTH2("u", "p")) },
	} {
		t.Run(name, func(t *testing.T) {
			c := dialogue(t, nil, `
				C: NOOP
				S: +OK`)
			wantError(t, do(c), ErrInsecureLogin, ErrNotSent)
			must(t, c.Noop(background)) // nothing else was sent
		})
	}
	t.Run("a mechanism that hides the secret", func(t *testing.T) {
		c := dialogue(t, nil, `
			C: AUTH CRAM-MD5
			S: + PDFAMj4=
			C: aGVsbG8gMTIz
			S: +OK`)
		must(t, c.Auth(background, &mechanism{name: "CRAM-MD5", responses: []string{"hello 123"}}))
	})
}

func TestAPOP(t *testing.T) {
	c := dialogue(t, nil, " "+rfcChallenge+`
		C: APOP mrose `+rfcDigest+`
		S: -ERR
		C: APOP mrose `+rfcDigest+`
		S: +OK`)
	refusedWith("APOP mrose ****", "")(t, c.APOP(background, "mrose", "tanstaaf"))
	must(t, c.APOP(background, "mrose", "tanstaaf"))

	c = dialogue(t, nil, "")
	if err := c.APOP(background, "mrose", "tanstaaf"); err == nil || isServerError(err) {
		t.Errorf("without a challenge: %v", err)
	}
}
