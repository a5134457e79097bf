package fleet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// A Status is the state of a fleet.
type Status struct {
	Time      time.Time `json:"time"`
	Mailboxes int       `json:"mailboxes"`
	Paused    int       `json:"paused"`
	Parked    int       `json:"parked"`
	Failing   int       `json:"failing"`
	Missing   int       `json:"missing"` // without a job; the overdue watch makes them due
	Late      Late      `json:"late"`
	Mails     uint64    `json:"mails"`      // in the mail stream
	MailBytes uint64    `json:"mail_bytes"` // of these, without large mail
	Undrained uint64    `json:"undrained"`  // of these, not acknowledged by the slowest receiver; all if there is none

	Providers []ProviderStatus `json:"providers"`
	Problems  []Problem        `json:"problems"` // the first 100 of the mailboxes that fail, by the number of failures
}

// A Late is how late mailboxes are that are due. Those that are being polled count too.
type Late struct {
	Due int           `json:"due"`
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

// A ProviderStatus is the state of a class of mailboxes.
type ProviderStatus struct {
	Name        string        `json:"name"`
	Mailboxes   int           `json:"mailboxes"`
	Failing     int           `json:"failing"`
	Due         int           `json:"due"`
	Held        int           `json:"held"` // by workers
	Limit       int           `json:"limit"`
	PausedFor   time.Duration `json:"paused_for_ns"`
	Redelivered int           `json:"redelivered"`
}

// A Problem is a mailbox that fails.
type Problem struct {
	ID       string    `json:"id"`
	Account  string    `json:"account"`
	Provider string    `json:"provider"`
	Kind     string    `json:"kind"`
	Error    string    `json:"error"`
	Failures int       `json:"failures"`
	Since    time.Time `json:"since"`
	Due      time.Time `json:"due"`
	Parked   bool      `json:"parked"`
}

const maxProblems = 100

// Status reads the state of the fleet.
func (f *Fleet) Status(ctx context.Context) (*Status, error) {
	s := &Status{Time: time.Now(), Providers: []ProviderStatus{}, Problems: []Problem{}}
	mailboxes := make(map[string]Mailbox)
	classes := make(map[string]*ProviderStatus)
	class := func(name string) *ProviderStatus {
		if classes[name] == nil {
			classes[name] = &ProviderStatus{Name: name}
		}
		return classes[name]
	}
	err := f.Mailboxes(ctx, func(id string, m Mailbox) bool {
		mailboxes[id] = m
		s.Mailboxes++
		class(m.Provider).Mailboxes++
		if m.Paused {
			s.Paused++
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var late []time.Duration
	seen := make(map[string]bool, len(mailboxes))
	for msg, err := range f.messages(ctx, JobsStream, "pop3.>") {
		if err != nil {
			return nil, err
		}
		name, id, due := splitJob(msg.Subject)
		m, ok := mailboxes[id]
		if !ok {
			continue
		}
		seen[id] = true
		j, err := decodeJob(msg.Data)
		if err != nil {
			continue
		}
		if due {
			class(name).Due++
			late = append(late, max(0, s.Time.Sub(j.Due)))
		}
		if j.Parked {
			s.Parked++
		}
		if j.Kind == "" && j.Error == "" {
			continue
		}
		if j.Failures > 0 {
			s.Failing++
			class(name).Failing++
		}
		s.Problems = append(s.Problems, Problem{
			ID: id, Account: m.Account(), Provider: name, Kind: string(j.Kind), Error: j.Error, Failures: j.Failures,
			Since: j.Since, Due: j.Due, Parked: j.Parked,
		})
	}
	s.Missing = len(mailboxes) - len(seen)
	s.Late = lateOf(late)
	slices.SortFunc(s.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(b.Failures, a.Failures), cmp.Compare(a.ID, b.ID))
	})
	s.Problems = s.Problems[:min(len(s.Problems), maxProblems)]
	if err := f.consumerStatus(ctx, class); err != nil {
		return nil, err
	}
	for _, p := range classes {
		s.Providers = append(s.Providers, *p)
	}
	slices.SortFunc(s.Providers, func(a, b ProviderStatus) int { return cmp.Compare(a.Name, b.Name) })
	return s, f.mailStatus(ctx, s)
}

func lateOf(late []time.Duration) Late {
	if len(late) == 0 {
		return Late{}
	}
	slices.Sort(late)
	at := func(percent int) time.Duration { return late[(len(late)-1)*percent/100] }
	return Late{Due: len(late), P50: at(50), P99: at(99), Max: late[len(late)-1]}
}

func (f *Fleet) consumerStatus(ctx context.Context, class func(name string) *ProviderStatus) error {
	list := f.jobs.ListConsumers(ctx)
	for info := range list.Info() {
		name, ok := strings.CutPrefix(info.Name, consumerPrefix)
		if !ok || name == watchClass {
			continue
		}
		p := class(name)
		p.Held, p.Limit, p.Redelivered = info.NumAckPending, info.Config.MaxAckPending, info.NumRedelivered
		if info.Paused {
			p.PausedFor = info.PauseRemaining
		}
	}
	if err := list.Err(); err != nil {
		return errors.Join(errors.New("fleet: consumers not listed"), err)
	}
	return nil
}

func (f *Fleet) mailStatus(ctx context.Context, s *Status) error {
	info, err := f.mail.Info(ctx)
	if err != nil {
		return err
	}
	s.Mails, s.MailBytes, s.Undrained = info.State.Msgs, info.State.Bytes, 0
	receivers := 0
	list := f.mail.ListConsumers(ctx)
	for c := range list.Info() {
		if c.Config.Durable != "" {
			receivers++
			s.Undrained = max(s.Undrained, c.NumPending+uint64(c.NumAckPending))
		}
	}
	if receivers == 0 {
		s.Undrained = s.Mails
	}
	return list.Err()
}
