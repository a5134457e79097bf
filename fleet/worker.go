package fleet

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// A Worker polls mailboxes of a fleet. Any number of workers may run at once, on any number of machines. The fields must not change
// while Run is running.
type Worker struct {
	Fleet   *Fleet
	Secrets *Secrets

	// Sessions is the number of sessions at once. If 0, it is 256.
	Sessions int

	// Bytes bounds the mail in flight, in bytes. If 0, it is 256 MiB.
	Bytes int64

	// SessionLimit bounds the duration of a session. What is left is fetched by the next session, which begins at once. If 0, it is
	// 30 min.
	SessionLimit time.Duration

	// Sink, if not nil, returns the sink of a mailbox, instead of the mail stream. It is called once a poll. A message may be
	// delivered to it again if the worker dies, and must be recognized by its fetch.Key and the mailbox. Large mail and Bytes are its
	// own concern. known reports whether a message was delivered by an earlier poll, and comes again to be compared: Commit or
	// Discard tells whether it is another one.
	Sink func(m Mailbox, known func(fetch.Key) bool) fetch.Sink

	// TLSConfig and Dialer are those of the sessions; see pop3.Options. If TLSConfig has no ClientSessionCache, Run adds one, so that
	// not every poll verifies the certificate of the server.
	TLSConfig *tls.Config
	Dialer    pop3.Dialer

	// Timeout is the longest silence of a server. If 0, it is 1 min.
	Timeout time.Duration

	// Grace is the time that sessions have to finish after the context of Run is done. If 0, it is 10 s.
	Grace time.Duration

	Logger *slog.Logger // if nil, nothing is logged

	// Counts may be read at any time.
	Counts Counts

	hook  func(point string)       // of tests
	begun func(late time.Duration) // of tests: a poll begins, and how late
}

// Counts are the totals of a worker.
type Counts struct {
	Polls, Failed, Mails, Bytes, Deleted, Redelivered, Fenced atomic.Int64
	PutOff                                                    atomic.Int64 // jobs, because of other sessions with their host
	Sessions                                                  atomic.Int64 // open now
}

// A running is the state of Worker.Run.
type running struct {
	*Worker
	f      *Fleet
	log    *slog.Logger
	name   string // at random
	tls    *tls.Config
	keeper *keeper
	slots  *semaphore.Weighted
	budget *budget

	polls sync.WaitGroup

	mu       sync.Mutex
	classes  map[string]bool
	breakers map[string]*breaker
	hosts    map[string]*host
}

const (
	classesEvery = 2 * time.Second
	tlsSessions  = 1000 // hosts whose TLS sessions are resumed
)

// Run polls mailboxes until ctx is done. It then lets the sessions commit what they have, and returns nil. It is safe to kill the
// process instead.
func (w *Worker) Run(ctx context.Context) error {
	if w.Fleet == nil || w.Secrets == nil {
		return errors.New("fleet: Worker without a Fleet or Secrets")
	}
	bytes := w.Bytes
	if bytes <= 0 {
		bytes = 256 << 20
	}
	sessions := w.Sessions
	setDefault(&sessions, 256)
	r := &running{
		Worker: w, f: w.Fleet, log: w.Logger, name: rand.Text(), tls: w.TLSConfig.Clone(), slots: semaphore.NewWeighted(int64(sessions)),
		budget:  &budget{semaphore.NewWeighted(bytes), bytes},
		classes: make(map[string]bool), breakers: make(map[string]*breaker), hosts: make(map[string]*host),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.tls == nil {
		r.tls = new(tls.Config)
	}
	if r.tls.ClientSessionCache == nil {
		r.tls.ClientSessionCache = tls.NewLRUClientSessionCache(tlsSessions)
	}
	if err := r.f.ensureClass(ctx, watchClass); err != nil {
		return err
	}
	if _, err := r.f.add(ctx, watchClass, watchID); err != nil {
		return err
	}

	r.keeper = newKeeper(r.f.nc, r.f.cfg.AckWait)
	r.keeper.lost = func() { r.f.event(engineLost, r.name, eventLost, "") }
	r.keeper.quiet = r.f.lastLost(ctx).Add(r.f.cfg.AckWait)
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	var keeping sync.WaitGroup
	keeping.Go(func() { r.keeper.run(keep) })

	r.follow(ctx)
	r.polls.Wait()
	stop()
	keeping.Wait()
	return nil
}

// follow serves every class that exists, until ctx is done.
func (r *running) follow(ctx context.Context) {
	ticker := time.NewTicker(classesEvery)
	defer ticker.Stop()
	for {
		if err := r.discover(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("classes not listed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// discover begins to serve classes that are new.
func (r *running) discover(ctx context.Context) error {
	names := r.f.jobs.ConsumerNames(ctx)
	for name := range names.Name() {
		class, ok := strings.CutPrefix(name, consumerPrefix)
		if !ok {
			continue
		}
		r.mu.Lock()
		known := r.classes[class]
		r.classes[class] = true
		r.mu.Unlock()
		if !known {
			r.polls.Go(func() { r.serve(ctx, class) })
		}
	}
	return names.Err()
}

// serve polls the mailboxes of a class, until ctx is done or the class is gone.
func (r *running) serve(ctx context.Context, class string) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.classes, class)
	}()
	for ctx.Err() == nil {
		err := r.consume(ctx, class)
		if err == nil {
			continue
		}
		if ctx.Err() != nil || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) {
			return
		}
		r.log.Warn("jobs not received", "class", class, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// consume takes jobs one by one: a job that waits in a buffer would lose its lease. It may have asked for two when the connection was
// interrupted, so it returns nil, to start again without what is buffered, when it could not take jobs for a time.
func (r *running) consume(ctx context.Context, class string) error {
	consumer, err := r.f.jobs.Consumer(ctx, consumerPrefix+class)
	if err != nil {
		return err
	}
	ackWait := consumer.CachedInfo().Config.AckWait
	jobs, err := consumer.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(10*time.Second),
		jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return err
	}
	defer jobs.Stop()
	last := time.Now() // when jobs were taken
	for {
		if d := r.keeper.quietFor(ackWait); d > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(d):
			}
		}
		if time.Since(last) > ackWait/6 {
			return nil
		}
		msg, err := jobs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		last = time.Now()
		if d := r.keeper.quietFor(ackWait); d > 0 {
			msg.NakWithDelay(d)
			continue
		}
		session, drop := context.WithCancelCause(ctx)
		l := r.keeper.hold(msg, ackWait, drop)
		finish := func() {
			drop(nil)
			r.keeper.release(l)
		}
		if class != watchClass {
			if err := r.slots.Acquire(session, 1); err != nil {
				l.giveBack()
				finish()
				if ctx.Err() != nil {
					return ctx.Err()
				}
				continue
			}
		}
		r.polls.Go(func() {
			defer finish()
			if class == watchClass {
				r.watch(session, msg)
				return
			}
			defer r.slots.Release(1)
			r.Counts.Sessions.Add(1)
			defer r.Counts.Sessions.Add(-1)
			r.poll(session, class, l)
		})
	}
}

// at is called at the points of a poll where a test may kill the worker.
func (r *running) at(point string) {
	if r.hook != nil {
		r.hook(point)
	}
}
