package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/connect"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// A runner fetches accounts, some of them at once.
type runner struct {
	*app
	*selection
	view    *view
	sinks   *sinkMaker
	allNew  fetch.AllNew
	debug   bool
	jobs    *semaphore.Weighted
	perHost int64

	mu    sync.Mutex
	hosts map[string]*semaphore.Weighted
	conns map[*config.Account]*connect.Connector
}

// runFlags are the flags of fetch and watch.
type runFlags struct {
	accountFlags
	viewFlags
	allNew        allNew
	jobs, perHost int
}

func (f *runFlags) define(flags *flag.FlagSet) {
	f.accountFlags.define(flags)
	f.defineConnection(flags)
	f.definePolicy(flags)
	flags.Var(&f.allNew, "all-new", "fetch all messages if all of them look new at once, as after a migration of the server; "+
		"with -all-new=match only those whose header is not known")
	flags.IntVar(&f.jobs, "j", 0, "fetch from at most `N` accounts at once (8)")
	flags.IntVar(&f.perHost, "per-host", 0, "fetch from at most `N` accounts on one host at once (1)")
	flags.BoolVar(&f.quiet, "q", false, "print only what goes wrong")
	flags.BoolVar(&f.verbose, "v", false, "print a line for each message")
	flags.BoolVar(&f.viewFlags.json, "json", false, "print a JSON object for each event")
	flags.BoolVar(&f.debug, "debug", false, "print the protocol, without passwords, on standard error")
}

// newRunner selects the accounts of the operands and obtains the passwords that only the user knows.
func (a *app) newRunner(ctx context.Context, verb string, f *runFlags, operands []string) (*runner, error) {
	if f.jobs < 0 || f.perHost < 0 {
		return nil, usagef("-j and -per-host are at least 1")
	}
	s, err := a.selectAny(&f.accountFlags, operands, true)
	if err != nil {
		return nil, err
	}
	toStdout := false
	for _, account := range s.accounts {
		toStdout = toStdout || account.Dest.Kind == config.Stdout
	}
	r := &runner{
		app: a, selection: s, view: a.newView(verb, f.viewFlags, s, toStdout), allNew: f.allNew.AllNew, debug: f.viewFlags.debug,
		jobs:    semaphore.NewWeighted(int64(firstPositive(f.jobs, s.jobs, 8))),
		perHost: int64(firstPositive(f.perHost, s.perHost, 1)),
		hosts:   make(map[string]*semaphore.Weighted), conns: make(map[*config.Account]*connect.Connector),
	}
	r.sinks = &sinkMaker{stdout: a.stdout, tls: a.tls, logger: r.view.logger("")}
	for _, account := range s.accounts {
		name := account.Name
		c := a.connector(s, account,
			func(format string, args ...any) { r.view.problem(name, "warning: "+format, args...) },
			func(format string, args ...any) { r.view.write(a.stderr, fmt.Sprintf(format, args...)) })
		if r.debug {
			c.Debug = r.view.transcript(name)
		}
		if r.view.verbose {
			c.Logger = r.view.logger(name)
		}
		r.conns[account] = c
	}
	return r, nil
}

func firstPositive(values ...int) int {
	for _, v := range values {
		if v > 0 {
			return v
		}
	}
	return 0
}

// slot waits until the account may be fetched: first for its host, so that a busy host holds up no other account.
func (r *runner) slot(ctx context.Context, account *config.Account) (release func(), err error) {
	r.mu.Lock()
	host := r.hosts[account.Host]
	if host == nil {
		host = semaphore.NewWeighted(r.perHost)
		r.hosts[account.Host] = host
	}
	r.mu.Unlock()
	if err := host.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	if err := r.jobs.Acquire(ctx, 1); err != nil {
		host.Release(1)
		return nil, err
	}
	return func() {
		r.jobs.Release(1)
		host.Release(1)
	}, nil
}

// fetch fetches the new messages of one account, and shows the progress.
func (r *runner) fetch(ctx context.Context, account *config.Account, observe func(fetch.Event)) (fetch.Report, error) {
	v := r.view.begin(account.Name)
	report, err := r.fetchTo(ctx, account, v, observe)
	v.end(report, err)
	if report.Fetched+report.Headers+report.Recovered > 0 && account.OnNew != nil {
		if err := r.onNew(ctx, account, report); err != nil {
			r.view.problem(account.Name, "on_new: %v", err)
		}
	}
	return report, err
}

func (r *runner) fetchTo(ctx context.Context, account *config.Account, v *accountView, observe func(fetch.Event)) (report fetch.Report, err error) {
	store, err := r.openStore(account)
	if err != nil {
		return report, err
	}
	defer store.Close()
	sink, closeSink, err := r.sinks.sink(account)
	if err != nil {
		return report, &usageError{err: err}
	}
	defer closeSink()
	f := &fetch.Fetcher{
		Account: account.Name, Dial: r.conns[account].Dial, Store: store, Sink: sink,
		Policy: policyOf(account, r.allNew), Logger: r.view.logger(account.Name),
		Progress: func(e fetch.Event) {
			v.event(e)
			if observe != nil {
				observe(e)
			}
		},
	}
	return f.Run(ctx)
}

// policyOf returns the account's policy for fetching and deleting.
func policyOf(a *config.Account, allNew fetch.AllNew) fetch.Policy {
	p := fetch.Policy{
		Delete: a.Delete, DeleteAfter: a.DeleteAge, DeleteOver: a.DeleteOver, DeleteUnproven: a.DeleteUnproven,
		MaxMessages: a.MaxMessages, MaxOctets: a.MaxOctets, MaxSize: a.MaxSize, HeaderOnly: a.HeaderOnly, AllNew: allNew, NoUIDL: a.NoUIDL,
	}
	if a.Delete {
		p.DeleteAfter, p.DeleteOver = 0, 0
	}
	if len(a.Filter) > 0 {
		p.Filter = func(_ context.Context, c fetch.Candidate) (fetch.Action, error) {
			return filter(a.Filter, c.Header), nil
		}
	}
	return p
}

// filter returns the action of the first rule that matches the header.
func filter(rules []config.Rule, header []byte) fetch.Action {
	fields := headerFields(header)
	for _, rule := range rules {
		for _, value := range fields[rule.Field] {
			if !rule.Match.MatchString(decode(value)) {
				continue
			}
			switch rule.Action {
			case "skip":
				return fetch.ActionSkip
			case "delete":
				return fetch.ActionDelete
			}
			return fetch.ActionFetch
		}
	}
	return fetch.ActionFetch
}

// headerFields returns the values of each field, unfolded. Unlike textproto.Reader it goes on after a malformed line, so that a rule
// that keeps a message does not miss a field after one.
func headerFields(header []byte) map[string][]string {
	fields := make(map[string][]string)
	name, value := "", []byte(nil)
	end := func() {
		if name != "" {
			fields[name] = append(fields[name], string(bytes.TrimSpace(value)))
		}
		name = ""
	}
	for line := range bytes.Lines(header) {
		text := bytes.Trim(line, " \t\r\n")
		if line[0] == ' ' || line[0] == '\t' {
			if name != "" && len(text) > 0 {
				value = append(append(value, ' '), text...)
			}
			continue
		}
		end()
		if before, after, ok := bytes.Cut(text, []byte(":")); ok {
			name = textproto.CanonicalMIMEHeaderKey(string(bytes.TrimRight(before, " \t")))
			value = append(value[:0], bytes.TrimLeft(after, " \t")...)
		}
	}
	end()
	return fields
}

// onNewTimeout bounds the command that is run after new mail has come.
const onNewTimeout = 10 * time.Minute

// onNew runs the command of an account, also if the run was interrupted.
func (r *runner) onNew(ctx context.Context, account *config.Account, report fetch.Report) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), onNewTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, account.OnNew[0], account.OnNew[1:]...)
	cmd.WaitDelay = time.Second
	killGroup(cmd)
	cmd.Env = append(os.Environ(), "POP3_ACCOUNT="+account.Name, fmt.Sprintf("POP3_NEW=%d", report.Fetched+report.Headers+report.Recovered))
	output := &lastBytes{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) { // it may leave a process in the background
		if ctx.Err() != nil {
			err = fmt.Errorf("the command did not end after %v", onNewTimeout)
		}
		return fmt.Errorf("%w%s", err, output)
	}
	return nil
}

// worst returns the more important of two exit statuses.
func worst(a, b int) int {
	for _, s := range severity {
		if s == a {
			return b
		}
		if s == b {
			return a
		}
	}
	return max(a, b)
}
