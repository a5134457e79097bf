package faults

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

const patience = 10 * time.Second // the Timeout of the sessions in bubbles

// played is what came of one session with a fault.
type played struct {
	marks       []int // octets of the server that had arrived at the end of each step
	taken, sent int
}

// play plays one session with a fault, in a bubble, so that no goroutine can outlive it. marks are those of a session
// without a fault, one octet a packet: how many octets each step takes.
func play(t *testing.T, f fault, refuse bool, marks []int) (p played) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			t.Fatalf("%v: %v", f, r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
		srv.STLS = false
		if refuse {
			srv.Refuse = func(verb string, _ int) string {
				if verb == "QUIT" {
					return "[SYS/TEMP] not now"
				}
				return ""
			}
		}
		all := srv.Remaining()
		conn := newFaultConn(srv.Pipe(), f)
		k := talk{user: "user", secret: "secret", noop: "nothing done"}
		k.open = func() (*pop3.Client, error) {
			return pop3.NewClient(background, conn, &pop3.Options{Timeout: patience, AllowInsecureLogin: true})
		}
		k.done = func(step string) error {
			taken, _, _ := conn.octets()
			p.marks = append(p.marks, taken)
			if i := len(p.marks) - 1; marks != nil && taken < marks[i] {
				return brokenf("%s was answered with %d octets, %d were needed", step, taken, marks[i])
			}
			return nil
		}
		began := time.Now()
		err := k.run()
		took := time.Since(began)
		conn.Close()
		srv.Close()

		var no *pop3.ServerError
		var happened bool
		p.taken, p.sent, happened = conn.octets()
		switch {
		case errors.As(err, new(*broken)):
			t.Errorf("%v: %v", f, err)
		case errors.As(err, &no):
			if !refuse || no.Command != "QUIT" || no.Code != pop3.CodeSysTemp {
				t.Errorf("%v: %v", f, err)
			}
		case err == nil && refuse:
			t.Errorf("%v: QUIT said nil, the server -ERR", f)
		case err != nil && (!happened || !becauseOf(f.kind, err)):
			t.Errorf("%v: %v", f, err)
		}
		if refuse && k.quit {
			if left := srv.Remaining(); len(left) != len(all) {
				t.Errorf("%v: QUIT was refused, %v is left", f, left)
			}
		} else if err := agrees(srv.Remaining(), all, k.quit, err); err != nil {
			t.Errorf("%v: %v", f, err)
		}
		if f.pace == 0 && took > patience+time.Second {
			t.Errorf("%v: took %v, the timeout is %v", f, took, patience)
		}
		if marks != nil && !f.up && f.kind != nothing { // what had arrived is not lost either
			steps := 0
			for _, mark := range marks {
				if mark <= f.after {
					steps++
				}
			}
			if len(p.marks) != steps {
				t.Errorf("%v: %d steps were answered, %d steps had their answers; %v", f, len(p.marks), steps, err)
			}
		}
	})
	return p
}

// TestEveryOctet breaks a whole session after every octet of either side, in every way.
func TestEveryOctet(t *testing.T) {
	cases := 0
	for _, refuse := range []bool{false, true} {
		whole := play(t, fault{single: true}, refuse, nil)
		if t.Failed() {
			return
		}
		want := whole.marks
		if got := play(t, fault{}, refuse, want); got.taken != whole.taken || got.sent != whole.sent {
			t.Fatalf("%+v in large packets, %+v in small ones", got, whole)
		}
		stride := 1
		if testing.Short() {
			stride = 11 // which divides nothing here, so each way of failing meets other octets
		}
		if refuse {
			want = nil // the last step is an error
			stride *= 5
		}
		at := 0
		for _, single := range []bool{false, true} {
			for _, k := range []kind{cut, reset, stall, halfClose, lose} {
				if k != lose {
					for n := at % stride; n <= whole.taken; n += stride {
						play(t, fault{kind: k, after: n, single: single}, refuse, want)
						cases++
					}
				}
				if k != halfClose {
					for n := at % stride; n <= whole.sent; n += stride {
						play(t, fault{kind: k, up: true, after: n, single: single}, refuse, want)
						cases++
					}
				}
				at++
				if t.Failed() {
					return
				}
			}
		}
		t.Logf("QUIT refused: %v; the session has %d octets of the server, %d of the client", refuse, whole.taken, whole.sent)
	}
	t.Logf("%d cases", cases)
}

// TestSlowLine plays whole sessions over lines that are slow, but never silent for the timeout.
func TestSlowLine(t *testing.T) {
	whole := play(t, fault{single: true}, false, nil)
	for _, f := range []fault{
		{single: true, pace: time.Millisecond}, // 1 kB/s
		{single: true, pace: patience - 2*time.Millisecond},
		{pace: patience - 2*time.Millisecond},
	} {
		if p := play(t, f, false, whole.marks); len(p.marks) != len(whole.marks) {
			t.Errorf("%v: %d steps, want %d", f, len(p.marks), len(whole.marks))
		}
	}
}
