package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

var aboutWatch = []string{
	"Watch fetches what is new in each account again and again, in the foreground, until it is interrupted. It waits for the interval " +
		"of the account, or longer if the server asks for that by LOGIN-DELAY. After an error it waits longer each time, and does not stop.",
	"SIGUSR1 prints the status of all accounts on standard error, and makes watch fetch at once. An interrupt ends it after the batch of " +
		"messages in hand. Under systemd, watch reports when it is ready and what its status is, and feeds the watchdog.",
}

func defineWatch(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &runFlags{}
	f.define(flags)
	every := defaultInterval
	flags.Func("every", "look every `DURATION` (5m), unless the account has an interval of its own", func(s string) (err error) {
		if every, err = config.ParseDuration(s); err == nil && every < time.Second {
			err = errors.New("at least one second is wanted")
		}
		return err
	})
	return func(ctx context.Context) error {
		r, err := a.newRunner(ctx, "watch", f, flags.Args())
		if err != nil {
			return err
		}
		defer r.view.close()
		r.view.stamp = r.view.json == nil && a.getenv("JOURNAL_STREAM") == "" // the journal has times of its own
		if err := r.prepare(ctx); err != nil {
			return err
		}
		w := &watcher{runner: r, notify: sdNotify}
		for _, account := range r.accounts {
			interval := account.Interval
			if interval == 0 {
				interval = every
			}
			w.watches = append(w.watches, newWatch(account, interval))
		}
		wake, stop := statusSignal()
		defer stop()
		return w.run(ctx, wake)
	}
}

const defaultInterval = 5 * time.Minute

// A watcher fetches accounts again and again.
type watcher struct {
	*runner
	watches []*watch
	notify  func(state string)
}

// A watch is the state of one account.
type watch struct {
	account  *config.Account
	interval time.Duration
	retry    *backoff.ExponentialBackOff // after errors that may pass
	trouble  *backoff.ExponentialBackOff // after errors that the user has to correct
	wake     chan struct{}

	mu      sync.Mutex
	running bool
	active  time.Time // when the account was last seen to do something
	last    string    // result of the last run
	next    time.Time
	fetched int // in all
}

func newWatch(account *config.Account, interval time.Duration) *watch {
	return &watch{
		account: account, interval: interval, wake: make(chan struct{}, 1), last: "not yet fetched",
		retry:   exponential(min(interval, 30*time.Second), max(interval, 15*time.Minute)),
		trouble: exponential(max(interval, 10*time.Minute), max(interval, 12*time.Hour)),
	}
}

// exponential returns delays that double, and vary at random by a half.
func exponential(first, longest time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = first, longest, 2, .5
	b.Reset()
	return b
}

// run watches all accounts until ctx is done. Each value of wake prints the status and makes all of them look at once.
func (w *watcher) run(ctx context.Context, wake <-chan struct{}) error {
	var running sync.WaitGroup
	for _, a := range w.watches {
		running.Go(func() { w.watch(ctx, a) })
	}
	w.notify(daemon.SdNotifyReady)
	feed := make(<-chan time.Time)
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		ticker := time.NewTicker(interval / 2)
		defer ticker.Stop()
		feed = ticker.C
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-feed:
			if w.alive(time.Now()) {
				w.notify(daemon.SdNotifyWatchdog)
			}
		case <-wake:
			w.printStatus()
			for _, a := range w.watches {
				select {
				case a.wake <- struct{}{}:
				default: // it is awake already
				}
			}
		}
	}
	w.notify(daemon.SdNotifyStopping)
	running.Wait()
	w.view.problem("", "interrupted")
	return errReported(exitInterrupted)
}

// stuckAfter is the longest time without an event in which a run is taken to be alive: longer than any timeout of a
// sink.
const stuckAfter = 30 * time.Minute

// alive reports whether no run is stuck.
func (w *watcher) alive(now time.Time) bool {
	for _, a := range w.watches {
		a.mu.Lock()
		stuck := a.running && now.Sub(a.active) > stuckAfter
		a.mu.Unlock()
		if stuck {
			return false
		}
	}
	return true
}

// watch fetches one account until ctx is done.
func (w *watcher) watch(ctx context.Context, a *watch) {
	for {
		delay, ok := w.look(ctx, a)
		if !ok {
			return
		}
		if !a.sleep(ctx, delay, w.conns[a.account].LoginDelay()) {
			return
		}
	}
}

// sleep waits for delay, or until it is woken, but not less than the server wants. It reports whether ctx is not done.
func (a *watch) sleep(ctx context.Context, delay, least time.Duration) bool {
	begin := time.Now()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-a.wake:
			timer.Reset(max(least-time.Since(begin), 0))
		case <-timer.C:
			return true
		}
	}
}

// look fetches one account once, and returns the delay until the next time. ok is false if ctx is done.
func (w *watcher) look(ctx context.Context, a *watch) (delay time.Duration, ok bool) {
	release, err := w.slot(ctx, a.account)
	if err != nil {
		return 0, false
	}
	a.mu.Lock()
	a.running, a.active = true, time.Now()
	a.mu.Unlock()
	report, err := w.fetch(ctx, a.account, func(fetch.Event) {
		a.mu.Lock()
		a.active = time.Now()
		a.mu.Unlock()
	})
	release()
	if report.Fetched+report.Headers+report.Deleted+report.Recovered > 0 || w.view.verbose && err == nil {
		w.view.info(a.account.Name, "%s", summary(report))
	}
	delay = a.done(report, err, w.conns[a.account].LoginDelay())
	w.notify("STATUS=" + strings.ReplaceAll(clean(w.oneLine()), "\n", " "))
	return delay, ctx.Err() == nil
}

// done notes the result of a run and returns the delay until the next one.
func (a *watch) done(report fetch.Report, err error, loginDelay time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = false
	a.fetched += report.Fetched + report.Headers
	a.last = "ok, " + summary(report)
	if err != nil {
		a.last = explain(err)
	}
	var delay time.Duration
	switch status := exitStatus(err); status {
	case exitOK, exitIncomplete, exitLocked:
		a.retry.Reset()
		a.trouble.Reset()
		delay = a.interval + time.Duration((rand.Float64()-.5)*.2*float64(a.interval)) // so that not all clients come at once
	case exitServer, exitSink:
		a.trouble.Reset()
		delay = a.retry.NextBackOff()
	default:
		delay = a.trouble.NextBackOff()
	}
	delay = max(delay, loginDelay)
	a.next = time.Now().Add(delay)
	return delay
}

// status returns the state of an account in one line.
func (a *watch) status() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	when := "running"
	if !a.running {
		when = "next in " + time.Until(a.next).Round(time.Second).String()
	}
	return fmt.Sprintf("%s: %d fetched so far; last: %s; %s", a.account.Name, a.fetched, a.last, when)
}

func (w *watcher) printStatus() {
	for _, a := range w.watches {
		if w.view.json != nil {
			w.view.emit(event{Type: "status", Account: a.account.Name, Error: a.status()})
			continue
		}
		w.view.write(w.view.err, a.status())
	}
}

// oneLine returns the state of all accounts, for systemd.
func (w *watcher) oneLine() string {
	fetched := 0
	var bad []string
	for _, a := range w.watches {
		a.mu.Lock()
		fetched += a.fetched
		if !strings.HasPrefix(a.last, "ok, ") && !a.running {
			bad = append(bad, a.account.Name+": "+a.last)
		}
		a.mu.Unlock()
	}
	line := fmt.Sprintf("%s, %s fetched", count(len(w.watches), "account"), count(fetched, "message"))
	if len(bad) > 0 {
		line += "; " + strings.Join(bad, "; ")
	}
	return line
}

// sdNotify notifies systemd, if it started the process.
func sdNotify(state string) { daemon.SdNotify(false, state) }
