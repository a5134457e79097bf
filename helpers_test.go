package pop3

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

var background = context.Background()

// probeWait is how long a connection that is not a socket is probed for unsolicited data.
const probeWait = time.Millisecond

// dialogue connects a client to a server that greets and then follows a transcript; see [pop3test.ParseScript].
func dialogue(t testing.TB, opts *Options, transcript string) *Client {
	t.Helper()
	return connect(t, opts, pop3test.Play(t, "S: +OK ready"+transcript))
}

// connect starts a session that ends with the test.
func connect(t testing.TB, opts *Options, conn net.Conn) *Client {
	t.Helper()
	c, err := NewClient(background, conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// served connects a client to a server and logs in.
func served(t testing.TB, opts *Options, srv *pop3test.Server) *Client {
	t.Helper()
	t.Cleanup(srv.Close)
	srv.STLS = false
	o := Options{}
	if opts != nil {
		o = *opts
	}
	o.AllowInsecureLogin = true
	c := connect(t, &o, srv.Pipe())
	must(t, c.Login(background, "user", "secret"))
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

// readAll checks that the message is complete and equal to text. It may be called from any goroutine.
func readAll(t testing.TB, m *Message, err error, text string) {
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

// lasted checks that the time elapsed in a bubble is want, plus the time of probes.
func lasted(t testing.TB, took, want time.Duration) {
	t.Helper()
	if took < want || took > want+5*probeWait {
		t.Errorf("took %v, want %v", took, want)
	}
}
