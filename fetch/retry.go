package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

var (
	errForgotten    = errors.New("it was not delivered, and is fetched again")
	errTooManyLost  = errors.New("the connection was lost each time at this message")
	errVolume       = errors.New("the server refuses all messages; it may limit the volume")
	errNoProgress   = errors.New("nothing was fetched or deleted")
	errQuitRefused  = errors.New("the server refused to delete")
	errNotReadToEnd = errors.New("the sink did not read the message to its end")
)

// A runError is an error of Run: one of the kinds in this package, and its cause.
type runError struct{ kind, cause error }

func (e *runError) Error() string {
	return "fetch: " + e.kind.Error() + ": " + strings.TrimPrefix(e.cause.Error(), "pop3: ")
}

func (e *runError) Unwrap() []error { return []error{e.kind, e.cause} }

// of returns err as an error of a kind, unless it has one already.
func of(kind, err error) error {
	var r *runError
	if errors.As(err, &r) {
		return err
	}
	return &runError{kind, err}
}

func sinkError(err error) error  { return of(ErrSink, err) }
func storeError(err error) error { return of(ErrStore, err) }

// A lostError is the end of a session by a failure of the connection, after which another session may succeed.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// lost marks an error of a command, unless it is of another kind.
func lost(err error) error {
	var r *runError
	if err == nil || errors.As(err, &r) {
		return err
	}
	return &lostError{err}
}

// dialError sorts an error of Dial.
func dialError(err error) error {
	for _, kind := range []error{ErrLogin, ErrServer} { // Dial has sorted it
		if errors.Is(err, kind) {
			return of(kind, err)
		}
	}
	if errors.Is(err, pop3.ErrInsecureLogin) {
		return of(ErrLogin, err)
	}
	var refusal *pop3.ServerError
	if errors.As(err, &refusal) {
		switch {
		case refusal.Temporary():
			return lost(err)
		case refusal.Code.Is(pop3.CodeSysPerm):
			return of(ErrServer, err)
		case isLoginCommand(refusal.Command):
			return of(ErrLogin, err)
		}
	}
	if errors.Is(err, pop3.ErrTLSNotSupported) || isCertificateError(err) {
		return of(ErrServer, err)
	}
	return lost(err)
}

func isLoginCommand(command string) bool {
	verb, _, _ := strings.Cut(strings.ToUpper(command), " ")
	switch verb {
	case "USER", "PASS", "APOP", "AUTH":
		return true
	}
	return false
}

func isCertificateError(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid)
}

// A backoff is the state of the retries of a run.
type backoff struct {
	Retry
	attempts int           // without progress
	login    time.Duration // the LOGIN-DELAY of the server
	last     time.Time     // of the last login
}

func newBackoff(r Retry) backoff {
	if r.Attempts == 0 {
		r.Attempts = 5
	}
	if r.MinDelay <= 0 {
		r.MinDelay = time.Second
	}
	if r.MaxDelay <= 0 {
		r.MaxDelay = 5 * time.Minute
	}
	r.MinDelay = min(r.MinDelay, r.MaxDelay)
	return backoff{Retry: r}
}

// connected notes a login, and how long the server wants to be left alone after it (RFC 2449, section 6.5).
func (b *backoff) connected(ctx context.Context, c *pop3.Client, now time.Time) {
	b.last = now
	caps, err := c.Capabilities(ctx)
	if err != nil {
		return // the next command fails too
	}
	if params := caps["LOGIN-DELAY"]; len(params) > 0 {
		if seconds, err := strconv.ParseUint(params[0], 10, 31); err == nil {
			b.login = time.Duration(seconds) * time.Second
		}
	}
}

// next returns the delay before the next session after err, and whether there is to be one. err is nil if the last session ended
// well.
func (b *backoff) next(err error, progress bool, now time.Time) (time.Duration, bool) {
	if progress {
		b.attempts = 0
	}
	var delay time.Duration
	if err != nil {
		if b.attempts++; b.attempts > b.Attempts {
			return 0, false
		}
		delay = b.MinDelay
		for range b.attempts - 1 {
			delay = min(2*delay, b.MaxDelay)
		}
		delay += time.Duration((rand.Float64() - 0.5) * float64(delay))
	}
	var refusal *pop3.ServerError
	if errors.As(err, &refusal) && refusal.Code.Is(pop3.CodeInUse) {
		delay = max(delay, min(10*time.Second, b.MaxDelay)) // the server has to notice that the last session is lost
	}
	if b.login > 0 && !b.last.IsZero() {
		wait := min(b.last.Add(b.login).Sub(now), b.login)
		if wait > b.MaxDelay {
			return 0, false
		}
		delay = max(delay, wait)
	}
	return delay, true
}

// sleep waits, and reports whether ctx is not done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
