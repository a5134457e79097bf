package pop3

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SASL is the client's side of an authentication exchange (RFC 5034). It has the same methods as the Client interface
// of github.com/emersion/go-sasl, so every client mechanism of that module implements it.
//
// A mechanism may have another method, Done() bool. If it returns false when the server reports success, the exchange
// is not complete: with SCRAM, the server has not proved that it knows the secret. Auth then fails and closes the
// session.
type SASL interface {
	// Start returns the mechanism name and the initial response. A nil response means that there is none; an empty,
	// non-nil response is sent as "=".
	Start() (mechanism string, initial []byte, err error)
	// Next returns the response to a challenge. An error cancels the exchange.
	Next(challenge []byte) (response []byte, err error)
}

const (
	maxAuthLine   = 255 // RFC 5034, section 4, CRLF included
	maxChallenges = 100
)

// showsSecret lists the mechanisms that transmit the secret.
var showsSecret = []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"}

// Auth authenticates with a SASL mechanism (RFC 5034). A mechanism that transmits the secret (PLAIN, LOGIN, XOAUTH2,
// OAUTHBEARER) is refused on a connection that is not encrypted, as in [Client.Pass]. If mech fails, or a challenge is
// not valid base64, the exchange is canceled and the session remains usable; the error wraps both the cause and the
// server's response.
func (c *Client) Auth(ctx context.Context, mech SASL) error {
	name, initial, err := mech.Start()
	if err != nil {
		return c.s.refused(ctx, notSent("AUTH", err))
	}
	name = strings.ToUpper(name)
	if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return c.s.refused(ctx, invalidArgument("AUTH", fmt.Sprintf("invalid mechanism name %q", name)))
	}
	return c.s.do(ctx, "AUTH "+name, func(h *lease) error {
		if slices.Contains(showsSecret, name) && !c.mayShowSecrets() {
			return notSent("AUTH "+name, ErrInsecureLogin)
		}
		return c.auth(h, name, initial, mech)
	})
}

// auth runs an exchange. mech is nil if there are no challenges.
func (c *Client) auth(h *lease, name string, initial []byte, mech SASL) error {
	x := &exchange{c: c, h: h, name: name, shown: "AUTH " + name, mech: mech}
	if initial != nil {
		x.keepSecrets("", initial)
	}
	unsent, err := x.start(initial)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		word, text, err := c.s.conn.reply()
		c.s.answered(h)
		switch {
		case err != nil:
			return c.s.fail(h, err)
		case word == "-ERR":
			refused := c.s.conn.serverError(x.shown, text)
			refused.Detail = c.s.conn.redact(x.failure)
			return refused
		case word == "+OK" && !unsent:
			return x.succeed(text)
		}
		response := initial
		switch {
		case unsent: // also after a +OK instead of +
			unsent = false
		case n == maxChallenges:
			return x.cancel(&ProtocolError{Command: x.shown, Reason: "too many challenges"})
		default:
			if response, err = x.respond(text); err != nil {
				return err
			}
		}
		if err := x.send(base64.StdEncoding.EncodeToString(response), hidden); err != nil {
			return err
		}
	}
}

// exchange is one AUTH command.
type exchange struct {
	c       *Client
	h       *lease
	name    string // of the mechanism
	shown   string // the command
	mech    SASL
	failure string // the error challenge of XOAUTH2 and OAUTHBEARER, decoded
	steps   int    // responses so far
}

// start sends the AUTH line, with the initial response if there is room for it.
func (x *exchange) start(initial []byte) (unsent bool, err error) {
	line, shown := x.shown, x.shown
	if initial != nil {
		response := "="
		if len(initial) > 0 {
			response = base64.StdEncoding.EncodeToString(initial)
		}
		if unsent = len(line)+len(" ")+len(response)+len("\r\n") > maxAuthLine; !unsent {
			line += " " + response
			shown += " " + hidden
		}
	}
	if err := x.c.s.ready(x.h, x.shown); err != nil {
		return unsent, err
	}
	if err := x.c.s.conn.send(line, shown); err != nil {
		return unsent, x.c.s.fail(x.h, err)
	}
	x.c.s.wrote(x.h)
	return unsent, nil
}

// send writes a line of the exchange other than the first. Data that has arrived since the challenge is unsolicited: a
// success must not be taken for the response to a line that has not been sent.
func (x *exchange) send(line, shown string) error {
	err := x.c.s.conn.discardUnsolicited()
	if err == nil {
		err = x.c.s.conn.send(line, shown)
	}
	if err != nil {
		return x.c.s.fail(x.h, err)
	}
	return nil
}

// respond asks the mechanism for the response to a challenge. If it returns an error, the exchange has ended.
func (x *exchange) respond(text string) (response []byte, err error) {
	conn := x.c.s.conn
	challenge, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil || strings.Contains(text, "\r"): // the decoder skips a CR
		return nil, x.cancel(&ProtocolError{Command: x.shown, Line: conn.quoted([]byte(text)), Reason: "challenge is not base64"})
	case x.mech == nil:
		return nil, x.cancel(&ProtocolError{Command: x.shown, Line: conn.quoted(challenge), Reason: "unexpected challenge"})
	}
	if x.name == "XOAUTH2" || x.name == "OAUTHBEARER" {
		x.failure = string(challenge)
	}
	closed := x.consult(func() { response, err = x.mech.Next(challenge) })
	switch {
	case closed != nil:
		return nil, closed
	case err != nil:
		return nil, x.cancel(conn.failed(x.shown, err))
	}
	x.keepSecrets(string(challenge), response)
	return response, nil
}

// succeed ends an exchange after a +OK.
func (x *exchange) succeed(text string) error {
	if mech, ok := x.mech.(interface{ Done() bool }); ok {
		done := false
		if err := x.consult(func() { done = mech.Done() }); err != nil {
			return err
		}
		if !done { // the server has not authenticated itself: its responses cannot be trusted
			return x.c.s.fail(x.h, &ProtocolError{Command: x.shown, Line: x.c.s.conn.quoted([]byte("+OK " + text)), Reason: "+OK before the end of the exchange"})
		}
	}
	return x.c.loggedIn(nil)
}

// consult calls the mechanism, which may ask a person. If it panics, the server waits for a response, which the next
// command must not become. It returns an error if the session has been closed meanwhile.
func (x *exchange) consult(fn func()) error {
	x.c.s.park(x.h)
	returned := false
	defer func() {
		if !returned {
			x.c.s.shut(commandFailed(x.shown, errors.New("SASL mechanism panicked")))
		}
	}()
	fn()
	returned = true
	return x.c.s.resume(x.h)
}

// cancel cancels the exchange because of cause, and joins the server's response to it.
func (x *exchange) cancel(cause error) error {
	if err := x.send("*", "*"); err != nil {
		return errors.Join(cause, err)
	}
	text, err := x.c.s.answer(x.h, x.shown)
	refused := new(ServerError)
	switch {
	case errors.As(err, &refused):
		refused.Detail = x.c.s.conn.redact(x.failure)
	case err == nil: // logged in after all, or out of sync
		err = x.c.s.fail(x.h, &ProtocolError{Command: x.shown, Line: x.c.s.conn.quoted([]byte(text)), Reason: "+OK to a canceled exchange"})
	}
	return errors.Join(cause, err)
}

// keepSecrets adds the secrets in a response: all of it, since it could be replayed, and the proof in it.
func (x *exchange) keepSecrets(challenge string, response []byte) {
	s := string(response)
	x.steps++
	switch {
	case x.name == "PLAIN":
		x.c.s.conn.keepSecret(s[strings.LastIndexByte(s, 0)+1:])
	case x.name == "LOGIN" && x.steps == 1 && !strings.Contains(strings.ToLower(challenge), "pass"):
		return // the user name
	case x.name == "CRAM-MD5":
		x.c.s.conn.keepSecret(s[strings.LastIndexByte(s, ' ')+1:])
	case x.name == "XOAUTH2" || x.name == "OAUTHBEARER":
		x.c.s.conn.keepSecret(attribute(s, "auth=bearer ", "\x01"))
	case x.name == "DIGEST-MD5":
		x.c.s.conn.keepSecret(attribute(s, "response=", ","))
	case strings.HasPrefix(x.name, "SCRAM-"):
		proof := attribute(s, ",p=", ",")
		decoded, _ := base64.StdEncoding.DecodeString(proof)
		x.c.s.conn.keepSecret(proof, string(decoded))
	}
	x.c.s.conn.keepSecret(s)
}

// attribute returns the value in text after the last name, in any case, up to end.
func attribute(text, name, end string) string {
	for i := len(text) - len(name); i >= 0; i-- {
		if rest := text[i+len(name):]; strings.EqualFold(text[i:i+len(name)], name) {
			value, _, _ := strings.Cut(rest, end)
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// XOAUTH2 is the mechanism of Google and Microsoft for OAuth 2.0 bearer tokens.
func XOAUTH2(user, token string) SASL { return &xoauth2{user, token} }

type xoauth2 struct{ user, token string }

func (x *xoauth2) Start() (string, []byte, error) {
	if strings.ContainsAny(x.user+x.token, "\x01\r\n\x00") {
		return "", nil, commandFailed("XOAUTH2", errors.New("control character in the user name or the token"))
	}
	return "XOAUTH2", []byte("user=" + x.user + "\x01auth=Bearer " + x.token + "\x01\x01"), nil
}

// Next responds to the error challenge with an empty line, which the server awaits before it sends -ERR.
func (x *xoauth2) Next([]byte) ([]byte, error) { return nil, nil }
