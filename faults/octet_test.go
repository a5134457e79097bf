package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

const patience = 10 * time.Second // the Timeout of the sessions in bubbles

// scene describes a session and its server.
type scene struct {
	refuse  bool // the server refuses QUIT
	stls    bool
	tls     bool   // implicit TLS
	version uint16 // of TLS
	records bool   // each byte of the server is a record, and a fault happens that many records after the login
}

// recordLength is the length of a record with one byte, in TLS 1.3 (RFC 8446, section 5.2).
const recordLength = 5 + 1 + 1 + 16

func (s scene) encrypted() bool { return s.stls || s.tls }

func (s scene) String() string {
	switch {
	case s.stls:
		return "STLS, " + tls.VersionName(s.version)
	case s.tls:
		return tls.VersionName(s.version)
	}
	return fmt.Sprintf("QUIT refused: %v", s.refuse)
}

// needed returns how many of the bytes at a mark a step needs. The length of a TLS handshake varies by a few bytes, as
// signatures do, so bytes are counted from the login, which follows the handshake.
func (s scene) needed(marks []int, step int) int {
	switch {
	case !s.encrypted():
		return marks[step]
	case step <= loggedIn:
		return 0
	}
	return marks[step] - marks[loggedIn]
}

const loggedIn = 1 // the step with the login

// serve makes a server for the scene, and the client's end of a connection to it.
func (s scene) serve() (*pop3test.Server, net.Conn) {
	srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	srv.STLS = s.stls
	srv.Dribble = s.records
	srv.TLS = &tls.Config{MaxVersion: s.version}
	if s.refuse {
		srv.Refuse = func(verb string, _ int) string {
			if verb == "QUIT" {
				return "[SYS/TEMP] not now"
			}
			return ""
		}
	}
	if s.tls {
		return srv, srv.PipeTLS()
	}
	return srv, srv.Pipe()
}

// dialed is a Dialer that has connected already.
type dialed struct{ net.Conn }

func (d dialed) DialContext(context.Context, string, string) (net.Conn, error) { return d.Conn, nil }

// open begins a session. If the scene has TLS, no password may be sent without it.
func (s scene) open(conn net.Conn) (*pop3.Client, error) {
	config := pop3test.TLSConfig()
	config.CurvePreferences = []tls.CurveID{tls.X25519} // a tenth of the length of post-quantum key shares
	opts := &pop3.Options{Timeout: patience, AllowInsecureLogin: !s.encrypted(), TLSConfig: config, Dialer: dialed{conn}}
	if s.tls {
		return pop3.DialTLS(background, "localhost", opts)
	}
	return pop3.Dial(background, "localhost", opts)
}

// played is the result of one session with a fault.
type played struct {
	marks       []int // bytes of the server that had arrived at the end of each step
	taken, sent int
}

// play plays one session with a fault, in a bubble, so that no goroutine can outlive it. marks are those of a session
// without a fault, one byte per packet: the bytes that each step takes.
func play(t *testing.T, f fault, s scene, marks []int) (p played) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			t.Fatalf("%v: %v", f, r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		srv, pipe := s.serve()
		all := srv.Remaining()
		now := f
		if s.records {
			now = fault{} // f is armed later
		}
		conn := newFaultConn(pipe, now)
		conn.listen = s.encrypted()
		k := talk{user: "user", secret: "secret", noop: "nothing done"}
		k.open = func() (*pop3.Client, error) { return s.open(conn) }
		k.done = func(step string) error {
			taken, _, _ := conn.octets()
			p.marks = append(p.marks, taken)
			i := len(p.marks) - 1
			if s.records && i == loggedIn {
				g := f
				g.after *= recordLength
				conn.arm(g)
			}
			if marks == nil || s.needed(p.marks, i) >= s.needed(marks, i) {
				return nil
			}
			return brokenf("%s was answered with %d octets, %d were needed", step, s.needed(p.marks, i), s.needed(marks, i))
		}
		began := time.Now()
		err := k.run()
		took := time.Since(began)
		synctest.Wait() // the goroutine that met the end of the session may still be closing the connection
		heard, closed := conn.left()
		if !closed {
			t.Errorf("%v: the connection is still open, after %v", f, err)
		}
		conn.Close()
		srv.Close()

		var no *pop3.ServerError
		var happened bool
		p.taken, p.sent, happened = conn.octets()
		switch {
		case errors.As(err, new(*broken)):
			t.Errorf("%v: %v", f, err)
		case errors.As(err, &no):
			if !s.refuse || no.Command != "QUIT" || no.Code != pop3.CodeSysTemp {
				t.Errorf("%v: %v", f, err)
			}
		case err == nil && s.refuse:
			t.Errorf("%v: QUIT said nil, the server -ERR", f)
		case err != nil && (!happened || !becauseOf(f.kind, err)):
			t.Errorf("%v: %v", f, err)
		}
		if s.refuse && k.quit {
			if left := srv.Remaining(); len(left) != len(all) {
				t.Errorf("%v: QUIT was refused, %v is left", f, left)
			}
		} else if err := agrees(srv.Remaining(), all, k.quit, err); err != nil {
			t.Errorf("%v: %v", f, err)
		}
		if f.pace == 0 && took > patience+time.Second {
			t.Errorf("%v: took %v, the timeout is %v", f, took, patience)
		}
		if marks != nil && !f.up && f.kind != nothing && f.kind != inject { // data that had arrived is not lost either
			if steps, want := len(p.marks), s.steps(f, p.marks, marks); steps != want {
				t.Errorf("%v: %d steps were answered, %d steps had their answers; %v", f, steps, want, err)
			}
		}
		if f.kind == inject && s.tls && err == nil && f.after < p.marks[len(p.marks)-1] {
			t.Errorf("%v: not noticed", f)
		}
		for _, never := range []string{"USER user", "PASS", "secret"} {
			if bytes.Contains(heard, []byte(never)) {
				t.Errorf("%v: %q was sent in the clear", f, never)
			}
		}
	})
	return p
}

// steps returns how many steps had received their responses when a fault of the server's side happened. got are the
// marks of that session, and marks those of a complete one.
func (s scene) steps(f fault, got, marks []int) (steps int) {
	after := f.after
	switch {
	case s.records:
		after *= recordLength
	case s.encrypted():
		if len(got) <= loggedIn && after < marks[loggedIn]+16 {
			return len(got) // in the handshake, or near it
		}
		after -= got[min(loggedIn, len(got)-1)]
	}
	for i := range marks {
		if s.needed(marks, i) <= after {
			steps++
		}
	}
	return steps
}

// everyOctet breaks the session after every byte of either side, in every way: after every large-th byte if packets are
// large, and after every small-th byte if each byte is a packet.
func everyOctet(t *testing.T, s scene, large, small int) (cases int) {
	whole := play(t, fault{single: true}, s, nil)
	want := whole.marks
	got := play(t, fault{}, s, want)
	if !s.encrypted() && (got.taken != whole.taken || got.sent != whole.sent) {
		t.Errorf("%+v in large packets, %+v in small ones", got, whole)
	}
	if s.refuse {
		want = nil // the last step is an error
	}
	ways := []kind{cut, reset, stall, halfClose, lose}
	if s.encrypted() { // an attacker can forge responses without TLS
		ways = append(ways, inject)
	}
	for i, stride := range []int{large, small} {
		for k, way := range ways {
			f := fault{kind: way, single: i == 1}
			first := (len(ways)*i + k) % stride // so that each is tested at other bytes
			for f.after = first; way != lose && f.after <= whole.taken && !t.Failed(); f.after += stride {
				play(t, f, s, want)
				cases++
			}
			f.up = true
			for f.after = first; way != halfClose && way != inject && f.after <= whole.sent && !t.Failed(); f.after += stride {
				play(t, f, s, want)
				cases++
			}
		}
	}
	t.Logf("%v: the session has %d octets of the server, %d of the client; %d cases", s, whole.taken, whole.sent, cases)
	return cases
}

// TestEveryOctet breaks a complete session after every byte of either side, in every way.
func TestEveryOctet(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 11 // a prime
	}
	cases := everyOctet(t, scene{}, stride, stride)
	cases += everyOctet(t, scene{refuse: true}, 5*stride, 5*stride)
	t.Logf("%d cases", cases)
}

// TestEveryOctetTLS does the same with implicit TLS and with STLS; bytes of the handshake and of the records count. No
// truncated response looks complete, no injected data is taken for a response, and after a failed handshake no password
// is sent.
func TestEveryOctetTLS(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 61
	}
	var cases atomic.Int64
	t.Run("scenes", func(t *testing.T) {
		for _, s := range []scene{
			{tls: true, version: tls.VersionTLS13},
			{stls: true, version: tls.VersionTLS13},
			{tls: true, version: tls.VersionTLS12},
			{stls: true, version: tls.VersionTLS12},
		} {
			t.Run(s.String(), func(t *testing.T) {
				t.Parallel()
				cases.Add(int64(everyOctet(t, s, stride, 7*stride)))
			})
		}
	})
	t.Logf("%d cases", cases.Load())
}

// TestEveryRecord ends the connection after each record, without a close_notify. crypto/tls reports EOF then, which
// must not end a message.
func TestEveryRecord(t *testing.T) {
	s := scene{tls: true, version: tls.VersionTLS13, records: true}
	whole := play(t, fault{}, s, nil)
	records := s.needed(whole.marks, len(whole.marks)-1) / recordLength
	stride := 1
	if testing.Short() {
		stride = 29
	}
	cases := 0
	for _, f := range []fault{{kind: cut}, {kind: halfClose}} {
		for ; f.after <= records && !t.Failed(); f.after += stride {
			play(t, f, s, whole.marks)
			cases++
		}
	}
	t.Logf("%d records behind the login, %d cases", records, cases)
}

// TestSlowLine runs complete sessions over connections that are slow, but never silent for the timeout.
func TestSlowLine(t *testing.T) {
	for _, s := range []scene{{}, {tls: true, version: tls.VersionTLS13}, {stls: true, version: tls.VersionTLS12}} {
		whole := play(t, fault{single: true}, s, nil)
		faults := []fault{
			{single: true, pace: time.Millisecond}, // 1 kB/s
			{single: true, pace: patience - 2*time.Millisecond},
			{pace: patience - 2*time.Millisecond},
		}
		for seed := range uint64(20) {
			faults = append(faults, fault{jitter: seed + 1, pace: patience/2 - time.Millisecond})
		}
		for _, f := range faults {
			if p := play(t, f, s, whole.marks); len(p.marks) != len(whole.marks) {
				t.Errorf("%v: %v: %d steps, want %d", s, f, len(p.marks), len(whole.marks))
			}
		}
	}
}
