package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/internal/dovecot"
)

// If the mailbox is locked, the second login waits and is then refused with [IN-USE].
func TestDovecotLock(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	t.Parallel()
	s := dovecot.Start(t, dovecot.Options{LockSession: true})
	first, err := session(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = session(t, s, nil)
	if refused, ok := as[*pop3.ServerError](err); !ok || refused.Code != pop3.CodeInUse || !refused.Temporary() {
		t.Errorf("second login: %v, want [IN-USE]", err)
	}
	if err := first.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := session(t, s, nil); err != nil {
		t.Error(err)
	}
}

// If TLS is required, CAPA lists SASL without mechanisms, a password without TLS is refused, and Login uses STLS.
func TestDovecotTLSRequired(t *testing.T) {
	t.Parallel()
	s := dovecot.Start(t, dovecot.Options{Settings: "ssl = required\ndisable_plaintext_auth = yes\nauth_mechanisms = plain\n"})
	// Dovecot considers connections from its own address secure.
	elsewhere := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := pop3.Dial(t.Context(), s.Addr, &pop3.Options{Dialer: elsewhere, TLSConfig: s.TLSConfig(), AllowInsecureLogin: true})
	if err != nil {
		t.Skip(err) // some systems have no 127.0.0.2
	}
	defer c.Close()
	caps, err := c.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !caps.Has("SASL") || len(caps["SASL"]) > 0 || caps.Has("USER") {
		t.Errorf("capabilities %v, want SASL without mechanisms and no USER", caps)
	}
	if refused, ok := as[*pop3.ServerError](c.User(t.Context(), "u1")); !ok || refused.Code != pop3.CodeAuth {
		t.Errorf("USER without TLS: %v, want [AUTH]", refused)
	}
	if err := c.Login(t.Context(), "u1", s.Password("u1")); err != nil {
		t.Fatal(err)
	}
	if _, secure := c.TLSConnectionState(); !secure {
		t.Error("logged in without TLS")
	}
}

// The server is killed in the middle of a message, and in the middle of a session.
func TestDovecotKilled(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*dovecot.Server){"stopped": (*dovecot.Server).Stop, "killed": (*dovecot.Server).Kill} {
		t.Run(name, func(t *testing.T) {
			s := dovecot.Start(t, dovecot.Options{})
			s.DeliverFunc("u1", 1, func(w io.Writer, _ int) error {
				_, err := w.Write(make([]byte, 64<<20))
				return err
			})
			idle, err := session(t, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			c, err := session(t, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := c.Retr(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			end(s)
			if n, err := io.Copy(io.Discard, m); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes and %v, want io.ErrUnexpectedEOF", n, err)
			}
			err = idle.Noop(t.Context())
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, pop3.ErrClosed) {
				t.Errorf("NOOP: %v", err)
			}
			t.Log(err)
			if err := idle.Noop(t.Context()); !errors.Is(err, pop3.ErrClosed) {
				t.Errorf("NOOP again: %v", err)
			}
		})
	}
}

// A session is lost while commands are queued: each of them returns an error.
func TestDovecotKilledWithWaiters(t *testing.T) {
	t.Parallel()
	s := dovecot.Start(t, dovecot.Options{})
	s.DeliverFunc("u1", 1, func(w io.Writer, _ int) error {
		_, err := w.Write(make([]byte, 64<<20))
		return err
	})
	c, err := session(t, s, &pop3.Options{StallTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Retr(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	errs := make(chan error)
	for range 3 {
		go func() { errs <- c.Noop(context.Background()) }()
	}
	s.Kill()
	go io.Copy(io.Discard, m)
	for range 3 {
		select {
		case err := <-errs:
			if !errors.Is(err, pop3.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a command still waits")
		}
	}
}

// session logs u1 in over TLS.
func session(t *testing.T, s *dovecot.Server, opts *pop3.Options) (*pop3.Client, error) {
	o := pop3.Options{}
	if opts != nil {
		o = *opts
	}
	o.TLSConfig = s.TLSConfig()
	c, err := pop3.DialTLS(t.Context(), s.TLSAddr, &o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c, c.Login(t.Context(), "u1", s.Password("u1"))
}
