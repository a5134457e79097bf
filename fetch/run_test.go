package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

func TestFetchOnce(t *testing.T) {
	x := newFixture(t, mails(150)...)
	report := x.run(nil)
	if report.Fetched != 150 || report.Listed != 150 || report.New != 150 || report.Sessions != 1 {
		t.Errorf("first run: %+v", report)
	}
	x.delivered(upTo(150)...)
	if want := []string{"recover 0", "sync 64", "commit 64", "sync 64", "commit 64", "sync 22", "commit 22"}; !slices.Equal(x.sink.calls, want) {
		t.Errorf("calls of the sink: %q, want %q", x.sink.calls, want)
	}
	report = x.run(nil)
	if report.Fetched != 0 || report.New != 0 || report.Listed != 150 {
		t.Errorf("second run: %+v", report)
	}
	x.delivered(upTo(150)...)
	if n := len(x.drop.sent("RETR")); n != 150 {
		t.Errorf("%d RETR, want 150", n)
	}
	if r := x.record("uid1"); r.State != Done || r.Name != "" || r.Target != "" || r.Header.IsZero() || !r.Time.Equal(x.now) {
		t.Errorf("record %+v", r)
	}
	x.left(upTo(150)...)
	if n := len(x.drop.sent("DELE")); n != 0 {
		t.Errorf("%d DELE", n)
	}
}

func TestEvents(t *testing.T) {
	x := newFixture(t, mails(2)...)
	x.Policy.Delete = true
	x.run(nil)
	want := []EventKind{EventConnecting, EventConnected, EventPlanned, EventStaged, EventStaged, EventFetched, EventFetched, EventDeleted, EventDeleted, EventDone}
	if got := x.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	octets := int64(0)
	for _, e := range x.events {
		octets += e.Octets
		if e.Kind == EventPlanned && (e.Total != 2 || e.TotalOctets != int64(len(newMail(1).text)+len(newMail(2).text))) {
			t.Errorf("EventPlanned: %+v", e)
		}
		if !e.Time.Equal(x.now) {
			t.Errorf("event at %v", e.Time)
		}
	}
	if want := int64(len(newMail(1).text) + len(newMail(2).text)); octets != want {
		t.Errorf("%d octets in events, want %d", octets, want)
	}
}

func TestLoginRefused(t *testing.T) {
	certificate := x509.UnknownAuthorityError{}
	for _, test := range []struct {
		name string
		hook func(int, string) *response
		dial error
		want error
	}{
		{name: "wrong password", hook: on("PASS secret", negative("[AUTH] no")), want: ErrLogin},
		{name: "no code", hook: on("PASS secret", negative("no")), want: ErrLogin},
		{name: "in use", hook: on("PASS secret", negative("[IN-USE] locked")), want: ErrServer},
		{name: "temporary", hook: on("PASS secret", negative("[SYS/TEMP] full")), want: ErrServer},
		{name: "permanent", hook: on("PASS secret", negative("[SYS/PERM] gone")), want: ErrServer},
		{name: "closed", hook: on("PASS secret", &response{hangUp: true}), want: ErrServer},
		{name: "insecure", dial: pop3.ErrInsecureLogin, want: ErrLogin},
		{name: "no TLS", dial: pop3.ErrTLSNotSupported, want: ErrServer},
		{name: "certificate", dial: certificate, want: ErrServer},
		{name: "no network", dial: &net.OpError{Op: "dial", Err: errors.New("refused")}, want: ErrServer},
		{name: "no token", dial: errors.Join(ErrLogin, errors.New("no token")), want: ErrLogin},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newFixture(t, mails(1)...)
			x.drop.hook = test.hook
			if test.dial != nil {
				x.Dial = func(context.Context) (*pop3.Client, error) { return nil, test.dial }
			}
			report := x.run(test.want)
			if report.Sessions != 1 {
				t.Errorf("%d attempts, want 1", report.Sessions)
			}
			x.delivered()
		})
	}
}

// TestPasswordChanged has the server refuse the login after the connection was lost: a run must not try again.
func TestPasswordChanged(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.drop.hook = func(session int, line string) *response {
		switch {
		case session == 1 && line == "RETR 2":
			return &response{hangUp: true}
		case session > 1 && line == "PASS secret":
			return negative("[AUTH] no")
		}
		return nil
	}
	if report := x.run(ErrLogin); report.Sessions != 2 || report.Fetched != 1 {
		t.Errorf("%+v", report)
	}
	x.delivered(1)
}

func TestReconnect(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		x := newFixture(t, mails(300)...)
		x.Policy.Delete = deletes
		retrieved := 0
		x.drop.hook = func(session int, line string) *response {
			if strings.HasPrefix(line, "CAPA") {
				retrieved = 0
			}
			if strings.HasPrefix(line, "RETR") {
				if retrieved++; retrieved == 40 {
					return &response{text: "+OK\r\nSubject: tru", hangUp: true}
				}
			}
			return nil
		}
		report := x.run(nil)
		x.delivered(upTo(300)...)
		if report.Fetched != 300 || report.Sessions < 8 || report.Sessions > 30 {
			t.Errorf("delete %v: %+v", deletes, report)
		}
		if deletes {
			x.left()
			if states := x.states(); len(states) > 0 {
				t.Errorf("records of deleted messages: %q", states)
			}
		}
	}
}

// TestCutAtTheSameMessage loses the connection each time at one message. The others are fetched.
func TestCutAtTheSameMessage(t *testing.T) {
	x := newFixture(t, mails(20)...)
	x.Policy.Delete = true
	x.drop.cutAt("uid11")
	report := x.run(ErrIncomplete)
	if report.Fetched != 19 || report.Left != 1 || report.Deleted != 19 {
		t.Errorf("%+v", report)
	}
	x.left(11)
	var problem *MessageError
	if len(report.Problems) != 1 || report.Problems[0].Message.Key.UID != "uid11" {
		t.Errorf("problems: %v", report.Problems)
	} else if problem = report.Problems[0]; !errors.Is(problem, errTooManyLost) {
		t.Errorf("problem: %v", problem)
	}
}

// TestCutAtManyMessages loses the connection at more messages than a run has attempts. The others are fetched first.
func TestCutAtManyMessages(t *testing.T) {
	x := newFixture(t, mails(20)...)
	x.drop.cutAt("uid1", "uid2", "uid3", "uid5", "uid8", "uid13")
	x.run(ErrServer)
	x.delivered(4, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20)
}

// cutAt loses the connection in the middle of messages.
func (d *maildrop) cutAt(uids ...string) {
	d.hook = func(session int, line string) *response {
		if strings.HasPrefix(line, "RETR") && slices.Contains(uids, d.mailAt(line).uid) {
			return &response{text: "+OK\r\nSubject: tru", hangUp: true}
		}
		return nil
	}
}

// mailAt returns the message that a command names.
func (d *maildrop) mailAt(line string) mail {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, c := range strings.Fields(line)[1] {
		n = n*10 + int(c-'0')
	}
	return d.mails[n-1]
}

// TestConnectionLostOnce must not limit the sessions after it.
func TestConnectionLostOnce(t *testing.T) {
	x := newFixture(t, mails(2000)...)
	x.Policy.Delete = true
	x.drop.hook = func(session int, line string) *response {
		if session == 1 && line == "UIDL" {
			return &response{hangUp: true}
		}
		return nil
	}
	if report := x.run(nil); report.Sessions > 7 || report.Deleted != 2000 {
		t.Errorf("%+v", report)
	}
	x.left()
}

// TestFirstFetchOverABadLine fetches many messages over a connection that is lost every 500 commands.
func TestFirstFetchOverABadLine(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		x := newFixture(t, mails(5000)...)
		x.Policy.Delete = deletes
		x.Progress = nil
		commands := 0
		x.drop.hook = func(session int, line string) *response {
			if line == "USER joe" {
				commands = 0
			}
			if commands++; commands == 500 {
				return &response{hangUp: true}
			}
			return nil
		}
		report := x.run(nil)
		if report.Fetched != 5000 || deletes && report.Deleted != 5000 {
			t.Errorf("%+v", report)
		}
		t.Logf("delete %v: %d sessions", deletes, report.Sessions)
		x.delivered(upTo(5000)...)
	}
}

func TestPrepend(t *testing.T) {
	x := newFixture(t, mails(2)...)
	prefix := "Received: by pop3 with POP3\r\n"
	x.Prepend = func(m Message) []byte { return []byte(prefix) }
	x.run(nil)
	got := x.sink.texts()
	slices.Sort(got)
	if want := []string{prefix + newMail(1).text, prefix + newMail(2).text}; !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
	x.Policy.Delete = true
	x.run(nil) // the digest of the header must not depend on it
	if report := x.run(nil); report.Listed != 0 || len(x.sink.texts()) != 2 {
		t.Errorf("%+v", report)
	}
}

func TestFieldsMissing(t *testing.T) {
	x := newFixture(t)
	for _, f := range []Fetcher{{}, {Dial: x.Dial, Store: x.Store}, {Dial: x.Dial, Sink: x.Sink}, {Store: x.Store, Sink: x.Sink}} {
		if _, err := f.Run(t.Context()); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
}

func TestRetriesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, mails(3)...)
		x.Retry = Retry{Attempts: 3, MinDelay: time.Second, MaxDelay: 3 * time.Second}
		x.drop.hook = on("UIDL", &response{hangUp: true})
		begin := time.Now()
		if report := x.run(ErrServer); report.Sessions != 4 {
			t.Errorf("%d sessions, want 4", report.Sessions)
		}
		if elapsed := time.Since(begin); elapsed < 3*time.Second || elapsed > 9*time.Second {
			t.Errorf("took %v", elapsed) // 1 s, 2 s, 3 s, each by a half more or less
		}
		x.Retry.Attempts = -1
		if report := x.run(ErrServer); report.Sessions != 1 {
			t.Errorf("%d sessions without retries", report.Sessions)
		}
	})
}

func TestRetryInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, mails(2)...)
		x.Retry = Retry{}
		x.drop.hook = func(session int, line string) *response {
			switch {
			case session == 1 && line == "RETR 2":
				return &response{hangUp: true}
			case session == 2 && line == "PASS secret":
				return negative("[IN-USE] locked by a lost session")
			}
			return nil
		}
		begin := time.Now()
		if report := x.run(nil); report.Sessions != 3 {
			t.Errorf("%d sessions, want 3", report.Sessions)
		}
		if elapsed := time.Since(begin); elapsed < 10*time.Second {
			t.Errorf("the third session came after %v", elapsed)
		}
		x.delivered(1, 2)
	})
}

func TestLoginDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, mails(2)...)
		x.Retry = Retry{}
		x.drop.caps = []string{"LOGIN-DELAY 60"}
		x.drop.hook = func(session int, line string) *response {
			if session == 1 && line == "RETR 2" {
				return &response{hangUp: true}
			}
			return nil
		}
		begin := time.Now()
		x.run(nil)
		if elapsed := time.Since(begin); elapsed < 60*time.Second || elapsed > 70*time.Second {
			t.Errorf("took %v, with a LOGIN-DELAY of 60 s", elapsed)
		}
		x.delivered(1, 2)

		x = newFixture(t, mails(2)...)
		x.drop.caps = []string{"LOGIN-DELAY 6000"}
		x.drop.hook = on("RETR 2", &response{hangUp: true})
		if report := x.run(ErrServer); report.Sessions != 1 {
			t.Errorf("%d sessions, with a LOGIN-DELAY longer than MaxDelay", report.Sessions)
		}
	})
}

func TestInterrupt(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		x := newFixture(t, mails(500)...)
		x.Policy.Delete = deletes
		ctx, cancel := context.WithCancel(t.Context())
		x.sink.stage = func(m Message) error {
			if m.Number == 100 {
				cancel()
			}
			return nil
		}
		report, err := x.Run(ctx)
		if !errors.Is(err, ErrInterrupted) || !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		x.delivered(upTo(100)...)
		if deletes && (report.Deleted != 100 || len(x.drop.left()) != 400) {
			t.Errorf("%d deleted, %d left", report.Deleted, len(x.drop.left()))
		}
		if n := len(x.drop.sent("QUIT")); n != 1 {
			t.Errorf("%d QUIT", n)
		}
		x.run(nil)
		x.delivered(upTo(500)...)
	}
}

// TestInterruptSilentServer interrupts a run while the server is silent in the middle of a message.
func TestInterruptSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, mails(10)...)
		x.drop.hook = on("RETR 5", &response{stall: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		_, err := x.Run(ctx)
		if !errors.Is(err, ErrInterrupted) {
			t.Errorf("Run returned %v", err)
		}
		if elapsed := time.Since(begin); elapsed > 12*time.Second {
			t.Errorf("took %v", elapsed)
		}
		x.delivered(1, 2, 3, 4)
	})
}

func TestInterruptBefore(t *testing.T) {
	x := newFixture(t, mails(1)...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Run(ctx); !errors.Is(err, ErrInterrupted) {
		t.Errorf("Run returned %v", err)
	}
	if x.drop.sessions != 0 {
		t.Error("a session was opened")
	}
}

// TestInterruptWhileWaiting interrupts a run between two sessions.
func TestInterruptWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, mails(2)...)
		x.Retry = Retry{MinDelay: time.Hour, MaxDelay: time.Hour}
		x.drop.hook = on("RETR 2", &response{hangUp: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := x.Run(ctx); !errors.Is(err, ErrInterrupted) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run returned %v", err)
		}
		x.delivered(1)
	})
}

// TestDeadlyMessages loses the connection each time at some messages. The others are fetched and deleted nevertheless.
func TestDeadlyMessages(t *testing.T) {
	deadly := func(commands ...string) func(int, string) *response {
		return func(_ int, line string) *response {
			if slices.Contains(commands, line) {
				return &response{hangUp: true}
			}
			return nil
		}
	}
	t.Run("two by RETR", func(t *testing.T) {
		x := newFixture(t, mails(6)...)
		x.Policy.Delete = true
		x.drop.hook = deadly("RETR 1", "RETR 2")
		if report := x.run(ErrIncomplete); report.Left != 2 {
			t.Errorf("%+v", report)
		}
		x.delivered(3, 4, 5, 6)
		x.left(1, 2)
		x.drop.set(newMail(1), newMail(2), newMail(7))
		x.run(ErrIncomplete)
		x.delivered(3, 4, 5, 6, 7)
		x.left(1, 2)
	})
	t.Run("two by TOP for a filter", func(t *testing.T) {
		x := newFixture(t, mails(6)...)
		x.Policy.Filter = func(_ context.Context, c Candidate) (Action, error) {
			if c.Number == 6 {
				return ActionSkip, nil
			}
			return ActionFetch, nil
		}
		x.drop.hook = deadly("TOP 2 0", "TOP 4 0")
		if report := x.run(ErrIncomplete); report.Left != 2 || report.Skipped != 1 {
			t.Errorf("%+v", report)
		}
		x.delivered(1, 3, 5)
	})
	t.Run("TOP of a proof", func(t *testing.T) {
		x := newFixture(t, mails(3)...)
		x.run(nil)
		x.drop.set(mails(6)...)
		x.Policy.Delete = true
		x.drop.hook = deadly("TOP 1 0")
		x.run(nil)
		x.delivered(upTo(6)...)
		x.left()
	})
	t.Run("TOP and RETR of a proof", func(t *testing.T) {
		x := newFixture(t, mails(3)...)
		x.run(nil)
		x.drop.set(mails(6)...)
		x.Policy.Delete = true
		x.drop.hook = deadly("TOP 1 0", "RETR 1")
		for range 2 {
			if report := x.run(ErrIncomplete); report.Undone != 1 || len(report.Problems) != 1 {
				t.Errorf("%+v", report)
			}
			x.delivered(upTo(6)...)
			x.left(1)
		}
	})
}
