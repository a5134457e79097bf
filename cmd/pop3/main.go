// Command pop3 fetches mail over POP3.
//
//	pop3 demo [-n messages] [-keep]
//	pop3 fetch [-delete] [-insecure] URL MAILDIR
//
// Demo starts a server with a generated mailbox on the loopback interface,
// fetches everything from it over TLS into a temporary Maildir and says how
// fast that went.
//
// Fetch copies every message of a mailbox into a Maildir, octet for octet as
// the server sends it, CRLF included. It remembers nothing: what stays on the
// server is fetched again the next time.
//
// URL is pops://USER@HOST for TLS (port 995), or pop://USER@HOST for a
// connection (port 110) that goes over to TLS by STLS or ends; a port may
// follow HOST, and an @ within USER is written %40. With -insecure a pop URL
// goes on in the clear where the server does not offer STLS. The password is
// taken from the environment variable POP3_PASSWORD, or asked for on the
// terminal. MAILDIR is made if it is not there, but not the folder around it.
//
// With -delete the messages are deleted from the server, but only once every
// one that the server gave is in MAILDIR and written to the disk. When
// anything fails before that, none is deleted.
//
// The exit status is 0 if all was done, 1 if something failed or a message was
// refused, 2 after wrong usage and 130 after an interrupt.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  pop3 demo [-n messages] [-keep]               fetch a generated mailbox and measure it
  pop3 fetch [-delete] [-insecure] URL MAILDIR  copy a mailbox into a Maildir

URL is pops://USER@HOST[:PORT] for TLS, or pop://USER@HOST[:PORT] for STLS.
The password is taken from POP3_PASSWORD, or asked for on the terminal.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	// A reader of the output that goes away must not keep the session from its
	// end, nor leave the demo's files behind.
	signal.Ignore(syscall.SIGPIPE)
	a := &app{stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// An app is one run of the command.
type app struct {
	stdout, stderr io.Writer
	tls            *tls.Config // nil: the system's
}

// errUsage is a wrong command line that the user has been told of.
var errUsage = errors.New("wrong usage")

// run obeys a command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	var err error
	switch verb {
	case "demo":
		err = a.demo(ctx, args)
	case "fetch":
		err = a.fetch(ctx, args)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(a.stdout, usage)
	default:
		fmt.Fprint(a.stderr, usage)
		err = errUsage
	}
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	if ctx.Err() != nil {
		fmt.Fprintf(a.stderr, "pop3 %s: interrupted: %v\n", verb, err)
		return 130
	}
	fmt.Fprintf(a.stderr, "pop3 %s: %v\n", verb, err)
	return 1
}

// parse parses a verb's flags, which so many arguments must follow.
func (a *app) parse(flags *flag.FlagSet, args []string, operands int) error {
	flags.SetOutput(a.stderr)
	flags.Usage = func() {
		fmt.Fprint(a.stderr, usage, "\nflags:\n")
		flags.PrintDefaults()
	}
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if err != nil {
		return errUsage
	}
	if flags.NArg() != operands {
		// The arguments are not shown: a password might be among them.
		fmt.Fprintf(a.stderr, "pop3 %s: %d arguments where %d are due (flags come first)\n\n%s",
			flags.Name(), flags.NArg(), operands, usage)
		return errUsage
	}
	return nil
}
