package fleet

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// A poll is one session with a mailbox, from the delivery of its job to the acknowledgement.
type poll struct {
	*running
	lease    *lease
	class    string
	id       string
	sequence uint64 // of the job
	job      job
	mailbox  Mailbox
	revision uint64

	mu         sync.Mutex
	client     *pop3.Client // of the session
	connected  bool
	loginDelay time.Duration
}

// engineTimeout bounds what is done after a session, also if the worker is to stop.
const engineTimeout = 20 * time.Second

// poll polls a mailbox. ctx is done if the worker is to stop, or has lost the lease.
func (r *running) poll(ctx context.Context, class string, l *lease) {
	meta, err := l.msg.Metadata()
	if err != nil {
		r.log.Error("job without metadata", "subject", l.msg.Subject(), "err", err)
		return
	}
	_, id, _ := splitJob(l.msg.Subject())
	p := &poll{running: r, lease: l, class: class, id: id, sequence: meta.Sequence.Stream}
	log := r.log.With("class", class, "mailbox", id)
	if meta.NumDelivered > 1 {
		r.Counts.Redelivered.Add(1)
		if p.isDone(ctx) {
			l.msg.Ack()
			return
		}
	}
	if p.job, err = decodeJob(l.msg.Data()); err != nil {
		log.Error("job replaced", "err", err)
		p.job = job{}
	}
	p.mailbox, p.revision, err = r.f.get(ctx, id)
	switch {
	case errors.Is(err, ErrNotEnrolled) && meta.NumDelivered == 1:
		l.msg.NakWithDelay(time.Second) // a replica may lag behind
		return
	case errors.Is(err, ErrNotEnrolled):
		l.msg.Ack()
		return
	case err != nil:
		log.Warn("mailbox not read", "err", err)
		l.msg.NakWithDelay(5 * time.Second)
		return
	case p.mailbox.Provider != class:
		l.msg.Ack()
		return
	}
	if p.rests(ctx, int(meta.NumDelivered)) {
		return
	}
	if isShared(class) {
		p.alone(ctx)
		return
	}
	p.run(ctx)
}

// isDone reports whether an earlier holder of the job has scheduled the next poll and died before it could acknowledge.
func (p *poll) isDone(ctx context.Context) bool {
	_, err := p.f.jobs.GetLastMsgForSubject(ctx, laterSubject(p.class, p.id))
	return err == nil
}

// rests puts off a mailbox that is not to be polled now.
func (p *poll) rests(ctx context.Context, delivered int) bool {
	r := &p.f.cfg.Retry
	next := p.job
	now := time.Now()
	switch {
	case p.mailbox.Paused:
		next.Due = now.Add(24 * time.Hour)
	case next.Parked && next.Revision == p.revision:
		next.Due = now.Add(24 * time.Hour)
	case delivered > r.Deliveries:
		if next.Failures == 0 {
			next.Since = now
		}
		next.Failures++
		next.Kind = failPoison
		next.Error = strconv.Itoa(delivered-1) + " polls began and did not end"
		next.Due = now.Add(r.PoisonRest)
		p.f.event(p.class, p.id, eventPoison, next.Error)
	default:
		return false
	}
	if p.finish(ctx, next, next.Due) && (p.mailbox.Paused || next.Parked) {
		// The mailbox may have been resumed or changed in the meantime.
		if m, revision, err := p.f.get(ctx, p.id); err == nil && revision != p.revision {
			p.f.wake(ctx, m, nil)
		}
	}
	return true
}

// finish schedules the next poll and acknowledges the job.
func (p *poll) finish(ctx context.Context, next job, at time.Time) bool {
	err := p.f.schedule(ctx, p.class, p.id, next, at, p.sequence)
	for tries := 0; err != nil && !isFenced(err) && p.lease.valid() && ctx.Err() == nil && tries < 100; tries++ {
		p.log.Warn("next poll not scheduled", "mailbox", p.id, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
		err = p.f.schedule(ctx, p.class, p.id, next, at, p.sequence)
	}
	switch {
	case isFenced(err): // by another worker, by Remove, or by this one if an earlier response was lost
		p.Counts.Fenced.Add(1)
	case err != nil:
		return false
	}
	p.at("scheduled")
	p.lease.msg.Ack()
	return err == nil
}

// run opens the session and does what is to be done after it.
func (p *poll) run(ctx context.Context) {
	begin := time.Now()
	if p.begun != nil {
		p.begun(begin.Sub(p.job.Due))
	}
	store, err := p.f.loadStore(ctx, &p.job)
	if err != nil {
		p.log.Error("records of a mailbox not read", "mailbox", p.id, "err", err)
		p.lease.msg.NakWithDelay(5 * time.Second)
		return
	}
	unfence := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errFenced) {
			p.hangUp()
		}
	})
	limit := p.SessionLimit
	setDefault(&limit, 30*time.Minute)
	session, cancel := context.WithTimeout(ctx, limit)
	report, err := p.fetcher(store).Run(session)
	cancel()
	unfence()
	p.at("quit")
	p.count(&report)
	if errors.Is(context.Cause(ctx), errFenced) || !p.lease.valid() {
		p.Counts.Fenced.Add(1)
		p.log.Warn("session dropped", "mailbox", p.id, "err", errFenced)
		return // another worker has the mailbox, or will have it
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), engineTimeout)
	defer cancel()
	p.conclude(after, begin, store, &report, err)
}

// conclude decides when the mailbox is polled again, and says so to the engine.
func (p *poll) conclude(ctx context.Context, begin time.Time, store *jobStore, report *fetch.Report, err error) {
	now := time.Now()
	next := p.job
	object := p.job.Object
	p.mu.Lock()
	connected, delay := p.connected, p.loginDelay
	p.mu.Unlock()
	var events []event
	if errors.Is(err, fetch.ErrInterrupted) && !connected {
		next.Due = now
	} else {
		res := result{begin: begin, now: now, err: err, more: errors.Is(err, fetch.ErrInterrupted), loginDelay: delay, revision: p.revision}
		next, events = p.f.cfg.Retry.next(next, p.mailbox, res, p.lease.ackWait, randomJitter)
	}
	given, storeErr := giveUp(ctx, &next, store, report, p.mailbox.Account(), now)
	if storeErr == nil {
		storeErr = p.f.saveStore(ctx, p.id, store, &next)
	}
	if storeErr != nil {
		p.log.Error("records of a mailbox not stored", "mailbox", p.id, "err", storeErr)
		return // the mailbox is polled again when the lease ends
	}
	if kind := classify(err); kind != "" {
		p.Counts.Failed.Add(1)
		p.log.Warn("poll failed", "class", p.class, "mailbox", p.id, "kind", string(kind), "err", err)
	}
	scheduled := p.finish(ctx, next, next.Due)
	if scheduled && next.Object != object {
		p.f.forget(ctx, object)
	}
	if given > 0 {
		events = append(events, eventMessage)
	}
	for _, e := range events {
		p.f.event(p.class, p.id, e, next.Error)
	}
	if scheduled && next.Parked {
		if m, revision, err := p.f.get(ctx, p.id); err == nil && revision != p.revision {
			p.f.wake(ctx, m, nil)
		}
	}
	p.judge(ctx, classify(err), connected)
}

func (p *poll) count(report *fetch.Report) {
	p.Counts.Polls.Add(1)
	p.Counts.Mails.Add(int64(report.Fetched))
	p.Counts.Bytes.Add(report.Octets)
	p.Counts.Deleted.Add(int64(report.Deleted))
}

// fetcher returns the Fetcher of the session.
func (p *poll) fetcher(store *jobStore) *fetch.Fetcher {
	grace := p.Grace
	setDefault(&grace, 10*time.Second)
	f := &fetch.Fetcher{
		Account: p.mailbox.Account(),
		Dial:    p.dial,
		Store:   store,
		Policy:  fetch.Policy{Delete: !p.mailbox.Keep, DeleteAfter: p.mailbox.KeepFor, AllNew: fetch.AllNewMatch},
		Retry:   fetch.Retry{Attempts: -1},
		Grace:   grace,
		Logger:  nil, // unique-ids and user names are not for the log of a fleet
	}
	done := make(map[fetch.Key]bool)
	for r := range store.Load(context.Background(), fetch.Done) {
		done[r.Key] = true
	}
	known := func(k fetch.Key) bool { return done[k] }
	if p.Sink != nil {
		f.Sink = p.Sink(p.mailbox, known)
		return f
	}
	f.Sink = &streamSink{f: p.f, id: p.id, account: p.mailbox.Account(), budget: p.budget, hook: p.at, known: known}
	return f
}

// dial opens the session.
func (p *poll) dial(ctx context.Context) (*pop3.Client, error) {
	secret, err := p.Secrets.Resolve(ctx, p.mailbox.Secret)
	if err != nil {
		return nil, err
	}
	timeout := p.Timeout
	setDefault(&timeout, time.Minute)
	opts := &pop3.Options{TLSConfig: p.tls, Dialer: p.Dialer, Timeout: timeout, AllowInsecureLogin: p.mailbox.TLS == TLSNone}
	if p.hook != nil {
		opts.Observe = func(ctx context.Context, e pop3.Event) {
			if e.Verb == "DELE" && e.Err == nil {
				p.at("deleted")
			}
		}
	}
	dial := pop3.DialTLS
	switch p.mailbox.TLS {
	case TLSStart:
		dial = pop3.DialStartTLS
	case TLSNone:
		dial = pop3.Dial
	}
	dialing, cancel := context.WithTimeout(ctx, timeout)
	c, err := dial(dialing, p.mailbox.Addr, opts)
	cancel()
	if err != nil {
		return nil, err
	}
	if err := c.Login(ctx, p.mailbox.User, secret); err != nil {
		c.Close()
		return nil, err
	}
	p.mu.Lock()
	p.client, p.connected = c, true
	p.mu.Unlock()
	if errors.Is(context.Cause(ctx), errFenced) {
		p.hangUp()
	}
	if caps, err := c.Capabilities(ctx); err == nil {
		p.setLoginDelay(caps)
	}
	return c, nil
}

// setLoginDelay notes how long the server wants to be left alone after a login (RFC 2449, section 6.5).
func (p *poll) setLoginDelay(caps pop3.Capabilities) {
	if params := caps["LOGIN-DELAY"]; len(params) > 0 {
		if seconds, err := strconv.ParseUint(params[0], 10, 31); err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.loginDelay = min(time.Duration(seconds)*time.Second, 24*time.Hour)
		}
	}
}

// hangUp ends the session without QUIT.
func (p *poll) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		p.client.Close()
	}
}
