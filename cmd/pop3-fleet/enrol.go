package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-5b1d5243/pop3/fleet"
)

// enrolsAtOnce is the number of requests in flight.
const enrolsAtOnce = 64

// enrol adds, changes, pauses, resumes, retries, or removes mailboxes.
func (a *app) enrol(ctx context.Context, args []string) error {
	flags := a.flags("enrol", "FILE")
	var e engineFlags
	e.register(flags)
	providers := flags.String("providers", "", "`file` with a line NAME,LIMIT,HOST... for each provider that has a limit of its own")
	remove := flags.Bool("remove", false, "remove the mailboxes in FILE")
	pause := flags.Bool("pause", false, "pause the mailboxes in FILE")
	resume := flags.Bool("resume", false, "resume the mailboxes in FILE")
	retry := flags.Bool("retry", false, "poll the mailboxes in FILE now, also if they were given up")
	if err := a.parse(flags, args, 1); err != nil {
		return err
	}
	cfg := e.config()
	do, verb, chosen := (*fleet.Fleet).Enrol, "enrolled", 0
	for _, action := range []struct {
		on   bool
		do   func(*fleet.Fleet, context.Context, fleet.Mailbox) error
		verb string
	}{
		{*remove, (*fleet.Fleet).Remove, "removed"}, {*pause, (*fleet.Fleet).Pause, "paused"},
		{*resume, (*fleet.Fleet).Resume, "resumed"}, {*retry, (*fleet.Fleet).Retry, "made due"},
	} {
		if action.on {
			do, verb = action.do, action.verb
			chosen++
		}
	}
	if chosen > 1 {
		fmt.Fprintln(a.stderr, "pop3-fleet enrol: -remove, -pause, -resume, and -retry exclude each other")
		return errUsage
	}
	if *providers != "" {
		var err error
		if cfg.Providers, err = readProviders(*providers); err != nil {
			return err
		}
	}
	mailboxes, err := a.readMailboxes(flags.Arg(0))
	if err != nil {
		return err
	}
	f, nc, err := e.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer nc.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(enrolsAtOnce)
	for _, m := range mailboxes {
		group.Go(func() error {
			err := do(f, ctx, m.Mailbox)
			if errors.Is(err, fleet.ErrNotEnrolled) && *remove {
				return nil
			}
			if err != nil {
				return fmt.Errorf("line %d: %w", m.line, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%d mailboxes %s\n", len(mailboxes), verb)
	return nil
}

// A listed mailbox is one of a file.
type listed struct {
	fleet.Mailbox
	line int
}

func readCSV(r io.Reader, each func(line int, fields []string) error) error {
	c := csv.NewReader(r)
	c.Comment, c.FieldsPerRecord, c.TrimLeadingSpace = '#', -1, true
	for {
		fields, err := c.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		line, _ := c.FieldPos(0)
		for i, field := range fields {
			fields[i] = strings.TrimSpace(field)
		}
		if err := each(line, fields); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// readMailboxes reads a file. Nothing is enrolled if it has an error.
func (a *app) readMailboxes(path string) (mailboxes []listed, err error) {
	r := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	lines := make(map[string]int)
	err = readCSV(r, func(line int, fields []string) error {
		m, err := parseMailbox(fields)
		if err != nil {
			return err
		}
		if first, ok := lines[m.Account()]; ok {
			return fmt.Errorf("the mailbox of line %d again", first)
		}
		lines[m.Account()] = line
		mailboxes = append(mailboxes, listed{m, line})
		return nil
	})
	return mailboxes, err
}

// parseMailbox parses the fields URL, SECRET, and options. Its errors do not show the URL, which may hold a password by mistake.
func parseMailbox(fields []string) (m fleet.Mailbox, err error) {
	if len(fields) < 2 {
		return m, errors.New("want URL,SECRET")
	}
	u, err := url.Parse(fields[0])
	if err != nil || u.Scheme != "pop" && u.Scheme != "pops" || u.User.Username() == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Fragment != "" {
		return m, errors.New("the URL must be pops://USER@HOST[:PORT] or pop://USER@HOST[:PORT], with an @ within USER written %40")
	}
	if _, ok := u.User.Password(); ok {
		return m, errors.New("no password in the URL: it would be readable in the engine")
	}
	m = fleet.Mailbox{User: u.User.Username(), Addr: u.Host, TLS: fleet.TLSImplicit, Secret: fields[1]}
	if u.Scheme == "pop" {
		m.TLS = fleet.TLSStart
	}
	switch kind, name, _ := strings.Cut(m.Secret, ":"); {
	case name == "":
		return m, errors.New("the secret must be a reference: file:NAME, env:NAME, command:NAME, or keyring:NAME")
	case kind != "file" && kind != "env" && kind != "command" && kind != "keyring":
		return m, errors.New("unknown kind of secret: want file:NAME, env:NAME, command:NAME, or keyring:NAME")
	}
	for _, option := range fields[2:] {
		if option == "" {
			continue
		}
		name, value, hasValue := strings.Cut(option, "=")
		var err error
		switch {
		case name == "interval" && hasValue:
			m.Interval, err = time.ParseDuration(value)
		case name == "provider" && hasValue:
			m.Provider = value
		case name == "keep" && hasValue:
			m.Keep = true
			m.KeepFor, err = time.ParseDuration(value)
		case name == "keep":
			m.Keep = true
		case name == "insecure" && !hasValue && u.Scheme == "pop":
			m.TLS = fleet.TLSNone
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return m, fmt.Errorf("option %q: %w (known: interval=DURATION, provider=NAME, keep, keep=DURATION, insecure with a pop URL)", option, err)
		}
	}
	return m, nil
}

// readProviders reads lines NAME,LIMIT,HOST...
func readProviders(path string) (providers []fleet.Provider, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = readCSV(f, func(line int, fields []string) error {
		if len(fields) < 3 {
			return errors.New("want NAME, LIMIT and at least one HOST")
		}
		limit, err := strconv.Atoi(fields[1])
		if err != nil || limit < 1 {
			return fmt.Errorf("%q is not a number of sessions", fields[1])
		}
		providers = append(providers, fleet.Provider{Name: fields[0], Limit: limit, Hosts: fields[2:]})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return providers, nil
}
