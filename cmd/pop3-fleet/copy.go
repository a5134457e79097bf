package main

import (
	"context"
	"fmt"
)

// copy copies the mailboxes to another engine.
func (a *app) copy(ctx context.Context, args []string) error {
	flags := a.flags("copy", "")
	var from, to engineFlags
	from.register(flags)
	flags.StringVar(&to.url, "to", "", "`address` of the other engine, or several, separated by commas")
	flags.StringVar(&to.passwordFile, "to-password-file", "", "`file` with the password of the user "+engineUser+" of the other engine")
	flags.StringVar(&to.creds, "to-creds", "", "NATS credentials `file` of the other engine")
	flags.IntVar(&to.replicas, "to-replicas", 0, "number of engines that keep the data: 1 or 3 (default: as it is, or 1)")
	if err := a.parse(flags, args, 0); err != nil {
		return err
	}
	if to.url == "" {
		fmt.Fprintln(a.stderr, "pop3-fleet copy: -to is required")
		return errUsage
	}
	source, nc, err := from.open(ctx, from.config())
	if err != nil {
		return err
	}
	defer nc.Close()
	target, nc2, err := to.open(ctx, to.config())
	if err != nil {
		return err
	}
	defer nc2.Close()
	n, err := source.Copy(ctx, target)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%d mailboxes copied\n", n)
	return nil
}
