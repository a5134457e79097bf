package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fixture is a Fetcher with a server, a Store, and a Sink in memory.
type fixture struct {
	*Fetcher
	t     *testing.T
	drop  *maildrop
	store *MemoryStore
	sink  *memorySink
	now   time.Time

	mu     sync.Mutex
	log    bytes.Buffer
	events []Event
}

// newFixture returns a fixture whose clock is set to a fixed time.
func newFixture(t *testing.T, mails ...mail) *fixture {
	x := &fixture{
		t: t, drop: &maildrop{mails: mails}, store: &MemoryStore{}, sink: &memorySink{},
		now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC),
	}
	x.Fetcher = &Fetcher{
		Account: "joe", Dial: x.drop.Dial, Store: x.store, Sink: x.sink,
		Retry:    Retry{MinDelay: time.Millisecond, MaxDelay: time.Millisecond},
		Now:      func() time.Time { return x.now },
		Logger:   slog.New(slog.NewTextHandler(x, nil)),
		Progress: func(e Event) { x.events = append(x.events, e) },
	}
	return x
}

// Write receives the log.
func (x *fixture) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.log.Write(p)
}

// run runs the Fetcher, and checks the kind of its error, nil if none.
func (x *fixture) run(want error) Report {
	x.t.Helper()
	x.log.Reset()
	x.events = nil
	report, err := x.Run(x.t.Context())
	if !errors.Is(err, want) {
		x.t.Errorf("Run returned %v, want %v", err, want)
	}
	return report
}

// delivered checks which messages the Sink has, by number in newMail.
func (x *fixture) delivered(numbers ...int) {
	x.t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, newMail(n).text)
	}
	got := x.sink.texts()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		x.t.Errorf("delivered %q, want %q", got, want)
	}
}

// left checks which messages are on the server.
func (x *fixture) left(numbers ...int) {
	x.t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, newMail(n).uid)
	}
	if got := x.drop.left(); !slices.Equal(got, want) {
		x.t.Errorf("on the server: %q, want %q", got, want)
	}
}

// logged checks that the log has a text.
func (x *fixture) logged(text string) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !strings.Contains(x.log.String(), text) {
		x.t.Errorf("no %q in the log:\n%s", text, x.log.String())
	}
}

// states returns the records of the Store, as "uid/nth state".
func (x *fixture) states() (states []string) {
	for r := range x.store.Load(x.t.Context()) {
		states = append(states, fmt.Sprintf("%s/%d %v", r.Key.UID, r.Key.Nth, r.State))
	}
	slices.Sort(states)
	return states
}

// record returns the record of a unique-id.
func (x *fixture) record(uid string) Record {
	x.t.Helper()
	for r := range x.store.Load(x.t.Context()) {
		if r.Key.UID == uid {
			return r
		}
	}
	x.t.Errorf("no record of %q", uid)
	return Record{}
}

// kinds returns the kinds of the events, without EventData.
func (x *fixture) kinds() (kinds []EventKind) {
	for _, e := range x.events {
		if e.Kind != EventData {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

// A memorySink is a Sink in memory that can fail.
type memorySink struct {
	mu        sync.Mutex
	staged    map[string]string
	committed map[string]string // the messages delivered, by name
	next      int
	calls     []string

	stage   func(m Message) error       // if not nil, the error of Stage
	sync    func(staged []Record) error // of Sync
	commit  func(m Record) error        // of Commit, for each message
	recover func(r Recovery) error
	unread  bool // Stage does not read to the end
}

func (s *memorySink) Target() string { return "memory:" }

func (s *memorySink) note(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *memorySink) Recover(ctx context.Context, r Recovery) ([]Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("recover %d", len(r.Intents))
	if s.recover != nil {
		if err := s.recover(r); err != nil {
			return nil, err
		}
	}
	if s.staged == nil {
		s.staged, s.committed = map[string]string{}, map[string]string{}
	}
	outcomes := make([]Outcome, len(r.Intents))
	for i, intent := range r.Intents {
		if text, ok := s.staged[intent.Name]; ok {
			s.committed[intent.Name] = text
		}
		outcomes[i] = OutcomeDelivered
	}
	clear(s.staged)
	return outcomes, nil
}

func (s *memorySink) Stage(ctx context.Context, m Message, body io.Reader) (string, error) {
	var text bytes.Buffer
	if s.unread {
		io.CopyN(&text, body, 5)
	} else if _, err := io.Copy(&text, body); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage != nil {
		if err := s.stage(m); err != nil {
			return "", err
		}
	}
	s.next++
	name := fmt.Sprint("m", s.next)
	s.staged[name] = text.String()
	return name, nil
}

func (s *memorySink) Sync(ctx context.Context, staged []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("sync %d", len(staged))
	if s.sync != nil {
		return s.sync(staged)
	}
	return nil
}

func (s *memorySink) Commit(ctx context.Context, staged []Record) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("commit %d", len(staged))
	for _, r := range staged {
		if s.commit != nil {
			if err := s.commit(r); err != nil {
				return n, err
			}
		}
		text, ok := s.staged[r.Name]
		if !ok {
			return n, fmt.Errorf("%q is not staged", r.Name)
		}
		delete(s.staged, r.Name)
		s.committed[r.Name] = text
		n++
	}
	return n, nil
}

func (s *memorySink) Discard(ctx context.Context, staged []Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range staged {
		s.note("discard")
		delete(s.staged, r.Name)
	}
}

func (s *memorySink) texts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.committed))
}
