package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errFenced is why a worker drops its sessions: it cannot reach the engine, which is about to give the mailboxes to other workers.
var errFenced = errors.New("fleet: lost the lease: the engine cannot be reached")

// A lease is a job that a worker holds.
type lease struct {
	msg     jetstream.Msg
	ackWait time.Duration
	drop    context.CancelCauseFunc // ends the session at once, without QUIT

	mu     sync.Mutex
	until  time.Time // when the worker must have dropped the session
	frozen bool      // the lease cannot be extended any more
}

// valid reports whether the lease is still sure.
func (l *lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

// extend notes that the engine has extended the lease, at a time or later.
func (l *lease) extend(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		l.until = at.Add(l.ackWait * 2 / 3)
	}
}

// freeze lets the lease end when it would have ended.
func (l *lease) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
}

// giveBack lets another worker have a job that was not begun.
func (l *lease) giveBack() {
	if l.valid() {
		l.msg.Nak()
	}
}

// A keeper extends the leases of a worker, each AckWait/6, and drops the session of those that it could not extend for 2/3 of AckWait.
type keeper struct {
	nc *nats.Conn

	mu     sync.Mutex
	every  time.Duration // AckWait/6 of the class with the shortest
	leases map[*lease]bool

	lost       func()    // announces that the connection was lost, for workers that start
	reconnects uint64    // of nc that were noticed
	quiet      time.Time // until when no job is taken
}

func newKeeper(nc *nats.Conn, ackWait time.Duration) *keeper {
	return &keeper{nc: nc, every: ackWait / 6, leases: make(map[*lease]bool), reconnects: nc.Stats().Reconnects}
}

// hold begins a lease on a job that was just delivered.
func (k *keeper) hold(msg jetstream.Msg, ackWait time.Duration, drop context.CancelCauseFunc) *lease {
	l := &lease{msg: msg, ackWait: ackWait, drop: drop}
	l.extend(time.Now())
	k.mu.Lock()
	defer k.mu.Unlock()
	k.every = min(k.every, ackWait/6)
	k.leases[l] = true
	return l
}

func (k *keeper) release(l *lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.leases, l)
}

func (k *keeper) held() []*lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	leases := make([]*lease, 0, len(k.leases))
	for l := range k.leases {
		leases = append(leases, l)
	}
	return leases
}

// run extends leases until ctx is done. Extending and dropping have a goroutine each, because a flush may block.
func (k *keeper) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { k.each(ctx, 1, func() { k.extend(ctx) }) })
	k.each(ctx, 4, k.fence)
}

// each calls do n times in the time between two extensions. That time becomes shorter when a class with a shorter lease is served.
func (k *keeper) each(ctx context.Context, n time.Duration, do func()) {
	const longest = 250 * time.Millisecond
	last := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			if time.Since(last) >= k.period()/n {
				do()
				last = time.Now()
			}
			timer.Reset(min(k.period()/n-time.Since(last), longest))
		}
	}
}

func (k *keeper) period() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.every
}

// quietFor returns how long no job may be taken. A single engine that was killed has forgotten its latest deliveries, and delivers
// those jobs again at once. So after the connection was lost, the sessions of before end with their leases, and no worker takes a job
// until those of all workers have ended. A cluster does not forget.
func (k *keeper) quietFor(ackWait time.Duration) time.Duration {
	reconnects := k.nc.Stats().Reconnects
	k.mu.Lock()
	defer k.mu.Unlock()
	if reconnects != k.reconnects {
		k.reconnects = reconnects
		if k.nc.ConnectedClusterName() == "" {
			k.quiet = time.Now().Add(ackWait)
			for l := range k.leases {
				l.freeze()
			}
			if k.lost != nil {
				go k.lost()
			}
		}
	}
	return time.Until(k.quiet)
}

// extend asks the engine to extend all leases, and waits until it has heard of it.
func (k *keeper) extend(ctx context.Context) {
	leases := k.held()
	if len(leases) == 0 {
		return
	}
	begin := time.Now()
	k.quietFor(leases[0].ackWait)
	for _, l := range leases {
		if l.msg.InProgress() != nil {
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*k.period())
	defer cancel()
	if k.nc.FlushWithContext(ctx) != nil {
		return
	}
	k.quietFor(leases[0].ackWait) // it may have been another engine that responded
	for _, l := range leases {
		l.extend(begin)
	}
}

// fence drops the sessions whose leases are not sure any more.
func (k *keeper) fence() {
	for _, l := range k.held() {
		if !l.valid() {
			l.drop(errFenced)
		}
	}
}
