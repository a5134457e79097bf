package pop3

import (
	"errors"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// The example of RFC 1939, section 7.
const (
	rfcChallenge = "<1896.697170952@dbc.mtview.ca.us>"
	rfcDigest    = "c4c9334bac560ecc979e58001b3e22fb"
	blankDigest  = "6c3f5540f08ca95c793c858fec6ac037" // with the challenge of Twisted's example, which is not a msg-id
)

// script is a transcript with the greeting in it. The client's options know the certificate of !tls.
func script(t testing.TB, opts Options, transcript string) *Client {
	t.Helper()
	if opts.TLSConfig == nil {
		opts.TLSConfig = pop3test.TLSConfig()
	}
	return connect(t, &opts, pop3test.Play(t, transcript))
}

// refusedWith returns a check for a *ServerError.
func refusedWith(command, text string) func(t *testing.T, err error) {
	return func(t *testing.T, err error) {
		t.Helper()
		var refused *ServerError
		if !errors.As(err, &refused) || refused.Command != command || refused.Text != text {
			t.Errorf("error %v, want a ServerError of %q: %q", err, command, text)
		}
	}
}

func failsWith(target error) func(t *testing.T, err error) {
	return func(t *testing.T, err error) {
		t.Helper()
		wantError(t, err, target)
	}
}

// wantProtocolError fails the test unless err is a *ProtocolError, which it returns.
func wantProtocolError(t testing.TB, err error) *ProtocolError {
	t.Helper()
	var protocol *ProtocolError
	if !errors.As(err, &protocol) {
		t.Errorf("error %v, want a ProtocolError", err)
		return new(ProtocolError)
	}
	return protocol
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

// A command after a panic must not be sent as the response that the server is waiting for.
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

// TestUnsolicitedDataWithinLease has a server send unsolicited data between the lines of one exchange. It is never
// taken for a response.
func TestUnsolicitedDataWithinLease(t *testing.T) {
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

// A server that refuses CAPA may still support STLS. The error reports the refusal.
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
