package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// A failure is the kind of a failed poll.
type failure string

const (
	failLogin    failure = "login"    // the server refused the login
	failSecret   failure = "secret"   // the reference to the secret could not be resolved
	failServer   failure = "server"   // the server or the network failed
	failProtocol failure = "protocol" // the server works, but the mailbox cannot be fetched
	failSink     failure = "sink"     // the sink refused the mail
	failPoison   failure = "poison"   // workers died while they polled the mailbox
	failBusy     failure = "in-use"   // another session has the mailbox; this is not counted
	failTooSoon  failure = "too-soon" // LOGIN-DELAY; this is not counted
)

// An event is what an operator should know.
type event string

const (
	eventRefused   event = "refused"   // the first refused login
	eventParked    event = "parked"    // the mailbox is given up
	eventBack      event = "back"      // a mailbox that failed works again
	eventPoison    event = "poison"    // the mailbox rests because workers died
	eventMessage   event = "message"   // a message is given up and stays on the server
	eventPaused    event = "paused"    // the class is paused
	eventLost      event = "lost"      // a worker has lost the connection to the engine
	eventForgotten event = "forgotten" // the watch found a mailbox without a job, or with one that was stuck
)

// maxTries is the number of polls that may leave a message on the server until it is given up.
const maxTries = 3

// classify returns the kind of a failed poll, or "" if it succeeded.
func classify(err error) failure {
	var refusal *pop3.ServerError
	errors.As(err, &refusal)
	code := pop3.ResponseCode("")
	if refusal != nil {
		code = refusal.Code
	}
	switch {
	case err == nil, errors.Is(err, fetch.ErrIncomplete), errors.Is(err, fetch.ErrInterrupted):
		return ""
	case errors.Is(err, errSecret):
		return failSecret
	case code.Is(pop3.CodeInUse):
		return failBusy
	case code.Is(pop3.CodeLoginDelay):
		return failTooSoon
	case errors.Is(err, fetch.ErrLogin):
		return failLogin
	case errors.Is(err, fetch.ErrSink), errors.Is(err, fetch.ErrStore):
		return failSink
	case errors.Is(err, fetch.ErrNoUIDL), errors.Is(err, fetch.ErrAllNew):
		return failProtocol
	}
	return failServer
}

// A result is what became of a poll.
type result struct {
	begin      time.Time
	now        time.Time
	err        error
	more       bool // the session ended before everything was fetched
	loginDelay time.Duration
	revision   uint64 // of the Mailbox
}

// next returns the job after a poll, and the events of it. It is a pure function but for the random numbers of jitter.
func (r *Retry) next(j job, m Mailbox, res result, ackWait time.Duration, jitter func() float64) (job, []event) {
	var events []event
	kind := classify(res.err)
	if res.loginDelay > 0 || kind == "" {
		j.LoginDelay = res.loginDelay
	}
	switch kind {
	case "":
		if j.Failures > 0 {
			events = append(events, eventBack)
		}
		j.Failures, j.Logins, j.Kind, j.Error, j.Since = 0, 0, "", "", time.Time{}
		j.Parked = false
		j.Polled = res.now
		j.Due = res.begin.Add(spread(m.Interval, jitter()/5))
		if res.more {
			j.Due = res.now
		} else if j.Due.Before(res.now) {
			j.Due = res.now
		}
		if errors.Is(res.err, fetch.ErrIncomplete) {
			j.Error = clip(res.err.Error())
		}
	case failBusy:
		j.Kind, j.Error = kind, clip(res.err.Error())
		j.Due = res.now.Add(spread(ackWait, jitter()))
	case failTooSoon:
		j.Kind, j.Error = kind, clip(res.err.Error())
		j.Due = res.now.Add(spread(max(m.Interval, j.LoginDelay), jitter()/5))
	default:
		if j.Failures == 0 {
			j.Since = res.now
		}
		j.Failures++
		j.Kind, j.Error = kind, clip(res.err.Error())
		first := r.MinDelay
		if kind == failLogin {
			first = max(r.LoginDelay, r.MinDelay)
			if j.Logins == 0 {
				events = append(events, eventRefused)
			}
			j.Logins++
		} else {
			j.Logins = 0
		}
		if kind == failLogin && j.Logins >= r.Logins {
			j.Parked, j.Revision = true, res.revision
			events = append(events, eventParked)
		}
		failures := j.Failures
		if kind == failLogin {
			failures = j.Logins
		}
		j.Due = res.now.Add(spread(double(first, r.MaxDelay, failures-1), jitter()))
	}
	if earliest := res.begin.Add(j.LoginDelay); j.Due.Before(earliest) {
		j.Due = earliest
	}
	return j, events
}

// double returns first, doubled n times up to limit.
func double(first, limit time.Duration, n int) time.Duration {
	for range n {
		if first >= limit {
			break
		}
		first *= 2
	}
	return min(first, limit)
}

// spread varies d by a quarter at random; x is between -1 and 1.
func spread(d time.Duration, x float64) time.Duration { return d + time.Duration(x*float64(d)/4) }

func randomJitter() float64 { return 2*rand.Float64() - 1 }

// clip bounds the text of an error in a job.
func clip(text string) string {
	const limit = 300
	if len(text) > limit {
		return text[:limit]
	}
	return text
}

// giveUp counts the messages that a poll has left on the server. Those that were left maxTries times are recorded as refused, so that
// later polls do not ask for them. It returns how many.
func giveUp(ctx context.Context, j *job, s *jobStore, report *fetch.Report, account string, now time.Time) (n int, err error) {
	// A server that refuses many messages limits the volume, or has trouble; the messages are not at fault.
	const few = 16
	if report.Left == 0 || report.Left > few {
		if report.Left == 0 {
			j.Tries = nil
		}
		return 0, nil
	}
	tries := make(map[string]int)
	for _, p := range report.Problems {
		key := p.Message.Key
		if key.UID == "" || fetch.IsNever(p.Err) || fetch.IsLater(p.Err) { // the sink has its own reasons
			continue
		}
		d := key.Digest(account)
		tries[d] = j.Tries[d] + 1
		if tries[d] < maxTries {
			continue
		}
		delete(tries, d)
		n++
		err := s.Put(ctx, fetch.Record{Key: key, State: fetch.Refused, Size: p.Message.Size, Time: now, Reason: clip(p.Err.Error())})
		if err != nil {
			return n, err
		}
	}
	j.Tries = tries
	return n, nil
}
