package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
)

var aboutFetch = []string{
	"Fetch moves what is new in a mailbox to DEST: that of a URL, or those of the ACCOUNTs of the configuration, all of them " +
		"without an ACCOUNT. It remembers what it has fetched by unique-id. Messages stay on the server, unless -delete, " +
		"-delete-after, or -delete-over says otherwise; they are deleted only after they are safe in DEST. Flags change the accounts of the " +
		"configuration for this run.",
	"Fetch may be killed at any moment, and the power may fail. Run it again: nothing is lost, and with a Maildir, a folder of .eml " +
		"files, or an mbox nothing is there twice. An interrupt ends it after the batch of messages in hand, a second one at once; neither loses a message.",
}

func defineFetch(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &runFlags{}
	f.define(flags)
	plan := flags.Bool("n", false, "print what would be done, and do nothing")
	return func(ctx context.Context) error {
		r, err := a.newRunner(ctx, "fetch", f, flags.Args())
		if err != nil {
			return err
		}
		defer r.view.close()
		if *plan {
			return r.plan(ctx)
		}
		return r.fetchAll(ctx)
	}
}

// prepare asks for the passwords that only the user knows, before anything else is on the terminal.
func (r *runner) prepare(ctx context.Context) error {
	for _, account := range r.accounts {
		if err := r.conns[account].Prepare(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fetchAll fetches all accounts once. It returns an error whose reasons are shown already.
func (r *runner) fetchAll(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, r.interrupted)()
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		status  = exitOK
		total   fetch.Report
	)
	begin := time.Now()
	for _, account := range r.accounts {
		running.Go(func() {
			report, err := r.fetchOnce(ctx, account)
			if err == nil || report.Listed > 0 || report.Recovered > 0 {
				r.view.info(account.Name, "%s", summary(report))
			}
			mu.Lock()
			defer mu.Unlock()
			status = worst(status, exitStatus(err))
			add(&total, report)
		})
	}
	running.Wait()
	total.Elapsed = time.Since(begin)
	r.view.emit(event{Type: "summary", Octets: &total.Octets, Counts: countsOf(total), Status: &status})
	if len(r.accounts) > 1 {
		r.view.info("all", "%s", summary(total))
	}
	if status != exitOK {
		return errReported(status)
	}
	return nil
}

// interrupted tells the user why the command does not end at once.
func (r *runner) interrupted() {
	if r.view.bars != nil {
		r.view.write(r.view.err, "interrupted: ending after the batch in hand; interrupt again to end at once")
	}
}

func add(total *fetch.Report, r fetch.Report) {
	total.Fetched += r.Fetched
	total.Octets += r.Octets
	total.Headers += r.Headers
	total.Skipped += r.Skipped
	total.Left += r.Left
	total.Refused += r.Refused
	total.Deleted += r.Deleted
	total.Undone += r.Undone
	total.Recovered += r.Recovered
	total.Sessions += r.Sessions
}

// fetchOnce fetches one account. If all its messages look new at once, the user is asked.
func (r *runner) fetchOnce(ctx context.Context, account *config.Account) (fetch.Report, error) {
	release, err := r.slot(ctx, account)
	if err != nil {
		err = fmt.Errorf("%w: %w", fetch.ErrInterrupted, context.Cause(ctx))
		r.view.begin(account.Name).end(fetch.Report{}, err)
		return fetch.Report{}, err
	}
	defer release()
	report, err := r.fetch(ctx, account, nil)
	if !errors.Is(err, fetch.ErrAllNew) || !r.interactive() || r.view.json != nil {
		return report, err
	}
	r.view.mu.Lock() // nothing else is written below the question
	show := func() {}
	if r.view.bars != nil {
		show = r.view.bars.hide()
	}
	answer := r.confirm(ctx, "Fetch all messages of "+account.Name+" again? [y]es, [m]atch their headers first, [N]o:")
	show()
	r.view.mu.Unlock()
	switch answer {
	case "y":
		return r.withAllNew(fetch.AllNewFetch).fetch(ctx, account, nil)
	case "m":
		return r.withAllNew(fetch.AllNewMatch).fetch(ctx, account, nil)
	}
	return report, err
}

// withAllNew returns the runner with another policy for messages that all look new.
func (r *runner) withAllNew(n fetch.AllNew) *runner {
	return &runner{app: r.app, selection: r.selection, view: r.view, sinks: r.sinks, allNew: n, conns: r.conns}
}

// plan prints the actions that fetchAll would take, account by account.
func (r *runner) plan(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	status := exitOK
	for _, account := range r.accounts {
		steps, err := r.steps(ctx, account)
		if err != nil {
			r.view.fail(account.Name, err)
			status = worst(status, exitStatus(err))
			continue
		}
		for _, s := range steps {
			what := s.Action.String()
			if s.Delete && s.Action != fetch.ActionDelete {
				what += " and delete"
			}
			if s.Action == fetch.ActionKnown && !s.Delete {
				continue
			}
			m := s.Message
			if r.view.json != nil {
				r.view.emit(event{Type: "plan", Account: account.Name, UID: m.Key.UID, Nth: m.Key.Nth, Number: m.Number, Octets: &m.Size, Action: what})
			} else {
				r.view.info(account.Name, "%s message %d (%s), %s", what, m.Number, m.Key.UID, bytesText(m.Size))
			}
		}
	}
	if status != exitOK {
		return errReported(status)
	}
	return nil
}

// steps asks the server for its messages and compares them with the state.
func (r *runner) steps(ctx context.Context, account *config.Account) ([]fetch.Step, error) {
	client, err := r.conns[account].Dial(ctx)
	if err != nil {
		return nil, kindOfDial(err)
	}
	defer client.Close()
	store, closeStore, err := r.existingStore(account)
	if err != nil {
		return nil, err
	}
	defer closeStore()
	f := &fetch.Fetcher{Account: account.Name, Store: store, Policy: policyOf(account, r.allNew), Logger: r.view.logger(account.Name)}
	steps, err := f.Plan(ctx, client)
	if err == nil {
		client.Quit(ctx) // nothing is to be committed
	}
	return steps, err
}

// existingStore opens the state of an account, or an empty one if there is none.
func (s *selection) existingStore(account *config.Account) (store fetch.Store, closeStore func() error, err error) {
	if !exists(s.statePath(account)) {
		return &fetch.MemoryStore{}, func() error { return nil }, nil
	}
	var b *boltstore.Store
	if b, err = s.openStore(account); err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}
