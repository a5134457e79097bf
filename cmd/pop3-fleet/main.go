// Command pop3-fleet polls many POP3 mailboxes: from one process with the engine in it, or from many machines.
//
//	pop3-fleet serve                     the engine and a worker
//	pop3-fleet worker                    a worker alone
//	pop3-fleet enrol FILE                add, change, or remove mailboxes
//	pop3-fleet status                    late and failing mailboxes, by provider
//	pop3-fleet drain TARGET              deliver the mail to a Maildir, to files, to a command, or by HTTP
//	pop3-fleet copy -to ADDRESS          copy the mailboxes to another engine
//	pop3-fleet demo                      2,000 mailboxes, three workers, and one of them killed now and then
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: pop3-fleet COMMAND [FLAGS] [ARGUMENTS]

  serve           run the engine and a worker in this process
  worker          run a worker for an engine that runs elsewhere
  enrol FILE      add, change, pause, resume, or remove the mailboxes in FILE ("-" is the standard input)
  status          show late and failing mailboxes, by provider
  drain TARGET    deliver the mail to maildir:DIR, files:DIR, command:CMD, or an http or https URL
  copy            copy the mailboxes to another engine, as from a single one to a cluster
  demo            2,000 mailboxes on servers in this process, three workers, and one of them killed now and then

pop3-fleet COMMAND -h shows the flags.
`

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

var errUsage = errors.New("wrong usage")

// An app contains the parts of the process that the commands need.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

var commands = map[string]func(a *app, ctx context.Context, args []string) error{
	"serve":  (*app).serve,
	"worker": (*app).worker,
	"enrol":  (*app).enrol,
	"status": (*app).status,
	"drain":  (*app).drain,
	"copy":   (*app).copy,
	"demo":   (*app).demo,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process
	a := &app{os.Stdin, os.Stdout, os.Stderr}
	os.Exit(a.main(ctx, os.Args[1:]))
}

func (a *app) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(a.stderr, usage)
		return exitUsage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		fmt.Fprint(a.stdout, usage)
		return 0
	}
	command := commands[args[0]]
	if command == nil {
		fmt.Fprintf(a.stderr, "pop3-fleet: unknown command %q\n\n%s", args[0], usage)
		return exitUsage
	}
	err := command(a, ctx, args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return exitUsage
	}
	fmt.Fprintf(a.stderr, "pop3-fleet %s: %v\n", args[0], err)
	return exitFailed
}

// flags returns the flags of a command.
func (a *app) flags(name, operands string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(a.stderr)
	fs.Usage = func() {
		fmt.Fprintf(a.stderr, "usage: pop3-fleet %s [FLAGS] %s\n\n", name, operands)
		fs.PrintDefaults()
	}
	return fs
}

// parse parses flags and checks the number of operands.
func (a *app) parse(fs *flag.FlagSet, args []string, operands int) error {
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if err != nil {
		return errUsage
	}
	if fs.NArg() != operands {
		fmt.Fprintf(a.stderr, "pop3-fleet %s: %d arguments, want %d (flags come first)\n", fs.Name(), fs.NArg(), operands)
		fs.Usage()
		return errUsage
	}
	return nil
}
