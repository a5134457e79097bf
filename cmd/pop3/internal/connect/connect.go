// Package connect opens POP3 sessions for the accounts of a configuration: over proxies and TLS, with passwords and
// tokens from where the account says.
package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// A Connector opens sessions of one account. It is safe for concurrent use.
type Connector struct {
	Account *config.Account

	Password  string                                                   // used if the account has no source of a password
	Ask       func(ctx context.Context, prompt string) (string, error) // asks the user for a password; nil if no user is there
	Tell      func(format string, args ...any)                         // asks the user to do something; nil if no user is there
	TokenFile string                                                   // file for OAuth tokens
	Warn      func(format string, args ...any)                         // reports questionable settings
	Debug     io.Writer                                                // of the transcript, or nil
	Logger    *slog.Logger                                             // or nil
	TLS       *tls.Config                                              // to begin with, or nil

	mu         sync.Mutex
	secret     string // from a source that is not asked twice
	warned     bool
	loginDelay time.Duration
}

// A SetupError reports that the account cannot be used as it is configured. Connecting again does not help.
type SetupError struct{ Err error }

func (e *SetupError) Error() string { return e.Err.Error() }
func (e *SetupError) Unwrap() error { return e.Err }

// Is makes a Fetcher give up.
func (e *SetupError) Is(target error) bool { return target == fetch.ErrServer }

func setupError(format string, args ...any) error { return &SetupError{fmt.Errorf(format, args...)} }

// defaultTimeout bounds connecting, and each silence of the server.
const defaultTimeout = 2 * time.Minute

// Prepare obtains the password if the user has to be asked for it.
func (c *Connector) Prepare(ctx context.Context) error {
	if c.Account.Secret.IsZero() && c.Account.Auth != "external" {
		_, err := c.credential(ctx, false)
		return err
	}
	return nil
}

// Dial opens a session and logs in. A token that the server refuses is renewed once.
func (c *Connector) Dial(ctx context.Context) (*pop3.Client, error) {
	for renew := false; ; renew = true {
		client, err := c.Connect(ctx)
		if err != nil {
			return nil, err
		}
		if err = c.login(ctx, client, renew); err == nil {
			c.noteLoginDelay(ctx, client)
			return client, nil
		}
		client.Close()
		if renew || !c.Account.Secret.IsToken() || !refused(err) {
			return nil, err
		}
	}
}

// noteLoginDelay keeps the LOGIN-DELAY that the server announces (RFC 2449, section 6.5).
func (c *Connector) noteLoginDelay(ctx context.Context, client *pop3.Client) {
	caps, err := client.Capabilities(ctx)
	if err != nil {
		return // the next command fails too
	}
	var delay time.Duration
	if params := caps["LOGIN-DELAY"]; len(params) > 0 {
		if seconds, err := strconv.ParseUint(params[0], 10, 31); err == nil {
			delay = min(time.Duration(seconds)*time.Second, maxLoginDelay)
		}
	}
	c.mu.Lock()
	c.loginDelay = delay
	c.mu.Unlock()
}

// maxLoginDelay limits the delay that a server can demand.
const maxLoginDelay = 24 * time.Hour

// LoginDelay returns the time that the server wants between two logins, as far as it is known.
func (c *Connector) LoginDelay() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loginDelay
}

// Connect opens a session, encrypted unless the account permits otherwise, and does not log in.
func (c *Connector) Connect(ctx context.Context) (*pop3.Client, error) {
	a := c.Account
	timeout := a.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	config, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	dialer, err := c.dialer()
	if err != nil {
		return nil, err
	}
	opts := &pop3.Options{
		TLSConfig:          config,
		Dialer:             dialer,
		Timeout:            timeout,
		AllowInsecureLogin: a.Insecure,
		DebugWriter:        c.Debug,
		Logger:             c.Logger,
	}
	dial, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	client, err := c.connect(dial, opts)
	if err != nil && context.Cause(dial) == errTimeout {
		err = fmt.Errorf("%s: %w after %v", a.Addr(), errTimeout, timeout)
	}
	return client, err
}

var errTimeout = errors.New("connecting timed out")

func (c *Connector) connect(ctx context.Context, opts *pop3.Options) (*pop3.Client, error) {
	addr := c.Account.Addr()
	if c.Account.TLS {
		return pop3.DialTLS(ctx, addr, opts)
	}
	if !c.Account.Insecure {
		return pop3.DialStartTLS(ctx, addr, opts)
	}
	client, err := pop3.Dial(ctx, addr, opts)
	if err != nil {
		return nil, err
	}
	// Login would do so too, but not if it can use APOP: the messages are worth encrypting as well.
	err = client.StartTLS(ctx, nil)
	if errors.Is(err, pop3.ErrTLSNotSupported) {
		c.warnInsecure()
		return client, nil
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

func (c *Connector) warnInsecure() {
	c.mu.Lock()
	warned := c.warned
	c.warned = true
	c.mu.Unlock()
	if !warned {
		c.warn("the server does not offer STLS: everyone on the network path can read along")
	}
}

func (c *Connector) warn(format string, args ...any) {
	if c.Warn != nil {
		c.Warn(format, args...)
	}
}

// dialer returns a dialer that connects to the server directly, or through the proxy of the account.
func (c *Connector) dialer() (contextDialer, error) {
	direct := &net.Dialer{}
	if c.Account.Proxy == "" {
		return direct, nil
	}
	return newProxy(c.Account.Proxy, direct, c.TLS)
}

// refused reports whether the server has refused a login for good.
func refused(err error) bool {
	var e *pop3.ServerError
	return errors.As(err, &e) && !e.Temporary()
}
