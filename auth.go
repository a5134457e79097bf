package pop3

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Login logs in by the best way there is, in one turn: by APOP where the greeting had a challenge; else over TLS, with STLS if
// need be and the server lists it; with USER and PASS, or AUTH PLAIN where the server lists that and not USER. Without a way that
// hides the password it says ErrInsecureLogin and sends none, unless Options.AllowInsecureLogin is set.
//
// A challenge that is no msg-id (it has no "@") may be none at all, so after an -ERR to it the other ways are tried.
// Any other refusal is final. A challenge that came before STLS is forgotten with it.
func (c *Client) Login(ctx context.Context, user, password string) error {
	if err := checkText("login", user, password); err != nil {
		return err
	}
	return c.s.do(ctx, "login", func(h *lease) error { return c.login(h, user, password) })
}

func (c *Client) login(h *lease, user, password string) error {
	caps, err := c.knownCapabilities(h)
	if err != nil {
		return err
	}
	if challenge := c.Challenge(); challenge != "" {
		err := c.apop(h, user, password, challenge)
		if !isServerError(err) || strings.Contains(challenge, "@") {
			return err
		}
	}
	if !c.s.conn.encrypted() && caps.Has("STLS") {
		if err := c.startTLS(h, nil); err != nil {
			return err
		}
		if caps, err = c.askCapabilities(h); err != nil {
			return err
		}
	}
	if !c.mayShowSecrets() {
		return commandFailed(h.name, ErrInsecureLogin)
	}
	if caps.hasMechanism("PLAIN") && !caps.Has("USER") {
		return c.auth(h, "PLAIN", []byte("\x00"+user+"\x00"+password), nil)
	}
	if _, err := c.s.ask(h, "USER "+user, "USER "+user); err != nil {
		return err
	}
	return c.pass(h, password)
}

// User names the mailbox; Pass must follow.
func (c *Client) User(ctx context.Context, name string) error {
	if err := checkText("USER", name); err != nil {
		return err
	}
	_, err := c.s.cmd(ctx, "USER "+name)
	return err
}

// Pass gives the password for User. On a connection that is not encrypted it says ErrInsecureLogin and sends nothing,
// unless Options.AllowInsecureLogin is set.
func (c *Client) Pass(ctx context.Context, password string) error {
	if err := checkText("PASS", password); err != nil {
		return err
	}
	return c.s.do(ctx, "PASS", func(h *lease) error {
		if !c.mayShowSecrets() {
			return notSent("PASS", ErrInsecureLogin)
		}
		return c.pass(h, password)
	})
}

func (c *Client) pass(h *lease, password string) error {
	c.s.conn.keepSecret(password)
	_, err := c.s.ask(h, "PASS "+password, "PASS ****")
	return c.loggedIn(err)
}

// APOP logs in with a digest of the greeting's challenge and a shared secret (RFC 1939, section 7). Without a challenge
// nothing is sent. MD5 is weak: it hides the secret from who listens, not from who can search for it.
func (c *Client) APOP(ctx context.Context, user, secret string) error {
	if err := checkText("APOP", user, secret); err != nil {
		return err
	}
	return c.s.do(ctx, "APOP", func(h *lease) error {
		challenge := c.Challenge()
		if challenge == "" {
			return invalidArgument("APOP", "no challenge in the greeting")
		}
		return c.apop(h, user, secret, challenge)
	})
}

func (c *Client) apop(h *lease, user, secret, challenge string) error {
	sum := md5.Sum([]byte(challenge + secret))
	digest := hex.EncodeToString(sum[:])
	c.s.conn.keepSecret(secret, digest)
	_, err := c.s.ask(h, "APOP "+user+" "+digest, "APOP "+user+" ****")
	return c.loggedIn(err)
}

// loggedIn forgets the capabilities after a login: servers list more then.
func (c *Client) loggedIn(err error) error {
	if err == nil {
		c.setCapabilities(nil)
	}
	return err
}

// challenge returns the APOP timestamp in a greeting: the first <...> of printable ASCII, preferably one with an "@".
func challenge(greeting string) (found string) {
	for {
		start := strings.IndexByte(greeting, '<')
		if start < 0 {
			return found
		}
		greeting = greeting[start:]
		end := strings.IndexByte(greeting, '>')
		if end < 0 {
			return found
		}
		c := greeting[:end+1]
		if len(c) > 2 && strings.LastIndexByte(c, '<') == 0 && strings.IndexFunc(c, func(r rune) bool { return r <= ' ' || r > '~' }) < 0 {
			if strings.Contains(c, "@") {
				return c
			}
			if found == "" {
				found = c
			}
		}
		greeting = greeting[1:]
	}
}

// StartTLS goes over to TLS (RFC 2595). config nil means that of the options. Anything that arrives between the server's
// +OK and the handshake is an injection: a *ProtocolError, and the connection is closed. What was known of the server is forgotten.
func (c *Client) StartTLS(ctx context.Context, config *tls.Config) error {
	return c.s.do(ctx, "STLS", func(h *lease) error {
		if c.s.conn.encrypted() {
			return invalidArgument("STLS", "connection is already encrypted")
		}
		caps, err := c.knownCapabilities(h)
		if err != nil {
			return err
		}
		if !caps.Has("STLS") {
			return ErrTLSNotSupported
		}
		return c.startTLS(h, config)
	})
}

func (c *Client) startTLS(h *lease, config *tls.Config) error {
	config = c.tlsConfig(config)
	if config.ServerName == "" && !config.InsecureSkipVerify {
		return commandFailed("STLS", errors.New("server name unknown: set ServerName in the TLS config"))
	}
	if _, err := c.s.ask(h, "STLS", "STLS"); err != nil {
		return err
	}
	if n := c.s.conn.buffered(); n > 0 {
		return c.s.fail(h, &ProtocolError{Command: "STLS", Reason: fmt.Sprintf("%d unexpected bytes before the TLS handshake", n)})
	}
	c.setCapabilities(nil)
	c.mu.Lock()
	c.challenge = ""
	c.mu.Unlock()
	c.s.answering(h, "TLS handshake")
	if err := c.s.conn.startTLS(h.ctx, config); err != nil {
		return c.s.fail(h, err)
	}
	return nil
}

// mayShowSecrets reports whether a password may be sent as it is.
func (c *Client) mayShowSecrets() bool { return c.s.conn.encrypted() || c.opts.AllowInsecureLogin }
