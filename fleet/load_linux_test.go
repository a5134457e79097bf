package fleet

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

var loadFor = flag.Duration("load", 0, "duration of each measurement of TestLoad, with all mailboxes; if 0, a short trial with a few")

// runPoller is a worker with the defaults of a worker, until the trial ends.
func runPoller() {
	nc, err := Connect(os.Getenv("FLEET_URL"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lease, _ := time.ParseDuration(os.Getenv("FLEET_LEASE"))
	f, err := Open(context.Background(), nc, Config{AckWait: lease})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	sessions, _ := strconv.Atoi(os.Getenv("FLEET_SESSIONS"))
	w := &Worker{Fleet: f, Secrets: testSecrets(), Sessions: sessions, TLSConfig: &tls.Config{InsecureSkipVerify: true}}
	if os.Getenv("FLEET_TEST_LOG") != "" {
		w.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A usage is what a process has used: CPU time, and memory in bytes.
type usage struct {
	cpu       time.Duration
	rss, peak int64
}

// usageOf reads the usage of a process, in ticks of 10 ms.
func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		var kib int64
		fmt.Sscan(value, &kib)
		switch name {
		case "VmRSS":
			u.rss = kib << 10
		case "VmHWM":
			u.peak = kib << 10
		}
	}
	return u
}

// A loadDrop is a mailbox whose messages are made when they are read.
type loadDrop struct {
	mailbox, size int
	count         atomic.Int64
}

var filler = strings.Repeat(strings.Repeat("x", 70)+"\r\n", 16<<10)

func (d *loadDrop) Count() int       { return int(d.count.Load()) }
func (d *loadDrop) Size(n int) int64 { return int64(d.size) }
func (d *loadDrop) UID(n int) string { return fmt.Sprintf("%d.%d", d.mailbox, n) }

func (d *loadDrop) WriteMessage(w io.Writer, n int) error {
	header := fmt.Sprintf("Subject: %d to %d\r\n\r\n", n, d.mailbox)
	_, err := io.WriteString(w, header)
	for left := d.size - len(header) - len("\r\n"); left > 0 && err == nil; left -= len(filler) {
		_, err = io.WriteString(w, filler[:min(left, len(filler))])
	}
	if err == nil {
		_, err = io.WriteString(w, "\r\n")
	}
	return err
}

// A loadCase is a kind of load.
type loadCase struct {
	name      string
	sync      bool
	clear     bool // without TLS
	resume    bool // the servers share the keys of their TLS sessions
	mailboxes int
	providers int // if 0, loadProviders
	mails     int // in each mailbox at first
	arrival   int // percent of the sessions that find a new mail
	size      int // of a mail
	latency   time.Duration
	sessions  int           // of the worker
	lease     time.Duration // if 0, the default
}

// A loadTrial is an engine, a worker, and in this process the servers.
type loadTrial struct {
	loadCase
	t              *testing.T
	bench          *bench
	engine, worker *process
	polls, mails   atomic.Int64
	polled         atomic.Int64 // mailboxes that were polled
}

const loadProviders = 20

func newLoadTrial(t *testing.T, c loadCase) *loadTrial {
	t.Helper()
	if c.providers == 0 {
		c.providers = loadProviders
	}
	l := &loadTrial{loadCase: c, t: t}
	addr := freeAddr(t)
	env := []string{"FLEET_DIR=" + t.TempDir(), "FLEET_ADDR=" + addr}
	if c.sync {
		env = append(env, "FLEET_SYNC=1")
	}
	l.engine = spawn(t, "engine", env...)
	l.bench = benchAt(t, "nats://"+addr, Config{AckWait: c.lease, Providers: loadLimits(c.providers, max(50, c.sessions/c.providers))})
	var group errgroup.Group
	group.SetLimit(64)
	for i := range c.mailboxes {
		srv := l.server(i)
		m := Mailbox{User: "user", Secret: "keyring:x", Provider: "p" + strconv.Itoa(i%c.providers), Interval: time.Millisecond}
		if c.mails > 0 {
			m.Interval = time.Hour
		}
		if c.clear {
			m.TLS, srv.STLS = TLSNone, false
			srv.Start()
		} else {
			srv.StartTLS()
		}
		m.Addr = srv.Addr
		group.Go(func() error { return l.bench.Enrol(t.Context(), m) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return l
}

// loadLimits gives each of n providers a limit.
func loadLimits(n, limit int) (providers []Provider) {
	for i := range n {
		providers = append(providers, Provider{Name: "p" + strconv.Itoa(i), Limit: limit})
	}
	return providers
}

// server returns the server of a mailbox, which is not started.
func (l *loadTrial) server(i int) *pop3test.Server {
	d := &loadDrop{mailbox: i, size: l.size}
	d.count.Store(int64(l.loadCase.mails))
	srv := pop3test.NewUnstartedServer(d)
	srv.Latency = l.latency
	if l.resume {
		srv.TLS = new(tls.Config)
		srv.TLS.SetSessionTicketKeys([][32]byte{{1}})
	}
	srv.Refuse = func(verb string, n int) string {
		switch verb {
		case "PASS":
			if rand.IntN(100) < l.arrival {
				d.count.Add(1)
			}
		case "RETR":
			l.mails.Add(1)
		case "QUIT":
			l.polls.Add(1)
			if n == 1 {
				l.polled.Add(1)
			}
		}
		return ""
	}
	l.t.Cleanup(srv.Close)
	return srv
}

// A loadMark is a moment of a trial.
type loadMark struct {
	at                     time.Time
	polls, mails           int64
	worker, engine, server usage
}

func (l *loadTrial) mark() loadMark {
	return loadMark{
		time.Now(), l.polls.Load(), l.mails.Load(), usageOf(l.t, l.worker.cmd.Process.Pid), usageOf(l.t, l.engine.cmd.Process.Pid),
		usageOf(l.t, os.Getpid()),
	}
}

const mib = 1 << 20

// report reports what was done and used between two moments, for each poll, or for each mail if the trial is a migration.
func (l *loadTrial) report(a, b loadMark) {
	seconds := b.at.Sub(a.at).Seconds()
	polls, mails := b.polls-a.polls, b.mails-a.mails
	what, n := "poll", polls
	if l.loadCase.mails > 0 {
		what, n = "mail", mails
	}
	each := func(a, b usage) string {
		return fmt.Sprintf("%.2f ms", (b.cpu-a.cpu).Seconds()*1000/float64(max(1, n)))
	}
	l.t.Logf("%s: %.0f polls/s, %.0f mails/s (%d, %d in %.1f s); CPU a %s: worker %s, engine %s, servers %s; "+
		"peak memory: worker %d MiB, engine %d MiB",
		l.name, float64(polls)/seconds, float64(mails)/seconds, polls, mails, seconds,
		what, each(a.worker, b.worker), each(a.engine, b.engine), each(a.server, b.server), b.worker.peak/mib, b.engine.peak/mib)
}

// handshake returns the CPU time of a TLS handshake, of both sides together. It shows how fast the machine is at the moment, and is the
// unit in which figures of two machines can be compared.
func handshake(t *testing.T) time.Duration {
	t.Helper()
	srv := pop3test.NewUnstartedServer(nil)
	defer srv.Close()
	const n = 500
	begin := usageOf(t, os.Getpid())
	for range n {
		conn := srv.PipeTLS()
		if err := tls.Client(conn, pop3test.TLSConfig()).HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	return (usageOf(t, os.Getpid()).cpu - begin.cpu) / n
}

// TestLoad measures polls and mails a second, and what they cost.
func TestLoad(t *testing.T) {
	measured := *loadFor > 0
	if !measured {
		t.Parallel()
	}
	for _, c := range []loadCase{
		{name: "empty, no fsync", mailboxes: 2000},
		{name: "empty, TLS sessions resumed, no fsync", mailboxes: 2000, resume: true},
		{name: "empty, in the clear, no fsync", mailboxes: 2000, clear: true},
		{name: "empty, fsync", mailboxes: 2000, sync: true},
		{name: "half a mail of 4 KiB a poll, fsync", mailboxes: 2000, sync: true, arrival: 50, size: 4 << 10},
		{name: "empty, 100 ms a command, no fsync", mailboxes: 2000, latency: 100 * time.Millisecond, sessions: 1500},
		{name: "empty, 1,000 providers, no fsync", mailboxes: 2000, providers: 1000},
		{name: "migration of 100 mails of 20 KiB a mailbox, fsync", mailboxes: 500, sync: true, mails: 100, size: 20 << 10},
		{name: "migration of 8 mails of 1 MiB a mailbox, fsync", mailboxes: 400, sync: true, mails: 8, size: 1 << 20},
	} {
		if !measured {
			if c.arrival == 0 && c.mails < 100 && c.providers == 0 {
				continue // the others do the same and more
			}
			c.mailboxes, c.mails, c.providers = 40, c.mails/10, c.providers/25
		}
		t.Run(c.name, func(t *testing.T) {
			if measured {
				t.Logf("CPU of a TLS handshake, both sides: %.2f ms", handshake(t).Seconds()*1000)
			} else {
				t.Parallel()
			}
			l := newLoadTrial(t, c)
			l.worker = spawn(t, "poller", "FLEET_URL="+l.bench.url, "FLEET_SESSIONS="+strconv.Itoa(c.sessions))
			if c.mails > 0 {
				l.migrate()
			} else {
				l.rotate()
			}
		})
	}
}

// rotate measures polls when every mailbox has been polled once.
func (l *loadTrial) rotate() {
	l.bench.until("every mailbox polled", func() bool { return l.polled.Load() == int64(l.mailboxes) })
	a := l.mark()
	time.Sleep(*loadFor)
	l.bench.until("every mailbox polled again", func() bool {
		return l.polls.Load() >= a.polls+int64(l.mailboxes) && (l.arrival == 0 || l.mails.Load() > a.mails)
	})
	l.report(a, l.mark())
}

// migrate measures until every mailbox is empty.
func (l *loadTrial) migrate() {
	a := l.mark()
	total := uint64(l.mailboxes * l.loadCase.mails)
	for l.polled.Load() < int64(l.mailboxes) {
		if time.Since(a.at) > 10*time.Minute {
			l.t.Fatal("not in time")
		}
		time.Sleep(20 * time.Millisecond)
	}
	b := l.mark()
	l.report(a, b)
	info, err := l.bench.mail.Info(l.t.Context())
	if err != nil || info.State.Msgs != total || uint64(b.mails-a.mails) != total {
		l.t.Errorf("%d mails retrieved, %d in the stream, %v; want %d", b.mails-a.mails, info.State.Msgs, err, total)
	}
}
