package pop3

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SASL is one authentication exchange, seen from the client (RFC 5034). It has the shape of
// github.com/emersion/go-sasl's Client: every mechanism of that module fits.
type SASL interface {
	// Start returns the mechanism's name and its initial response: nil for none, which is not the same as an empty one.
	Start() (mechanism string, initial []byte, err error)
	// Next answers a challenge. An error cancels the exchange.
	Next(challenge []byte) (response []byte, err error)
}

const (
	maxAuthLine   = 255 // RFC 5034, section 4, CRLF included
	maxChallenges = 100
)

// showsSecret lists the mechanisms that send the secret itself.
var showsSecret = []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"}

// Auth logs in with a SASL mechanism (AUTH, RFC 5034), in one turn. One that shows the secret (PLAIN, LOGIN, XOAUTH2, OAUTHBEARER)
// is refused on a connection that is not encrypted, like Pass. An error of mech, or a challenge that is no base64, cancels the exchange
// and leaves the session usable; the error joins it with the server's answer.
func (c *Client) Auth(ctx context.Context, mech SASL) error {
	name, initial, err := mech.Start()
	if err != nil {
		return notSent("AUTH", err)
	}
	name = strings.ToUpper(name)
	if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return invalidArgument("AUTH", fmt.Sprintf("invalid mechanism name %q", name))
	}
	return c.s.do(ctx, "AUTH "+name, func(h *lease) error {
		if slices.Contains(showsSecret, name) && !c.mayShowSecrets() {
			return notSent("AUTH "+name, ErrInsecureLogin)
		}
		return c.auth(h, name, initial, mech.Next)
	})
}

// auth is the exchange. next is nil for a mechanism without challenges.
func (c *Client) auth(h *lease, name string, initial []byte, next func([]byte) ([]byte, error)) error {
	shown := "AUTH " + name
	line := shown
	unsent := initial != nil
	if unsent {
		c.keepResponse(name, initial)
		response := "="
		if len(initial) > 0 {
			response = base64.StdEncoding.EncodeToString(initial)
		}
		if len(line)+len(" ")+len(response)+len("\r\n") <= maxAuthLine {
			line, unsent = line+" "+response, false
		}
	}
	if err := c.s.ready(h, shown); err != nil {
		return err
	}
	show := shown
	if line != shown {
		show += " ****"
	}
	if err := c.s.conn.send(line, show); err != nil {
		return c.s.fail(h, err)
	}
	var failure string // the error challenge
	for n := 0; ; n++ {
		word, text, err := c.s.conn.reply()
		switch {
		case err != nil:
			return c.s.refuse(h, shown, text, err)
		case word == "-ERR":
			e := serverError(shown, text)
			e.Detail = c.s.conn.redact(failure)
			return e
		case word == "+OK" && !unsent:
			return c.loggedIn(nil)
		}
		var response []byte
		switch {
		case unsent: // also after a +OK where + is due
			response, unsent = initial, false
		case n == maxChallenges:
			return c.cancel(h, shown, &ProtocolError{Command: shown, Reason: "too many challenges"})
		default:
			challenge, err := base64.StdEncoding.DecodeString(text)
			if err != nil || strings.Contains(text, "\r") { // the decoder skips a CR
				return c.cancel(h, shown, &ProtocolError{Command: shown, Line: c.s.conn.quoted([]byte(text)), Reason: "challenge is not base64"})
			}
			if name == "XOAUTH2" || name == "OAUTHBEARER" {
				failure = string(challenge)
			}
			if next == nil {
				return c.cancel(h, shown, &ProtocolError{Command: shown, Line: c.s.conn.quoted(challenge), Reason: "unexpected challenge"})
			}
			response, err = c.consult(h, next, challenge)
			if broken := c.s.resume(h); broken != nil {
				return broken
			}
			if err != nil {
				e := c.cancel(h, shown, commandFailed(shown, err))
				var refused *ServerError
				if errors.As(e, &refused) {
					refused.Detail = c.s.conn.redact(failure)
				}
				return e
			}
			c.keepResponse(name, response)
		}
		if err := c.s.conn.send(base64.StdEncoding.EncodeToString(response), "****"); err != nil {
			return c.s.fail(h, err)
		}
	}
}

// consult asks the mechanism, which may ask a person. One that panics leaves the server waiting for a response, which the next
// command must not become.
func (c *Client) consult(h *lease, next func([]byte) ([]byte, error), challenge []byte) (response []byte, err error) {
	c.s.park(h)
	returned := false
	defer func() {
		if !returned {
			c.s.shut(commandFailed(h.name, errors.New("SASL mechanism panicked")))
		}
	}()
	response, err = next(challenge)
	returned = true
	return response, err
}

// cancel ends the exchange, because of cause, and joins the server's answer to it.
func (c *Client) cancel(h *lease, shown string, cause error) error {
	if err := c.s.conn.send("*", "*"); err != nil {
		return errors.Join(cause, c.s.fail(h, err))
	}
	text, err := c.s.answer(h, shown)
	if err == nil { // logged in after all, or out of step
		err = c.s.fail(h, &ProtocolError{Command: shown, Line: c.s.conn.quoted([]byte(text)), Reason: "+OK to a canceled exchange"})
	}
	return errors.Join(cause, err)
}

// keepResponse notes what in a response is secret.
func (c *Client) keepResponse(mechanism string, response []byte) {
	s := string(response)
	secret := s
	switch mechanism {
	case "PLAIN":
		secret = s[strings.LastIndexByte(s, 0)+1:]
	case "XOAUTH2", "OAUTHBEARER":
		_, secret, _ = strings.Cut(s, "auth=Bearer ")
		secret, _, _ = strings.Cut(secret, "\x01")
	case "CRAM-MD5":
		secret = s[strings.LastIndexByte(s, ' ')+1:]
	}
	c.s.conn.keepSecret(s, secret)
}

// XOAUTH2 is the mechanism of Google and Microsoft for OAuth 2.0 bearer tokens.
func XOAUTH2(user, token string) SASL { return &xoauth2{user, token} }

type xoauth2 struct{ user, token string }

func (x *xoauth2) Start() (string, []byte, error) {
	if strings.ContainsAny(x.user+x.token, "\x01\r\n\x00") {
		return "", nil, errors.New("control character in the user name or the token")
	}
	return "XOAUTH2", []byte("user=" + x.user + "\x01auth=Bearer " + x.token + "\x01\x01"), nil
}

// Next answers the error challenge with nothing, as the server waits for that before its -ERR.
func (x *xoauth2) Next([]byte) ([]byte, error) { return nil, nil }
