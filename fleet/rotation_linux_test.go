package fleet

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

var rotationOf = flag.Int("rotation", 0, "mailboxes of TestRotation, which are polled every 5 min; if 0, a few, every 2 s")

const (
	sessionTime = 500 * time.Millisecond
	requests    = 64 // at once, as many as the command has
)

// A slowDialer dials a server without mail. A session takes sessionTime.
type slowDialer struct{ srv *pop3test.Server }

func (d slowDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	select {
	case <-time.After(sessionTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return d.srv.Pipe(), nil
}

// A rotation is an engine in a process of its own, with many mailboxes, and in this process a worker with sessions that sleep.
type rotation struct {
	t         *testing.T
	sync      bool
	n         int
	interval  time.Duration
	dir       string
	env       []string
	engine    *process
	bench     *bench
	mailboxes []Mailbox

	mu   sync.Mutex
	late []time.Duration
}

// TestRotation measures a rotation of many mailboxes: how late polls are, and what the engine needs.
func TestRotation(t *testing.T) {
	for _, sync := range []bool{false, true} {
		if *rotationOf == 0 && !sync {
			continue
		}
		t.Run(fmt.Sprintf("fsync %v", sync), func(t *testing.T) {
			r := &rotation{t: t, sync: sync, n: *rotationOf, interval: 5 * time.Minute}
			if r.n == 0 {
				t.Parallel()
				r.n, r.interval = 100, 2*time.Second
			}
			r.run()
		})
	}
}

func (r *rotation) run() {
	t := r.t
	r.dir = t.TempDir()
	addr := freeAddr(t)
	r.env = []string{"FLEET_DIR=" + r.dir, "FLEET_ADDR=" + addr}
	if r.sync {
		r.env = append(r.env, "FLEET_SYNC=1")
	}
	r.engine = spawn(t, "engine", r.env...)
	r.bench = benchAt(t, "nats://"+addr, Config{Providers: loadLimits(loadProviders, 50)})
	for i := range r.n {
		r.mailboxes = append(r.mailboxes, Mailbox{
			User: "user", Addr: fmt.Sprintf("pop-%d.example.org:110", i), TLS: TLSNone, Secret: "keyring:x",
			Provider: "p" + strconv.Itoa(i%loadProviders), Interval: r.interval,
		})
	}
	begin := time.Now()
	r.each(func(i int, m Mailbox) error { return r.bench.Enrol(t.Context(), m) })
	t.Logf("%d mailboxes, fsync %v: enrolled in %.1f s", r.n, r.sync, time.Since(begin).Seconds())

	srv := pop3test.NewUnstartedServer(nil)
	srv.STLS = false
	t.Cleanup(srv.Close)
	w := r.bench.worker()
	w.Dialer, w.Sessions = slowDialer{srv}, 1000
	w.begun = func(late time.Duration) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.late = append(r.late, late)
	}
	first := r.spread()
	stop := r.bench.start(w)
	time.Sleep(time.Until(first.Add(r.interval / 10)))
	r.mu.Lock()
	r.late = nil
	r.mu.Unlock()
	a, from := usageOf(t, r.engine.cmd.Process.Pid), time.Now()
	time.Sleep(r.interval)
	b := usageOf(t, r.engine.cmd.Process.Pid)
	seconds := time.Since(from).Seconds()
	r.mu.Lock()
	late := lateOf(r.late)
	r.mu.Unlock()
	t.Logf("%.0f polls/s; engine %.3f cores, %.2f ms a poll, %d MiB, peak %d MiB, disk %d MiB; late p50 %v, p99 %v, max %v",
		float64(late.Due)/seconds, (b.cpu-a.cpu).Seconds()/seconds, (b.cpu-a.cpu).Seconds()*1000/float64(max(1, late.Due)),
		b.rss/mib, b.peak/mib, r.disk(), late.P50.Round(time.Millisecond), late.P99.Round(time.Millisecond), late.Max.Round(time.Millisecond))
	if late.Due == 0 || *rotationOf > 0 && (late.Due < r.n*9/10 || late.P50 > time.Second) {
		t.Errorf("%d polls of %d mailboxes in an interval, late p50 %v", late.Due, r.n, late.P50)
	}
	stop()
	r.restart()
}

// each does something with every mailbox.
func (r *rotation) each(do func(i int, m Mailbox) error) {
	r.t.Helper()
	var group errgroup.Group
	group.SetLimit(requests)
	for i, m := range r.mailboxes {
		group.Go(func() error { return do(i, m) })
	}
	if err := group.Wait(); err != nil {
		r.t.Fatal(err)
	}
}

// spread makes the mailboxes due one after the other, from the moment that it returns until an interval later.
func (r *rotation) spread() (first time.Time) {
	r.t.Helper()
	if err := r.bench.jobs.Purge(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	wait := time.Second // until everything is scheduled
	switch {
	case r.n > 1000 && r.sync:
		wait = 3 * time.Minute
	case r.n > 1000:
		wait = 30 * time.Second
	}
	begin := time.Now()
	first = begin.Add(wait)
	r.each(func(i int, m Mailbox) error {
		due := first.Add(r.interval * time.Duration(i) / time.Duration(r.n))
		return r.bench.schedule(r.t.Context(), m.Provider, m.ID(), job{Due: due}, due, 0)
	})
	r.t.Logf("scheduled in %.1f s", time.Since(begin).Seconds())
	if r.n > 1000 && time.Now().After(first) {
		r.t.Error("the schedules took too long")
	}
	return first
}

// disk returns the MiB of the data of the engine.
func (r *rotation) disk() (n int64) {
	r.t.Helper()
	err := filepath.WalkDir(r.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it was removed in the meantime
		}
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n / mib
}

// restart kills the engine and starts it again.
func (r *rotation) restart() {
	t := r.t
	r.engine.kill()
	begin := time.Now()
	r.engine = spawn(t, "engine", r.env...)
	for {
		nc, err := Connect(r.bench.url)
		if err == nil {
			_, err = Open(t.Context(), nc, Config{})
			nc.Close()
		}
		if err == nil {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	after := time.Since(begin)
	s, err := r.bench.Status(t.Context())
	if err != nil || s.Mailboxes != r.n || s.Missing > 0 {
		t.Errorf("status after the restart: %+v, %v", s, err)
	}
	t.Logf("killed engine ready again in %.2f s; status in %.2f s", after.Seconds(), time.Since(begin).Seconds()-after.Seconds())
}
