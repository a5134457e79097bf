package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-5b1d5243/pop3/fleet"
	"github.com/seed-5b1d5243/pop3/fleet/engine"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

const (
	demoLease   = 3 * time.Second
	demoClasses = 20
	demoLimit   = 8

	// demoChild marks a worker of the demo, which ends with its standard input.
	demoChild = "POP3_FLEET_DEMO"
)

// A demoDrop is a mailbox whose mail arrives while the demo runs.
type demoDrop struct {
	mu    sync.Mutex
	texts []string
}

func (d *demoDrop) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.texts)
}

func (d *demoDrop) text(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.texts[n-1]
}

func (d *demoDrop) Size(n int) int64 { return int64(len(d.text(n))) }
func (d *demoDrop) UID(n int) string { return fmt.Sprintf("demo.%d", n) }

func (d *demoDrop) WriteMessage(w io.Writer, n int) error {
	_, err := io.WriteString(w, d.text(n))
	return err
}

func (d *demoDrop) add(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.texts = append(d.texts, text)
}

// A demonstration is the state of the demo.
type demonstration struct {
	a       *app
	drops   []*demoDrop
	servers []*pop3test.Server
	sent    map[[sha256.Size]byte]bool
	url     string
	env     []string
	workers []*exec.Cmd
	every   time.Duration
	killed  int
	polls   atomic.Int64
	busy    atomic.Int64 // logins refused because the mailbox had a session
}

func (a *app) demo(ctx context.Context, args []string) error {
	flags := a.flags("demo", "")
	mailboxes := flags.Int("n", 2000, "number of mailboxes")
	workers := flags.Int("workers", 3, "number of workers")
	duration := flags.Duration("for", 30*time.Second, "time in which mail arrives")
	every := flags.Duration("every", 10*time.Second, "time from one poll of a mailbox to the next")
	rate := flags.Int("rate", 100, "mails a second")
	if err := a.parse(flags, args, 0); err != nil {
		return err
	}
	if *mailboxes < 1 || *workers < 1 || *duration <= 0 || *every <= 0 || *rate < 1 {
		fmt.Fprintln(a.stderr, "pop3-fleet demo: all numbers must be 1 or more")
		return errUsage
	}
	dir, err := os.MkdirTemp("", "pop3-fleet-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e := &engineFlags{dir: filepath.Join(dir, "fleet")}
	started, err := e.start(engine.Options{Addr: "127.0.0.1:-1", Quiet: true, NoSync: true})
	if err != nil {
		return err
	}
	defer started.Close()
	cfg := fleet.Config{AckWait: demoLease, Limit: demoLimit}
	f, nc, err := e.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer nc.Close()

	d := &demonstration{a: a, every: *every, sent: make(map[[sha256.Size]byte]bool), url: started.URL()}
	defer d.close()
	d.env = append(os.Environ(), demoChild+"=1", "POP3_SECRET_DEMO=secret")
	begin := time.Now()
	if err := d.enrol(ctx, f, *mailboxes); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%d mailboxes enrolled in %v, each polled every %v, at most %d sessions with each of %d providers\n",
		*mailboxes, time.Since(begin).Round(10*time.Millisecond), d.every, demoLimit, demoClasses)
	for range *workers {
		if err := d.startWorker(e); err != nil {
			return err
		}
	}
	if err := d.mail(ctx, e, *duration, *rate); err != nil {
		return err
	}
	return d.report(ctx, f)
}

// enrol starts the servers of mailboxes and enrols them.
func (d *demonstration) enrol(ctx context.Context, f *fleet.Fleet, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(enrolsAtOnce)
	for i := range n {
		drop := new(demoDrop)
		srv := pop3test.NewUnstartedServer(drop)
		srv.Exclusive, srv.STLS = true, false
		srv.Logf = d.count
		srv.Start()
		d.drops, d.servers = append(d.drops, drop), append(d.servers, srv)
		m := fleet.Mailbox{
			User: "user", Addr: srv.Addr, TLS: fleet.TLSNone, Secret: "env:DEMO", Interval: d.every,
			Provider: fmt.Sprintf("provider-%d", i%demoClasses),
		}
		group.Go(func() error { return f.Enrol(ctx, m) })
	}
	return group.Wait()
}

// count counts the log records of the servers.
func (d *demonstration) count(format string, args ...any) {
	switch line := fmt.Sprintf(format, args...); {
	case strings.HasSuffix(line, "C: QUIT"):
		d.polls.Add(1)
	case strings.Contains(line, "[IN-USE]"):
		d.busy.Add(1)
	}
}

func (d *demonstration) startWorker(e *engineFlags) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "worker", "-dir", e.dir, "-lease", demoLease.String())
	cmd.Env, cmd.Stderr = d.env, d.a.stderr
	if _, err := cmd.StdinPipe(); err != nil { // the worker ends if this process dies
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.workers = append(d.workers, cmd)
	return nil
}

// mail lets mail arrive, and kills a worker now and then.
func (d *demonstration) mail(ctx context.Context, e *engineFlags, duration time.Duration, rate int) error {
	arrive := time.NewTicker(time.Second / time.Duration(rate))
	defer arrive.Stop()
	kill := time.NewTicker(max(duration/8, time.Second))
	defer kill.Stop()
	end := time.After(duration)
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return nil
		case <-arrive.C:
			n++
			text := fmt.Sprintf("Subject: mail %d\r\n\r\n%s", n, strings.Repeat("A line of text.\r\n", 1+rand.IntN(400)))
			d.sent[sha256.Sum256([]byte(text))] = true
			d.drops[rand.IntN(len(d.drops))].add(text)
		case <-kill.C:
			i := rand.IntN(len(d.workers))
			d.workers[i].Process.Kill()
			d.workers[i].Wait()
			d.killed++
			d.workers = append(d.workers[:i], d.workers[i+1:]...)
			if err := d.startWorker(e); err != nil {
				return err
			}
			fmt.Fprintf(d.a.stdout, "%d mails sent; killed a worker, and started another one\n", n)
		}
	}
}

// report waits until all mailboxes are empty, and counts the mail.
func (d *demonstration) report(ctx context.Context, f *fleet.Fleet) error {
	fmt.Fprintln(d.a.stdout, "no more mail arrives; waiting for the last polls")
	deadline := time.Now().Add(5*d.every + 5*demoLease)
	for left := 1; left > 0; {
		left = 0
		for _, srv := range d.servers {
			left += len(srv.Remaining())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d mails are still on the servers", left)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	receiver, err := f.Receive(ctx, "demo")
	if err != nil {
		return err
	}
	found := make(map[[sha256.Size]byte]int)
	for {
		mails, err := receiver.Next(ctx, 500, time.Second)
		if err != nil {
			return err
		}
		if len(mails) == 0 {
			break
		}
		for _, m := range mails {
			sum, err := sumOf(ctx, m)
			if err != nil {
				return err
			}
			found[sum]++
			if err := m.Ack(ctx); err != nil {
				return err
			}
		}
	}
	missing, twice := 0, 0
	for sum := range d.sent {
		switch n := found[sum]; {
		case n == 0:
			missing++
		case n > 1:
			twice++
		}
	}
	fmt.Fprintf(d.a.stdout, "%d workers killed, %d polls\n%d mails sent, %d missing, %d twice, %d times two sessions in a mailbox\n",
		d.killed, d.polls.Load(), len(d.sent), missing, twice, d.busy.Load())
	if missing > 0 || twice > 0 {
		return fmt.Errorf("mail was lost or doubled")
	}
	return nil
}

func sumOf(ctx context.Context, m *fleet.Mail) (sum [sha256.Size]byte, err error) {
	body, err := m.Open(ctx)
	if err != nil {
		return sum, err
	}
	defer body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, body); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// close ends the workers and the servers.
func (d *demonstration) close() {
	for _, cmd := range d.workers {
		cmd.Process.Kill()
		cmd.Wait()
	}
	var group errgroup.Group
	for _, srv := range d.servers {
		group.Go(func() error { srv.Close(); return nil })
	}
	group.Wait()
}
