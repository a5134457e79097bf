package fleet

import (
	"context"
	"time"
)

// A breaker counts the mailboxes of a class that a worker could not reach, in a row. If they are many, it pauses the class for the
// whole fleet, for longer each time. Its fields are guarded by running.mu.
type breaker struct {
	failed map[string]bool
	pauses int
	until  time.Time
}

// judge notes whether a mailbox could be reached.
func (p *poll) judge(ctx context.Context, kind failure, connected bool) {
	pause, ok := p.trip(kind, connected, time.Now())
	if !ok {
		return
	}
	until := time.Now().Add(pause)
	if _, err := p.f.jobs.PauseConsumer(ctx, consumerPrefix+p.class, until); err != nil {
		p.log.Warn("class not paused", "class", p.class, "err", err)
		return
	}
	p.log.Warn("class paused", "class", p.class, "until", until)
	p.f.event(p.class, p.id, eventPaused, "until "+until.UTC().Format(time.RFC3339))
}

// trip returns how long the class is to be paused, if it is.
func (p *poll) trip(kind failure, connected bool, now time.Time) (time.Duration, bool) {
	r := &p.f.cfg.Retry
	p.running.mu.Lock()
	defer p.running.mu.Unlock()
	b := p.breakers[p.class]
	if kind != failServer {
		if connected || kind == failLogin {
			delete(p.breakers, p.class)
		}
		return 0, false
	}
	if b == nil {
		b = &breaker{failed: make(map[string]bool)}
		p.breakers[p.class] = b
	}
	b.failed[p.id] = true
	if len(b.failed) < r.ClassFailures || now.Before(b.until) {
		return 0, false
	}
	pause := double(r.PauseMin, r.PauseMax, b.pauses)
	b.pauses++
	b.until = now.Add(pause)
	clear(b.failed)
	return pause, true
}
