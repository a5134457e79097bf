package fetch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

const maxProblems = 100

// A run is the state of Fetcher.Run over its sessions.
type run struct {
	f   *Fetcher
	log *slog.Logger

	// quit is done when the run must end after the message in hand, net when it must receive nothing more, and kill when it must
	// end now.
	quit, net, kill context.Context

	backoff backoff
	taken   int              // messages that count for Policy.MaxMessages
	octets  int64            // and for Policy.MaxOctets
	left    map[Key]struct{} // not to be asked for again in this run
	unnamed int              // messages left by this session that have no Key, or that are not in left
	broken  map[Key]int      // how often the connection was lost at a message
	aside   bool             // a connection was lost: the messages at which that happened wait for a session that ends well
	limit   int              // messages a session after a connection was lost, 0 if unlimited
	lostAt  int              // the least number of messages after which a connection was lost, 0 if there were too few
	agreed  bool             // Policy.AllNew was followed

	mu     sync.Mutex // guards report, and orders events
	report Report
}

func (f *Fetcher) run(ctx context.Context) (Report, error) {
	if f.Dial == nil || f.Store == nil || f.Sink == nil {
		return Report{}, errors.New("fetch: a Fetcher needs Dial, Store, and Sink")
	}
	kill, cancelKill := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelKill()
	net, cancelNet := context.WithCancel(kill)
	defer cancelNet()
	defer context.AfterFunc(ctx, func() {
		if sleep(kill, f.grace()/2) {
			cancelNet()
		}
		if sleep(kill, f.grace()/2) {
			cancelKill()
		}
	})()
	r := newRun(f, ctx)
	r.net, r.kill = net, kill
	begin := time.Now()
	err := r.sessions()
	r.mu.Lock()
	r.report.Elapsed = time.Since(begin)
	report := r.report
	r.mu.Unlock()
	r.emit(Event{Kind: EventDone, Err: err})
	return report, err
}

func (f *Fetcher) grace() time.Duration { return orDefault(f.Grace, 10*time.Second) }

func newRun(f *Fetcher, quit context.Context) *run {
	r := &run{
		f: f, log: f.Logger, quit: quit, net: quit, kill: quit, backoff: newBackoff(f.Retry),
		left: make(map[Key]struct{}), broken: make(map[Key]int),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if f.Account != "" {
		r.log = r.log.With("account", f.Account)
	}
	return r
}

func orDefault[T int | int64 | time.Duration](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}

// sessions opens one session after the other until nothing is left to do.
func (r *run) sessions() error {
	if err := r.quit.Err(); err != nil {
		return of(ErrInterrupted, context.Cause(r.quit))
	}
	if err := r.recover(r.quit); err != nil {
		return r.verdict(err)
	}
	for {
		s, err := r.session()
		if err == nil && s.more && !s.progress {
			err = lost(errNoProgress)
		}
		if err == nil && !s.more && !s.stopped {
			return r.result()
		}
		if r.quit.Err() != nil {
			return r.verdict(err)
		}
		var interrupted *lostError
		if err != nil && !errors.As(err, &interrupted) {
			return r.verdict(err)
		}
		delay, again := r.backoff.next(err, s.progress, time.Now())
		if !again || r.backoff.last.IsZero() {
			if err == nil {
				err = fmt.Errorf("the server wants %v between sessions", r.backoff.login)
			}
			return of(ErrServer, err)
		}
		if err != nil {
			r.log.Warn("connection lost", "err", err, "retry", delay.Round(time.Millisecond))
			r.emit(Event{Kind: EventRetry, Err: err, Delay: delay})
		}
		if !sleep(r.quit, delay) {
			return r.verdict(err)
		}
	}
}

// verdict returns the error of Run for the error of a session or of the recovery.
func (r *run) verdict(err error) error {
	isContext := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	var interrupted *lostError
	if r.quit.Err() != nil && (err == nil || isContext || errors.As(err, &interrupted)) {
		return of(ErrInterrupted, context.Cause(r.quit))
	}
	return of(ErrServer, err)
}

// result returns the error of Run after a session that came to its end.
func (r *run) result() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := &r.report
	if report.Left+report.Refused+report.Undone == 0 {
		return nil
	}
	cause := fmt.Errorf("%d refused, %d left, %d not deleted", report.Refused, report.Left, report.Undone)
	if len(report.Problems) > 0 {
		cause = fmt.Errorf("%w; first: %w", cause, report.Problems[0])
	}
	return of(ErrIncomplete, cause)
}

func (r *run) now() time.Time {
	if r.f.Now != nil {
		return r.f.Now()
	}
	return time.Now()
}

func (r *run) message(key Key, number int32, size int64) Message {
	return Message{Account: r.f.Account, Key: key, Number: int(number), Size: size, Time: r.now()}
}

// emit reports an event.
func (r *run) emit(e Event) {
	r.count(func(*Report) {}, e)
}

// count changes the report and reports events.
func (r *run) count(change func(*Report), events ...Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
	if r.f.Progress == nil {
		return
	}
	for _, e := range events {
		e.Time = r.now()
		r.f.Progress(e)
	}
}

// leave counts a message that is not taken now. It is not asked for again in this run.
func (r *run) leave(m Message, err error) {
	problem := &MessageError{m, err}
	r.log.Warn("message left on the server", "number", m.Number, "uid", m.Key.UID, "err", err)
	r.count(func(report *Report) {
		if m.Key.UID == "" {
			r.unnamed++
		} else {
			r.left[m.Key] = struct{}{}
		}
		report.Left = len(r.left) + r.unnamed
		report.add(problem)
	}, Event{Kind: EventLeft, Message: m, Err: err})
}

// leaveUnnamed counts n messages that are not taken in this session, of which m is an example.
func (r *run) leaveUnnamed(n int, m Message, err error) {
	r.count(func(report *Report) {
		r.unnamed += n
		report.Left = len(r.left) + r.unnamed
		report.add(&MessageError{m, err})
	})
}

// refuse counts a message that the Sink has refused for good.
func (r *run) refuse(m Message, err error) {
	problem := &MessageError{m, err}
	r.log.Warn("message refused", "number", m.Number, "uid", m.Key.UID, "err", err)
	r.count(func(report *Report) {
		report.Refused++
		report.add(problem)
	}, Event{Kind: EventRefused, Message: m, Err: err})
}

func (r *Report) add(problem *MessageError) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, problem)
	}
}

func (f *Fetcher) plan(ctx context.Context, c *pop3.Client) ([]Step, error) {
	quiet := *f
	quiet.Progress = nil
	r := newRun(&quiet, ctx)
	s := &session{run: r, c: c}
	if err := s.list(); err != nil {
		return nil, r.verdict(err)
	}
	if err := s.match(); err != nil {
		return nil, r.verdict(err)
	}
	records, err := s.records()
	if err != nil {
		return nil, r.verdict(err)
	}
	return s.steps(records), nil
}
