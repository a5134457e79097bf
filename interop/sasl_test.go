package interop

import (
	"crypto/tls"
	"errors"
	"net/smtp"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/seed-5b1d5243/pop3"
	"github.com/xdg-go/scram"
)

// A mechanism logs in over c with a password, or with a token.
type mechanism struct {
	name string
	new  func(c *pop3.Client, user, secret string) pop3.SASL
}

var byPassword = []mechanism{
	{"PLAIN", func(_ *pop3.Client, user, secret string) pop3.SASL { return sasl.NewPlainClient("", user, secret) }},
	{"LOGIN", func(_ *pop3.Client, user, secret string) pop3.SASL { return sasl.NewLoginClient(user, secret) }},
	{"CRAM-MD5", func(_ *pop3.Client, user, secret string) pop3.SASL { return cramMD5{smtp.CRAMMD5Auth(user, secret)} }},
	{"SCRAM-SHA-1", newSCRAM("SCRAM-SHA-1", scram.SHA1)},
	{"SCRAM-SHA-256", newSCRAM("SCRAM-SHA-256", scram.SHA256)},
	{"SCRAM-SHA-1-PLUS", newSCRAM("SCRAM-SHA-1-PLUS", scram.SHA1)},
	{"SCRAM-SHA-256-PLUS", newSCRAM("SCRAM-SHA-256-PLUS", scram.SHA256)},
}

var byToken = []mechanism{
	{"XOAUTH2", func(_ *pop3.Client, user, secret string) pop3.SASL { return pop3.XOAUTH2(user, secret) }},
	{"OAUTHBEARER", func(_ *pop3.Client, user, secret string) pop3.SASL {
		return sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: user, Token: secret})
	}},
}

func newSCRAM(name string, hash scram.HashGeneratorFcn) func(*pop3.Client, string, string) pop3.SASL {
	return func(c *pop3.Client, user, secret string) pop3.SASL {
		client, err := hash.NewClient(user, secret, "")
		if err != nil {
			panic(err) // a user or a password that SASLprep forbids: never in these tests
		}
		conversation := client.NewConversation()
		if strings.HasSuffix(name, "-PLUS") {
			state, _ := c.TLSConnectionState()
			conversation = client.NewConversationWithChannelBinding(scram.NewTLSUniqueBinding(state.TLSUnique))
		}
		return scramSASL{name, conversation}
	}
}

// dialSASL connects over TLS as the mechanism needs it, or ends the case if the server does not list it.
func (e *env) dialSASL(name, user string) *pop3.Client {
	e.Helper()
	opts := e.options()
	if strings.HasSuffix(name, "-PLUS") {
		opts.TLSConfig.MaxVersion = tls.VersionTLS12 // the only version whose tls-unique is available in Go
	}
	if name == "EXTERNAL" && e.ClientCertificate != nil {
		opts.TLSConfig.Certificates = []tls.Certificate{e.ClientCertificate(user)}
	}
	c, err := pop3.DialTLS(e.ctx, e.TLSAddr, opts)
	e.opened(c, err)
	caps, err := c.Capabilities(e.ctx)
	e.must(err)
	if !slices.Contains(caps["SASL"], name) {
		e.lacks()
	}
	return c
}

var mechanisms = slices.Concat(
	saslCases(byPassword, testPassword),
	saslCases(byToken, testToken),
	[]testCase{
		{"EXTERNAL", func(e *env) {
			user := e.NewUser(e.T, some(1)...)
			c := e.dialSASL("EXTERNAL", user)
			e.must(c.Auth(e.ctx, sasl.NewExternalClient("")))
			if n := e.count(c); n != 1 {
				e.Errorf("%d messages, want 1", n)
			}
		}},
		{"SASL refused or given up", testRefused},
	},
)

func saslCases(list []mechanism, run func(*env, mechanism)) []testCase {
	var cases []testCase
	for _, m := range list {
		cases = append(cases, testCase{m.name, func(e *env) { run(e, m) }})
	}
	return cases
}

// testPassword logs in, once after a wrong password on the same connection.
func testPassword(e *env, m mechanism) {
	user := e.NewUser(e.T, some(1)...)
	c := e.dialSASL(m.name, user)
	refused := e.refused(c.Auth(e.ctx, m.new(c, user, "wrong")))
	e.Log(refused)
	if strings.HasSuffix(m.name, "-PLUS") {
		e.note("with tls-unique, that is up to TLS 1.2")
	}
	e.must(c.Auth(e.ctx, m.new(c, user, e.Password(user))))
	if n := e.count(c); n != 1 {
		e.Errorf("%d messages, want 1", n)
	}
	e.must(c.Quit(e.ctx))
}

// testToken logs in with short and long tokens, after a wrong one whose error challenge needs a response.
func testToken(e *env, m mechanism) {
	user := e.NewUser(e.T, some(1)...)
	c := e.dialSASL(m.name, user)
	err := c.Auth(e.ctx, m.new(c, user, "wrong"))
	if refused := e.refused(err); !strings.HasPrefix(refused.Detail, "{") {
		e.Errorf("challenge %q, want JSON", refused.Detail)
	}
	e.must(c.Auth(e.ctx, m.new(c, user, e.Token(user, 0))))
	e.must(c.Quit(e.ctx))
	for _, padding := range []int{100, 2900, 3900} { // encoded twice, this is up to 7,700 bytes
		c := e.dialSASL(m.name, user)
		if err := c.Auth(e.ctx, m.new(c, user, e.Token(user, padding))); err != nil {
			e.Errorf("padding of %d bytes: %v", padding, err)
			continue
		}
		if n := e.count(c); n != 1 {
			e.Errorf("%d messages, want 1", n)
		}
	}
}

// stubborn is a mechanism that fails after the first challenge.
type stubborn struct{ name string }

var errStubborn = errors.New("not with me")

func (s stubborn) Start() (string, []byte, error)        { return s.name, nil, nil }
func (s stubborn) Next(challenge []byte) ([]byte, error) { return nil, errStubborn }

// testRefused logs in after a mechanism that the server does not know and one that the client canceled.
func testRefused(e *env) {
	user := e.NewUser(e.T)
	c := e.dialTLS()
	e.refused(c.Auth(e.ctx, stubborn{"X-NONE"}))
	caps, err := c.Capabilities(e.ctx)
	e.must(err)
	if len(caps["SASL"]) == 0 {
		e.note("there is none")
	} else {
		err := c.Auth(e.ctx, stubborn{"CRAM-MD5"})
		if !errors.Is(err, errStubborn) {
			e.Errorf("got %v, want the mechanism's own error", err)
		}
		e.refused(err)
	}
	e.must(c.Login(e.ctx, user, e.Password(user)))
	e.must(c.Quit(e.ctx))
}
