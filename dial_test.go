package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// dialer records the address and returns a connection.
type dialer struct {
	network, addr string
	conn          net.Conn
	err           error
}

func (d *dialer) DialContext(_ context.Context, network, addr string) (net.Conn, error) {
	d.network, d.addr = network, addr
	return d.conn, d.err
}

func TestDialAddress(t *testing.T) {
	errRefused := errors.New("refused")
	for addr, want := range map[string]string{
		"mail.example.org":       "mail.example.org:110",
		"mail.example.org:1110":  "mail.example.org:1110",
		"mail.example.org:pop3s": "mail.example.org:pop3s",
		"mail.example.org:":      "mail.example.org:110",
		"192.0.2.1":              "192.0.2.1:110",
		"2001:db8::1":            "[2001:db8::1]:110",
		"[2001:db8::1]":          "[2001:db8::1]:110",
		"[2001:db8::1]:1110":     "[2001:db8::1]:1110",
		"":                       ":110",
	} {
		d := &dialer{err: errRefused}
		_, err := Dial(background, addr, &Options{Dialer: d})
		wantError(t, err, errRefused)
		if d.addr != want || d.network != "tcp" {
			t.Errorf("Dial(%q) dials %s %q, want %q", addr, d.network, d.addr, want)
		}
		_, err = DialStartTLS(background, addr, &Options{Dialer: d})
		wantError(t, err, errRefused)
		if d.addr != want {
			t.Errorf("DialStartTLS(%q) dials %q, want %q", addr, d.addr, want)
		}
		_, err = DialTLS(background, addr, &Options{Dialer: d})
		wantError(t, err, errRefused)
		if want := strings.TrimSuffix(want, ":110"); d.addr != want && d.addr != want+":995" {
			t.Errorf("DialTLS(%q) dials %q", addr, d.addr)
		}
	}
}

func TestDial(t *testing.T) {
	srv := pop3test.NewServer(pop3test.Messages("a\r\n"))
	defer srv.Close()
	secure := pop3test.NewTLSServer(pop3test.Messages("a\r\n"))
	defer secure.Close()
	trusting := &Options{TLSConfig: pop3test.TLSConfig()}
	trusting.TLSConfig.ServerName = "" // the address provides it
	for name, dial := range map[string]func() (*Client, error){
		"DialTLS":                  func() (*Client, error) { return DialTLS(background, secure.Addr, trusting) },
		"DialStartTLS":             func() (*Client, error) { return DialStartTLS(background, srv.Addr, trusting) },
		"Dial, with STLS at Login": func() (*Client, error) { return Dial(background, srv.Addr, trusting) },
		"NewClient on a tls.Conn": func() (*Client, error) {
			conn, err := tls.Dial("tcp", secure.Addr, pop3test.TLSConfig())
			if err != nil {
				return nil, err
			}
			return NewClient(background, conn, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := dial()
			must(t, err)
			defer c.Close()
			must(t, c.Login(background, "user", "secret"))
			if _, ok := c.TLSConnectionState(); !ok {
				t.Error("no TLS")
			}
			must(t, c.Quit(background))
		})
	}
	if trusting.TLSConfig.ServerName != "" {
		t.Error("the caller's TLS config was changed")
	}
	srv.STLS = false
	if _, err := DialStartTLS(background, srv.Addr, trusting); !errors.Is(err, ErrTLSNotSupported) {
		t.Errorf("DialStartTLS without STLS: %v", err)
	}
	if _, err := DialTLS(background, srv.Addr, trusting); err == nil {
		t.Error("DialTLS to a port without TLS: no error")
	}
}

// TestDialBounds checks that ctx applies to the handshake.
func TestDialBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		d := &dialer{conn: pop3test.Play(t, "!stall")}
		_, err := DialTLS(ctx, "localhost", &Options{Dialer: d, Timeout: -1})
		wantError(t, err, context.DeadlineExceeded)
		if d.addr != "localhost:995" {
			t.Errorf("dialed %q", d.addr)
		}
	})
}

func TestNewClientWithDoneContext(t *testing.T) {
	client, server := net.Pipe()
	_, err := NewClient(doneContext(), client, nil)
	wantError(t, err, context.Canceled)
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
}
