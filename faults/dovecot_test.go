package faults

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/internal/dovecot"
)

// maildir lists the messages in the mailbox of a user.
func maildir(t *testing.T, srv *dovecot.Server, user string) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(srv.Maildir(user))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ":") // the flags change
		names = append(names, name)
	}
	return names
}

// throughProxy runs a complete session with Dovecot through a proxy with a fault, without or over TLS.
func throughProxy(t *testing.T, srv *dovecot.Server, user string, f fault, overTLS bool) (taken, sent int) {
	t.Helper()
	srv.Deliver(user, texts...)
	all := maildir(t, srv, user)
	addr, dial := srv.Addr, pop3.Dial
	if overTLS {
		addr, dial = srv.TLSAddr, pop3.DialTLS
	}
	p := newProxy(t, addr, f, nil)
	var dialled connections
	opts := &pop3.Options{AllowInsecureLogin: true, TLSConfig: srv.TLSConfig(), Timeout: time.Minute, Dialer: &dialled}
	if f.kind == stall {
		opts.Timeout = 300 * time.Millisecond
	}
	k := talk{user: user, secret: srv.Password(user)}
	k.open = func() (*pop3.Client, error) { return dial(background, p.addr, opts) }
	k.done = func(string) error { return nil }
	err := k.run()
	if dialled.left() > 0 {
		t.Errorf("%v: the connection is still open, after %v", f, err)
	}
	p.close()
	if err != nil && !becauseOf(f.kind, err) && !(f.kind == reset && errors.Is(err, syscall.ECONNRESET)) {
		t.Errorf("%v: %v", f, err)
	}
	if err := agrees(maildir(t, srv, user), all, k.quit, err); err != nil && !strings.Contains(err.Error(), "half committed") {
		t.Errorf("%v: %v", f, err)
	}
	return p.taken, p.sent
}

// TestDovecotFaults breaks sessions with a real server, over TCP, at bytes spread over the session.
func TestDovecotFaults(t *testing.T) {
	cases := 40
	if !testing.Short() {
		cases = 600
	}
	srv := dovecot.Start(t, dovecot.Options{Users: cases + 10})
	taken, sent := throughProxy(t, srv, "u1", fault{}, false)
	takenTLS, sentTLS := throughProxy(t, srv, "u2", fault{}, true)
	throughProxy(t, srv, "u3", fault{single: true}, false)
	throughProxy(t, srv, "u4", fault{single: true}, true)
	if t.Failed() {
		t.FailNow()
	}
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	for i := range cases {
		f := fault{kind: []kind{cut, reset, stall, halfClose}[i%4], up: i/4%2 == 1, single: i/8%2 == 1}
		overTLS := i/16%2 == 1
		octets := taken
		switch {
		case overTLS && f.up:
			octets = sentTLS
		case overTLS:
			octets = takenTLS
		case f.up:
			octets = sent
		}
		f.after = octets * i / cases
		throughProxy(t, srv, fmt.Sprint("u", i+5), f, overTLS)
	}
	nothingLeft(t, goroutines, descriptors)
	t.Logf("%d cases; the session has %d bytes of the server, %d of the client, under TLS %d and %d", cases, taken, sent, takenTLS, sentTLS)
}

// TestDovecotKilled ends a Dovecot with SIGKILL in the middle of RETR, of DELE and of QUIT.
func TestDovecotKilled(t *testing.T) {
	// More than fits into the buffers of all sockets involved.
	big := "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 500_000)
	for _, test := range []struct {
		in    string
		fault fault // when, counted from the end of the preparations
	}{
		{"RETR", fault{kind: cut, after: 1_000_000}},
		{"DELE", fault{kind: cut, up: true, after: len("DELE 2\r\n")}},
		{"QUIT", fault{kind: cut, up: true, after: len("QU")}},
		{"QUIT", fault{kind: cut, up: true, after: len("QUIT\r\n")}},
		{"QUIT", fault{kind: cut, after: len("+")}},
	} {
		t.Run(test.in, func(t *testing.T) {
			srv := dovecot.Start(t, dovecot.Options{})
			srv.Deliver("u1", big, "Subject: two\r\n\r\n", "Subject: three\r\n\r\n")
			all := maildir(t, srv, "u1")
			opts := &pop3.Options{AllowInsecureLogin: true, TLSConfig: srv.TLSConfig()}
			prepare := func(c *pop3.Client) {
				t.Helper()
				if err := errors.Join(c.User(background, "u1"), c.Pass(background, srv.Password("u1"))); err != nil {
					t.Fatal(err)
				}
				if err := c.Dele(background, 3); err != nil {
					t.Fatal(err)
				}
			}
			// First determine how many bytes the preparations take.
			before := newProxy(t, srv.Addr, fault{}, nil)
			c, err := pop3.Dial(background, before.addr, opts)
			if err != nil {
				t.Fatal(err)
			}
			prepare(c)
			c.Close()
			before.close()
			at := test.fault
			if at.up {
				at.after += before.sent
			} else {
				at.after += before.taken
			}

			p := newProxy(t, srv.Addr, at, srv.Kill)
			defer p.close()
			if c, err = pop3.Dial(background, p.addr, opts); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			prepare(c)
			var answer error
			switch test.in {
			case "RETR":
				m, err := c.Retr(background, 1)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, m)
				if err == nil {
					t.Fatalf("the message looks complete with %d bytes of %d", n, len(big))
				}
				answer = err
			case "DELE":
				answer = c.Dele(background, 2)
			case "QUIT":
				answer = c.Quit(background)
			}
			t.Logf("killed after %d bytes: %v", test.fault.after, answer)
			if answer != nil && !becauseOf(cut, answer) {
				t.Errorf("%s: %v, want a lost connection", test.in, answer)
			}
			left := maildir(t, srv, "u1")
			if sent := test.in == "QUIT" && test.fault.after != len("QU"); !sent && len(left) != len(all) {
				t.Errorf("QUIT was not sent, and %d of %d messages are left", len(left), len(all))
			}
			if test.in == "QUIT" && answer == nil && len(left) != len(all)-1 {
				t.Errorf("QUIT returned nil, but %d of %d messages are left", len(left), len(all))
			}
		})
	}
}
