package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-5b1d5243/pop3/fleet"
)

// status shows the state of the fleet, or serves it.
func (a *app) status(ctx context.Context, args []string) error {
	flags := a.flags("status", "")
	var e engineFlags
	e.register(flags)
	asJSON := flags.Bool("json", false, "print JSON")
	listen := flags.String("listen", "", "serve the page with metrics on this `address`, and do not end")
	if err := a.parse(flags, args, 0); err != nil {
		return err
	}
	f, nc, err := e.open(ctx, e.config())
	if err != nil {
		return err
	}
	defer nc.Close()
	if *listen != "" {
		group, ctx := errgroup.WithContext(ctx)
		if err := a.serveMetrics(ctx, group, *listen, f, nil); err != nil {
			return err
		}
		return group.Wait()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := f.Status(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		out := json.NewEncoder(a.stdout)
		out.SetIndent("", "  ")
		return out.Encode(s)
	}
	return printStatus(a.stdout, s)
}

func printStatus(w io.Writer, s *fleet.Status) error {
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
	fmt.Fprintf(w, "%d mailboxes: %d failing, %d parked, %d paused, %d without a job\n", s.Mailboxes, s.Failing, s.Parked, s.Paused, s.Missing)
	fmt.Fprintf(w, "%d due; late by %v (half of them), %v (99 %%), %v (all)\n", s.Late.Due, round(s.Late.P50), round(s.Late.P99), round(s.Late.Max))
	fmt.Fprintf(w, "%d mails in the stream, %d not drained\n\n", s.Mails, s.Undrained)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROVIDER\tMAILBOXES\tFAILING\tDUE\tHELD\tLIMIT\tPAUSED")
	for _, p := range s.Providers {
		paused := ""
		if p.PausedFor > 0 {
			paused = round(p.PausedFor).String()
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", p.Name, p.Mailboxes, p.Failing, p.Due, p.Held, p.Limit, paused)
	}
	if len(s.Problems) > 0 {
		fmt.Fprintln(t, "\nMAILBOX\tFAILURES\tSINCE\tKIND\tERROR")
		for _, p := range s.Problems {
			kind := p.Kind
			if p.Parked {
				kind += " (parked)"
			}
			since := ""
			if !p.Since.IsZero() {
				since = p.Since.Local().Format(time.DateTime)
			}
			fmt.Fprintf(t, "%q\t%d\t%s\t%s\t%q\n", p.Account, p.Failures, since, kind, p.Error)
		}
	}
	return t.Flush()
}
