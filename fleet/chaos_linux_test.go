package fleet

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// freeAddr returns an address that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A trial is a field with an engine and three workers that are processes of their own.
type trial struct {
	*field
	*killer
	engine      *process
	engineEnv   []string
	engineKills int
	workerKills int
	stops       int
	refused     atomic.Bool
}

// newTrial returns a trial. env is more of the environment of the engine.
func newTrial(t *testing.T, mailboxes int, env ...string) *trial {
	t.Helper()
	addr := freeAddr(t)
	env = append([]string{"FLEET_DIR=" + t.TempDir(), "FLEET_ADDR=" + addr}, env...)
	e := spawn(t, "engine", env...)
	url := "nats://" + addr
	tr := &trial{killer: &killer{t: t}, engine: e, engineEnv: env}
	tr.field = newField(benchAt(t, url, quick()), mailboxes, 4)
	tr.field.refuse = func(provider string) string {
		if provider == "p0" && tr.refused.Load() {
			return "[SYS/TEMP] not now"
		}
		return ""
	}
	tr.enrol(tr.boxes...)
	for range 3 {
		tr.start("FLEET_URL=" + url)
	}
	return tr
}

func (tr *trial) killEngine() {
	tr.engine.kill()
	tr.killer.t.Log(time.Now().Format(time.TimeOnly), "engine killed")
	tr.engineKills++
	tr.engine = spawn(tr.killer.t, "engine", tr.engineEnv...)
}

func (tr *trial) killWorker() {
	tr.workers[rand.IntN(len(tr.workers))].kill()
	tr.workerKills++
	tr.revive()
}

// stopWorker stops a worker longer than its lease.
func (tr *trial) stopWorker() {
	p := tr.workers[rand.IntN(len(tr.workers))]
	p.cmd.Process.Signal(syscall.SIGSTOP)
	tr.stops++
	time.AfterFunc(3*quick().AckWait, func() { p.cmd.Process.Signal(syscall.SIGCONT) })
}

// failSink lets the mail stream refuse everything for a time.
func (tr *trial) failSink(ctx context.Context, d time.Duration) {
	set := func(bytes int64) {
		info, err := tr.field.Fleet.mail.Info(ctx)
		if err == nil {
			cfg := info.Config
			cfg.MaxBytes = bytes
			_, err = tr.field.Fleet.js.UpdateStream(ctx, cfg)
		}
		if err != nil {
			tr.killer.t.Log("sink: ", err)
		}
	}
	set(1)
	time.Sleep(d)
	for range 20 {
		set(-1)
		if info, err := tr.field.Fleet.mail.Info(ctx); err == nil && info.Config.MaxBytes == -1 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	tr.killer.t.Error("sink not restored")
}

// TestChaos kills workers and the engine at random, lets the sink and a provider fail, and looks for every message.
func TestChaos(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, 80)
	d := 6 * time.Second
	if *chaosFor > 0 {
		d = *chaosFor
	}
	tr.run(t, d, false)
	tr.checkSessions()
}

// TestChaosStopped stops workers longer than their leases too. Two sessions in a mailbox cannot be prevented then; no mail may come
// twice for that.
func TestChaosStopped(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, 40)
	d := 5 * time.Second
	if *chaosFor > 0 {
		d = *chaosFor
	}
	for _, drop := range tr.drops {
		drop.srv.Exclusive = false
	}
	tr.run(t, d, true)
}

func (tr *trial) run(t *testing.T, d time.Duration, stop bool) {
	end := time.Now().Add(d)
	sink := make(chan struct{})
	go func() {
		defer close(sink)
		time.Sleep(d / 3)
		tr.failSink(t.Context(), d/6)
	}()
	n := 0
	for tick := 0; time.Now().Before(end); tick++ {
		for range 6 {
			n++
			tr.mail(n)
		}
		left := time.Until(end)
		tr.refused.Store(left < d/2 && left > d/4)
		switch {
		case tick%60 == 45:
			tr.killEngine()
		case stop && tick%20 == 10:
			tr.stopWorker()
		case !stop && tick%8 == 4:
			tr.killWorker()
		}
		time.Sleep(50 * time.Millisecond)
	}
	tr.refused.Store(false)
	<-sink
	tr.drained()
	tr.field.mu.Lock()
	slices.Sort(tr.gaps)
	percentile := func(n int) time.Duration { return tr.gaps[(len(tr.gaps)-1)*n/100].Round(10 * time.Millisecond) }
	p50, p99, sessions := percentile(50), percentile(99), len(tr.gaps)
	tr.field.mu.Unlock()
	t.Logf("killed: %d workers, %d engines; stopped: %d; sessions: %d; gap between sessions p50 %v, p99 %v",
		tr.workerKills, tr.engineKills, tr.stops, sessions, p50, p99)
	tr.check()
}
