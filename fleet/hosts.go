package fleet

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
)

// In a class that many hosts share, a worker has hostSessions sessions with one host at once, and holds as many jobs that wait for
// them. Further jobs of the host are put off, for maxPutOff at most, so that they do not take the sessions of other hosts.
const (
	hostSessions = 2
	hostJobs     = 2 * hostSessions
	maxPutOff    = time.Minute
)

// A host is a host in a shared class. Its fields are guarded by running.mu.
type host struct {
	name string
	open *semaphore.Weighted
	jobs int           // that hold or wait for open
	mean time.Duration // of a session
	next time.Time     // when the next job may be put off to
}

// isShared reports whether a class has the hosts that no provider is configured for.
func isShared(class string) bool { return strings.HasPrefix(class, otherPrefix) }

// enter returns a host with which a session may begin. If too many jobs of the host are held, it returns nil, and for how long to put
// off the job.
func (r *running) enter(addr string) (*host, time.Duration) {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		name = addr
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[name]
	if h == nil {
		h = &host{name: name, open: semaphore.NewWeighted(hostSessions), mean: time.Second}
		r.hosts[name] = h
	}
	if h.jobs < hostJobs {
		h.jobs++
		return h, 0
	}
	// The jobs that are put off come back one after the other, as sessions end.
	now := time.Now()
	if h.next.Before(now) {
		h.next = now.Add(h.mean)
	}
	h.next = h.next.Add(h.mean / hostSessions)
	wait := h.next.Sub(now)
	if wait > maxPutOff {
		h.next = now.Add(maxPutOff)
		wait = maxPutOff/2 + rand.N(maxPutOff/2)
	}
	return nil, wait
}

// leave ends what enter began. d is the duration of the session, or 0 if there was none.
func (r *running) leave(h *host, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.jobs--
	if d > 0 {
		h.mean += (d - h.mean) / 8
	}
	if h.jobs == 0 && h.next.Before(time.Now()) {
		delete(r.hosts, h.name)
	}
}

// alone runs the poll when the worker has few enough sessions with its host, or puts it off.
func (p *poll) alone(ctx context.Context) {
	h, wait := p.enter(p.mailbox.Addr)
	if h == nil {
		p.Counts.PutOff.Add(1)
		p.finish(ctx, p.job, time.Now().Add(wait))
		return
	}
	if err := h.open.Acquire(ctx, 1); err != nil {
		p.leave(h, 0)
		p.lease.giveBack()
		return
	}
	begin := time.Now()
	p.run(ctx)
	h.open.Release(1)
	p.leave(h, time.Since(begin))
}
