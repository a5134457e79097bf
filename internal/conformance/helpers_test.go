package conformance

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var background = context.Background()

// The example of RFC 1939, section 7, whose secret is "tanstaaf".
const (
	rfcChallenge = "<1896.697170952@dbc.mtview.ca.us>"
	rfcDigest    = "c4c9334bac560ecc979e58001b3e22fb"
)

// listSTLS is the part of a transcript in which the server lists STLS and receives it.
const listSTLS = `
	C: CAPA
	S: +OK
	S: STLS
	S: .
	C: STLS
`

// dialogue connects a client to a server that sends a greeting and then follows a transcript.
func dialogue(t testing.TB, opts *pop3.Options, transcript string) *pop3.Client {
	t.Helper()
	return connect(t, opts, pop3test.Play(t, "S: +OK ready"+transcript))
}

// script is dialogue with the greeting in the transcript. The client trusts the certificate of !tls.
func script(t testing.TB, opts pop3.Options, transcript string) *pop3.Client {
	t.Helper()
	opts.TLSConfig = pop3test.TLSConfig()
	return connect(t, &opts, pop3test.Play(t, transcript))
}

// served connects a client to a server and logs in.
func served(t testing.TB, srv *pop3test.Server) *pop3.Client {
	t.Helper()
	t.Cleanup(srv.Close)
	srv.STLS = false
	c := connect(t, &pop3.Options{AllowInsecureLogin: true}, srv.Pipe())
	must(t, c.Login(background, "user", "secret"))
	return c
}

// connect starts a session that ends with the test.
func connect(t testing.TB, opts *pop3.Options, conn net.Conn) *pop3.Client {
	t.Helper()
	c, err := pop3.NewClient(background, conn, opts)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// must stops the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err matches all of the targets.
func wantError(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("error %v, want one that is %q", err, target)
		}
	}
}

// wantRefusal checks that err is a *pop3.ServerError.
func wantRefusal(t testing.TB, err error, command, text string) {
	t.Helper()
	var refused *pop3.ServerError
	if !errors.As(err, &refused) || refused.Command != command || refused.Text != text {
		t.Errorf("error %v, want a ServerError of %q: %q", err, command, text)
	}
}

// readAll checks that the message is complete and equal to text. It may be called from any goroutine.
func readAll(t testing.TB, m *pop3.Message, err error, text string) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	got, err := io.ReadAll(m)
	if err != nil || string(got) != text {
		t.Errorf("message %d reads %q, %v; want %q", m.Number, got, err, text)
	}
}
