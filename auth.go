package pop3

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Login authenticates with the first method that applies: APOP, if the greeting carried a challenge; otherwise USER
// and PASS over TLS, which is started with STLS if the server lists it; or AUTH PLAIN, also over TLS, if the server
// lists PLAIN but not USER. If the connection cannot be encrypted, Login returns [ErrInsecureLogin] and sends no
// password, unless Options.AllowInsecureLogin is set. No command of another call is sent in between.
//
// A challenge without "@", or with a blank in it, is perhaps not an APOP timestamp. APOP is then tried only if the
// connection is not encrypted and STLS is not listed, and if the server answers -ERR, the other methods follow. Any
// other refusal is final. The error wraps every refusal, the final one first. A challenge that came before STLS is
// discarded.
func (c *Client) Login(ctx context.Context, user, password string) error {
	if err := checkText("login", user, password); err != nil {
		return c.s.refused(ctx, err)
	}
	return c.s.do(ctx, "login", func(h *lease) error { return c.login(h, user, password) })
}

func (c *Client) login(h *lease, user, password string) error {
	c.s.conn.keepSecret(password) // text that the server sent earlier may contain it too
	caps, err := c.knownCapabilities(h)
	if err != nil {
		return err
	}
	encrypted := c.s.conn.encrypted()
	challenge := c.Challenge()
	var refusal error
	if isMsgID(challenge) || challenge != "" && !encrypted && !caps.Has("STLS") {
		refusal = c.apop(h, user, password, challenge)
		if !isServerError(refusal) || isMsgID(challenge) {
			return refusal
		}
	}
	if !encrypted && caps.Has("STLS") {
		if err := c.startTLS(h, nil); err != nil {
			return err
		}
		if caps, err = c.askCapabilities(h); err != nil {
			return err
		}
	}
	if !c.mayShowSecrets() {
		return joined(commandFailed(h.name, ErrInsecureLogin), refusal, c.refusedCapabilities())
	}
	if caps.hasMechanism("PLAIN") && !caps.Has("USER") {
		return joined(c.auth(h, "PLAIN", []byte("\x00"+user+"\x00"+password), nil), refusal)
	}
	if _, err := c.s.ask(h, "USER "+user, c.s.conn.redactCommand("USER "+user)); err != nil {
		return joined(err, refusal)
	}
	return joined(c.pass(h, password), refusal)
}

// User sends the user name; [Client.Pass] must follow.
func (c *Client) User(ctx context.Context, name string) error {
	if err := checkText("USER", name); err != nil {
		return c.s.refused(ctx, err)
	}
	_, err := c.s.cmd(ctx, "USER "+name)
	return err
}

// Pass sends the password after [Client.User]. If the connection is not encrypted it returns [ErrInsecureLogin] and
// sends nothing, unless Options.AllowInsecureLogin is set.
func (c *Client) Pass(ctx context.Context, password string) error {
	if err := checkText("PASS", password); err != nil {
		return c.s.refused(ctx, err)
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
	_, err := c.s.ask(h, "PASS "+password, "PASS "+hidden)
	return c.loggedIn(err)
}

// APOP authenticates with a digest of the greeting's challenge and a shared secret (RFC 1939, section 7). If the
// greeting carried no challenge, nothing is sent. APOP does not transmit the secret, but its MD5 digest is open to
// offline guessing.
func (c *Client) APOP(ctx context.Context, user, secret string) error {
	if err := checkText("APOP", user, secret); err != nil {
		return c.s.refused(ctx, err)
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
	_, err := c.s.ask(h, "APOP "+user+" "+digest, c.s.conn.redactCommand("APOP "+user)+" "+hidden)
	return c.loggedIn(err)
}

// loggedIn forgets the capabilities after a login: servers list more then.
func (c *Client) loggedIn(err error) error {
	if err == nil {
		c.setCapabilities(nil, nil)
	}
	return err
}

// isMsgID reports whether a challenge has the form of RFC 1939, section 7, so that it can be nothing else.
func isMsgID(challenge string) bool {
	return strings.Contains(challenge, "@") && !strings.Contains(challenge, " ")
}

// challenge returns the APOP timestamp in a greeting: the first <...> of printable ASCII, preferably a msg-id.
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
		printable := strings.IndexFunc(c, func(r rune) bool { return r < ' ' || r > '~' }) < 0
		if printable && strings.LastIndexByte(c, '<') == 0 && strings.Trim(c, "< >") != "" {
			if isMsgID(c) {
				return c
			}
			found = cmp.Or(found, c)
		}
		greeting = greeting[1:]
	}
}

// StartTLS upgrades the connection with STLS (RFC 2595). If config is nil, Options.TLSConfig is used. If the server
// does not list STLS, it returns [ErrTLSNotSupported]. Data received between the response and the handshake is reported
// as a [*ProtocolError] and closes the connection, and so does a handshake that fails. Cached capabilities and the
// challenge are discarded.
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
			return joined(ErrTLSNotSupported, c.refusedCapabilities())
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
	c.setCapabilities(nil, nil)
	c.mu.Lock()
	c.challenge = ""
	c.mu.Unlock()
	c.s.answering(h, "TLS handshake")
	if err := c.s.conn.startTLS(h.ctx, config); err != nil {
		return c.s.fail(h, err)
	}
	return nil
}

// mayShowSecrets reports whether a password may be sent in plaintext.
func (c *Client) mayShowSecrets() bool { return c.s.conn.encrypted() || c.opts.AllowInsecureLogin }
