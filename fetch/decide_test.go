package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestDeleteAtOnce(t *testing.T) {
	x := newFixture(t, mails(100)...)
	x.Policy.Delete = true
	if report := x.run(nil); report.Deleted != 100 || report.Fetched != 100 {
		t.Errorf("%+v", report)
	}
	x.left()
	if n := len(x.drop.sent("TOP")); n != 0 {
		t.Errorf("%d TOP for messages of the same session", n)
	}
	if states := x.states(); len(states) != 0 {
		t.Errorf("records of deleted messages: %q", states)
	}
}

func TestDeleteAfter(t *testing.T) {
	x := newFixture(t, mails(2)...)
	x.Policy.DeleteAfter = 14 * day
	x.run(nil)
	x.now = x.now.Add(7 * day)
	x.drop.set(mails(4)...)
	x.run(nil)
	x.left(1, 2, 3, 4)
	x.now = x.now.Add(7*day - time.Second)
	x.run(nil)
	x.left(1, 2, 3, 4)
	if n := len(x.drop.sent("TOP")); n != 0 {
		t.Errorf("%d TOP before anything is due", n)
	}
	x.now = x.now.Add(time.Second)
	x.run(nil)
	x.left(3, 4)
	if n := len(x.drop.sent("TOP")); n != 2 {
		t.Errorf("%d TOP to prove 2 messages", n)
	}
	x.now = x.now.Add(7 * day)
	x.run(nil)
	x.left()
	x.delivered(1, 2, 3, 4)
}

func TestDeleteOver(t *testing.T) {
	x := newFixture(t, mails(5)...)
	x.Policy.DeleteOver = 3
	x.run(nil)
	x.left(3, 4, 5)
	x.run(nil)
	x.left(3, 4, 5)
	x.drop.set(newMail(3), newMail(4), newMail(5), newMail(6), newMail(7))
	x.drop.hook = func(session int, line string) *response {
		if session == 3 && line == "RETR 5" {
			return negative("not now")
		}
		return nil
	}
	x.run(ErrIncomplete)
	x.left(4, 5, 6, 7) // 7 is not delivered, and does not count
	x.run(nil)
	x.left(5, 6, 7)
	x.delivered(upTo(7)...)
}

// TestNoProof has a server that refuses TOP, or that sends another header by TOP than by RETR.
func TestNoProof(t *testing.T) {
	for name, r := range map[string]*response{
		"refused":      negative("no TOP here"),
		"other header": {text: "+OK\r\nX-Server: added by TOP\r\nSubject: 1\r\n\r\n.\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t, mails(3)...)
			x.drop.hook = func(_ int, line string) *response {
				if strings.HasPrefix(line, "TOP") {
					return r
				}
				return nil
			}
			x.run(nil)
			x.Policy.Delete = true
			if report := x.run(nil); report.Deleted != 3 || report.Fetched != 0 {
				t.Errorf("%+v", report)
			}
			x.left()
			x.delivered(1, 2, 3)
			if len(x.sink.staged) > 0 {
				t.Errorf("%d messages are staged", len(x.sink.staged))
			}
			x.run(nil)
		})
	}
}

// TestUnprovenIsNotDeleted has a server that refuses TOP and RETR of a message that is due.
func TestUnprovenIsNotDeleted(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.run(nil)
	x.Policy.Delete = true
	x.drop.hook = func(_ int, line string) *response {
		if line == "TOP 2 0" || line == "RETR 2" {
			return negative("not now")
		}
		return nil
	}
	if report := x.run(ErrIncomplete); report.Deleted != 2 {
		t.Errorf("%+v", report)
	}
	x.left(2)
	x.drop.hook = nil
	x.run(nil)
	x.left()
	x.delivered(1, 2, 3)
}

func TestQuitFails(t *testing.T) {
	for _, test := range []struct {
		name    string
		quit    func(d *maildrop) *response
		want    error
		deleted int // in the run
	}{
		{"refused", func(*maildrop) *response { return negative("not deleted") }, ErrServer, 0},
		{"unanswered", func(*maildrop) *response { return &response{hangUp: true} }, nil, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newFixture(t, mails(3)...)
			x.Policy.Delete = true
			x.drop.hook = func(session int, line string) *response {
				if session == 1 && line == "QUIT" {
					return test.quit(x.drop)
				}
				return nil
			}
			report := x.run(test.want)
			if report.Deleted != test.deleted || report.QuitUnknown {
				t.Errorf("%+v", report)
			}
			x.delivered(1, 2, 3)
			x.run(nil)
			x.left()
			x.delivered(1, 2, 3)
		})
	}
}

// TestQuitAnsweredTooLate has the server delete the messages, while its response is lost.
func TestQuitAnsweredTooLate(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.Policy.Delete = true
	x.Retry.Attempts = -1
	x.drop.hook = func(session int, line string) *response {
		if session == 1 && line == "QUIT" {
			return &response{hangUp: true, after: func() { x.drop.set(newMail(4)) }}
		}
		return nil
	}
	if report := x.run(ErrServer); !report.QuitUnknown || report.Undone != 3 || report.Deleted != 0 {
		t.Errorf("%+v", report)
	}
	if n := len(x.states()); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
	x.run(nil)
	x.delivered(1, 2, 3, 4)
	x.left()
	x.now = x.now.Add(31 * day)
	x.run(nil)
	if states := x.states(); len(states) > 0 {
		t.Errorf("records %q", states)
	}
}

func TestDeleRefused(t *testing.T) {
	x := newFixture(t, mails(5)...)
	x.Policy.Delete = true
	x.drop.hook = func(_ int, line string) *response {
		if line == "DELE 2" || line == "DELE 4" {
			return negative("locked")
		}
		return nil
	}
	if report := x.run(ErrIncomplete); report.Deleted != 3 || report.Undone != 2 || len(report.Problems) != 2 {
		t.Errorf("%+v", report)
	}
	x.left(2, 4)
	x.drop.hook = nil
	x.run(nil)
	x.left()
	x.delivered(upTo(5)...)
}

func TestMaxSize(t *testing.T) {
	large := newMail(2)
	large.text = "Subject: large\r\n\r\n" + strings.Repeat("x\r\n", 10000)
	x := newFixture(t, newMail(1), large, newMail(3))
	x.Policy = Policy{MaxSize: 10000, Delete: true}
	if report := x.run(nil); report.Skipped != 1 || report.Fetched != 2 {
		t.Errorf("%+v", report)
	}
	x.delivered(1, 3)

	x.Policy.HeaderOnly = true
	for range 2 {
		x.run(nil)
		if texts := x.sink.texts(); len(texts) != 3 || !slices.Contains(texts, "Subject: large\r\n\r\n") {
			t.Errorf("delivered %q", texts)
		}
	}
	if left := x.drop.left(); !slices.Equal(left, []string{"uid2"}) {
		t.Errorf("on the server: %q", left)
	}
	if n := len(x.drop.sent("RETR")); n != 2 {
		t.Errorf("%d RETR", n)
	}

	x.Policy.MaxSize = 0
	x.run(nil)
	if texts := x.sink.texts(); len(texts) != 4 || !slices.Contains(texts, large.text) {
		t.Errorf("delivered %d messages", len(texts))
	}
	x.left()
}

func TestLimits(t *testing.T) {
	x := newFixture(t, mails(10)...)
	x.Policy.MaxMessages = 4
	for i, want := range []int{4, 8, 10, 10} {
		report := x.run(nil)
		x.delivered(upTo(want)...)
		if skipped := 10 - want; report.Skipped != skipped {
			t.Errorf("run %d: %+v, want %d skipped", i, report, skipped)
		}
	}
	x = newFixture(t, mails(10)...)
	x.Policy.MaxOctets = int64(len(newMail(1).text) + len(newMail(2).text) + len(newMail(3).text))
	x.run(nil)
	x.delivered(1, 2, 3)
	x.Policy.MaxOctets = 1
	x.run(nil)
	x.delivered(1, 2, 3, 4)
}

// TestLimitsOverSessions counts messages of a run whose connection is lost.
func TestLimitsOverSessions(t *testing.T) {
	x := newFixture(t, mails(10)...)
	x.Policy.MaxMessages = 5
	x.drop.hook = func(session int, line string) *response {
		if session == 1 && line == "RETR 3" {
			return &response{hangUp: true}
		}
		return nil
	}
	if report := x.run(nil); report.Fetched != 5 || report.Sessions != 2 {
		t.Errorf("%+v", report)
	}
}

func TestFilter(t *testing.T) {
	list := mails(600)
	x := newFixture(t, list...)
	x.Policy.Filter = func(ctx context.Context, c Candidate) (Action, error) {
		if want := fmt.Sprintf("Subject: %d\r\n\r\n", c.Number); string(c.Header) != want {
			t.Errorf("header %q, want %q", c.Header, want)
		}
		switch {
		case c.Number%3 == 0:
			return ActionSkip, nil
		case c.Number%3 == 1 && c.Number > 590:
			return ActionDelete, nil
		case c.Number == 2:
			return ActionFetch, errors.New("not sure")
		case c.Number == 5:
			return ActionHeader, nil
		}
		return ActionFetch, nil
	}
	report := x.run(ErrIncomplete)
	if report.Skipped != 200 || report.Left != 1 || report.Deleted != 3 || report.Headers != 1 || report.Fetched != 600-200-1-3-1 {
		t.Errorf("%+v", report)
	}
	if n := len(x.drop.left()); n != 597 {
		t.Errorf("%d left", n)
	}
	if texts := x.sink.texts(); !slices.Contains(texts, "Subject: 5\r\n\r\n") {
		t.Error("no header of message 5")
	}
	x.Policy.Filter = nil
	x.run(nil)
	texts := x.sink.texts()
	if n := len(texts); n != 598 { // the header, too
		t.Errorf("%d delivered, want 598", n)
	}
}

func TestFilterHeaderOnce(t *testing.T) {
	x := newFixture(t, newMail(1))
	action := ActionHeader
	x.Policy.Filter = func(context.Context, Candidate) (Action, error) { return action, nil }
	x.Policy.Delete = true
	for range 2 {
		x.run(nil)
		if texts := x.sink.texts(); !slices.Equal(texts, []string{"Subject: 1\r\n\r\n"}) {
			t.Errorf("delivered %q", texts)
		}
		x.left(1)
	}
	action = ActionFetch
	x.run(nil)
	if texts := x.sink.texts(); len(texts) != 2 || !slices.Contains(texts, newMail(1).text) {
		t.Errorf("delivered %q", texts)
	}
	x.left()
}

func TestFilterWithLimit(t *testing.T) {
	x := newFixture(t, mails(600)...)
	x.Policy.MaxMessages = 3
	x.Policy.Filter = func(ctx context.Context, c Candidate) (Action, error) {
		if c.Number%100 == 0 {
			return ActionFetch, nil
		}
		return ActionSkip, nil
	}
	x.run(nil)
	x.delivered(100, 200, 300)
	x.run(nil)
	x.delivered(100, 200, 300, 400, 500, 600)
}

func TestFilterLongHeader(t *testing.T) {
	long := mail{uid: "long", text: "Subject: " + strings.Repeat("x", 300<<10) + "\r\n\r\nbody\r\n"}
	x := newFixture(t, long)
	x.Policy.Filter = func(ctx context.Context, c Candidate) (Action, error) {
		if len(c.Header) != maxHeader+2 || !bytes.HasPrefix([]byte(long.text), c.Header[:maxHeader]) {
			t.Errorf("header of %d bytes", len(c.Header))
		}
		return ActionFetch, nil
	}
	x.run(nil)
	if texts := x.sink.texts(); len(texts) != 1 || texts[0] != long.text {
		t.Error("not delivered")
	}
	x.Policy = Policy{Delete: true}
	if report := x.run(nil); report.Deleted != 1 || report.Fetched != 0 {
		t.Errorf("%+v", report)
	}
}

func TestPlan(t *testing.T) {
	x := newFixture(t, mails(6)...)
	x.store.Put(t.Context(),
		Record{Key: Key{UID: "uid1"}, State: Done, Size: int64(len(newMail(1).text)), Header: Digest{1}, Time: x.now.Add(-15 * day)},
		Record{Key: Key{UID: "uid2"}, State: Refused, Size: int64(len(newMail(2).text)), Reason: "spam"},
		Record{Key: Key{UID: "uid3"}, State: Done, Size: 1, Time: x.now})
	x.Policy = Policy{DeleteAfter: 14 * day, MaxMessages: 3, MaxSize: int64(len(newMail(5).text)), HeaderOnly: true}
	x.Policy.MaxMessages = 3
	before := x.states()
	c, err := x.drop.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	steps, err := x.Plan(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		got = append(got, fmt.Sprint(s.Message.Number, " ", s.Message.Key.UID, " ", s.Action, " ", s.Record.State, " ", s.Delete))
	}
	want := []string{
		"1 uid1 known done true", "2 uid2 known refused false", "3 uid3 fetch new false", "4 uid4 fetch new false",
		"5 uid5 fetch new false", "6 uid6 skip new false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if steps[1].Record.Reason != "spam" {
		t.Errorf("%+v", steps[1])
	}
	if !slices.Equal(before, x.states()) || len(x.events) > 0 || len(x.sink.calls) > 0 {
		t.Error("Plan has changed something")
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Errorf("the session after Plan: %v", err)
	}
}

// TestComparedMessages deletes messages that were fetched to compare them. They do not stay staged until the end of the session.
func TestComparedMessages(t *testing.T) {
	x := newFixture(t, mails(1000)...)
	x.run(nil)
	x.drop.hook = func(_ int, line string) *response {
		if strings.HasPrefix(line, "TOP ") {
			return negative("no TOP")
		}
		return nil
	}
	most := 0
	x.sink.stage = func(m Message) error {
		most = max(most, len(x.sink.staged))
		return nil
	}
	x.Policy.Delete = true
	if report := x.run(nil); report.Deleted != 1000 {
		t.Errorf("%+v", report)
	}
	if most > 3*64 {
		t.Errorf("%d messages were staged at a time", most)
	}
}
