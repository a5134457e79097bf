package fetch

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestRetrRefused(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		x := newFixture(t, mails(20)...)
		x.Policy.Delete = deletes
		x.drop.hook = on("RETR 5", negative("it is damaged"))
		report := x.run(ErrIncomplete)
		if report.Left != 1 || report.Fetched != 19 || len(report.Problems) != 1 || report.Problems[0].Message.Number != 5 {
			t.Errorf("%+v", report)
		}
		if want := slices.Delete(upTo(20), 4, 5); true {
			x.delivered(want...)
		}
		if deletes {
			x.left(5)
		}
		x.drop.hook = nil
		x.run(nil)
		x.delivered(upTo(20)...)
	}
}

// TestManyRefused has the server refuse more messages in a row than it takes to look at the others.
func TestManyRefused(t *testing.T) {
	x := newFixture(t, mails(400)...)
	x.drop.hook = func(_ int, line string) *response {
		if strings.HasPrefix(line, "RETR") {
			if n := x.drop.mailAt(line); len(n.uid) < 6 || n.uid <= "uid200" { // 1 to 200
				return negative("no")
			}
		}
		return nil
	}
	report := x.run(ErrIncomplete)
	if report.Left != 200 || report.Fetched != 200 {
		t.Errorf("%d left, %d fetched", report.Left, report.Fetched)
	}
}

// TestVolumeLimit has the server refuse all messages after some.
func TestVolumeLimit(t *testing.T) {
	x := newFixture(t, mails(2000)...)
	x.Policy.Delete = true
	served := 0
	x.drop.hook = func(_ int, line string) *response {
		switch {
		case strings.HasPrefix(line, "PASS"):
			served = 0
		case strings.HasPrefix(line, "RETR"):
			if served++; served > 500 {
				return negative("volume exceeded, come back tomorrow")
			}
		}
		return nil
	}
	for day := 1; day <= 4; day++ {
		want := ErrIncomplete
		if day == 4 {
			want = nil
		}
		report := x.run(want)
		if report.Fetched != 500 || report.Left != 2000-500*day || report.Deleted != 500 {
			t.Errorf("day %d: %+v", day, report)
		}
		if n := len(x.drop.sent("RETR")); n > day*1000 {
			t.Errorf("%d RETR until day %d", n, day)
		}
	}
	x.delivered(upTo(2000)...)
}

// TestSinkDecides has the Sink refuse messages, now or for good, while they are staged or committed.
func TestSinkDecides(t *testing.T) {
	for _, phase := range []string{"stage", "commit"} {
		t.Run(phase, func(t *testing.T) {
			x := newFixture(t, mails(100)...)
			x.Policy.Delete = true
			decide := func(uid string) error {
				switch uid {
				case "uid3", "uid65", "uid100":
					return Later(errors.New("greylisted"))
				case "uid1", "uid64", "uid50":
					return Never(errors.New("spam"))
				}
				return nil
			}
			x.sink.stage = func(m Message) error {
				if phase == "stage" {
					return decide(m.Key.UID)
				}
				return nil
			}
			x.sink.commit = func(r Record) error {
				if phase == "commit" {
					return decide(r.Key.UID)
				}
				return nil
			}
			report := x.run(ErrIncomplete)
			if report.Fetched != 94 || report.Refused != 3 || report.Left != 3 || report.Deleted != 94 {
				t.Errorf("%+v", report)
			}
			x.left(1, 3, 50, 64, 65, 100)
			if want := []string{"uid1/0 refused", "uid50/0 refused", "uid64/0 refused"}; !slices.Equal(x.states(), want) {
				t.Errorf("records %q, want %q", x.states(), want)
			}
			if r := x.record("uid1"); r.Reason != "spam" || r.Name != "" {
				t.Errorf("%+v", r)
			}
			if len(x.sink.staged) > 0 {
				t.Errorf("%d messages are staged", len(x.sink.staged))
			}

			x.sink.stage, x.sink.commit = nil, nil
			x.run(nil) // those refused for good are not tried again, and not deleted
			x.left(1, 50, 64)
			x.store.Delete(t.Context(), Key{UID: "uid50"})
			x.run(nil)
			x.left(1, 64)
			x.delivered(slices.DeleteFunc(upTo(100), func(n int) bool { return n == 1 || n == 64 })...)
		})
	}
}

// TestLeftOnceInARun does not ask again for a message that the Sink did not take, after the connection was lost.
func TestLeftOnceInARun(t *testing.T) {
	x := newFixture(t, mails(5)...)
	attempts := 0
	x.sink.stage = func(m Message) error {
		if m.Key.UID == "uid2" {
			attempts++
			return Later(errors.New("busy"))
		}
		return nil
	}
	x.drop.hook = func(session int, line string) *response {
		if session == 1 && line == "RETR 4" {
			return &response{hangUp: true}
		}
		return nil
	}
	if report := x.run(ErrIncomplete); report.Left != 1 || attempts != 1 {
		t.Errorf("%d attempts, %+v", attempts, report)
	}
	x.delivered(1, 3, 4, 5)
}

func TestSinkDoesNotReadToTheEnd(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.Policy.Delete = true
	x.sink.unread = true
	x.run(ErrSink)
	x.delivered()
	x.left(1, 2, 3)
	if len(x.states()) > 0 || len(x.sink.staged) > 0 {
		t.Errorf("records %q, %d staged", x.states(), len(x.sink.staged))
	}
}

// TestTruncatedMessageIsNotDelivered loses the connection after each byte of a response.
func TestTruncatedMessageIsNotDelivered(t *testing.T) {
	whole := "+OK\r\n" + stuffed(newMail(2).text) + ".\r\n"
	for n := range len(whole) {
		x := newFixture(t, mails(3)...)
		x.Policy.Delete = true
		x.drop.hook = func(session int, line string) *response {
			if session == 1 && line == "RETR 2" {
				return &response{text: whole[:n], hangUp: true}
			}
			return nil
		}
		x.run(nil)
		x.delivered(1, 2, 3)
		x.left()
	}
}
