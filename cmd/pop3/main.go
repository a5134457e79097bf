// Command pop3 fetches mail over POP3, each message once.
//
//	pop3 fetch [flags] URL DEST | ACCOUNT...   fetch what is new
//	pop3 watch [flags] URL DEST | ACCOUNT...   fetch again and again
//	pop3 list  [flags] URL | ACCOUNT           list the messages on the server
//	pop3 check [flags] [URL | ACCOUNT...]      check the configuration and the servers
//	pop3 state VERB [flags] URL | ACCOUNT      show and change what is remembered
//	pop3 demo  [flags]                         fetch a generated mailbox, and measure it
//	pop3 version | help | man | completion
//
// The manual page pop3.1 beside this file describes all of them; pop3 man prints it.
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
	"strings"
	"syscall"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/connect"
	"github.com/seed-5b1d5243/pop3/fetch"
)

//go:generate go test -run TestGenerated -update .

func main() {
	// The children of the command must not see the password.
	password := os.Getenv("POP3_PASSWORD")
	os.Unsetenv("POP3_PASSWORD")

	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once, which loses nothing
	// A reader of the output that goes away must not keep messages from being recorded.
	signal.Ignore(syscall.SIGPIPE)

	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, password: password}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// An app is one run of the command.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	password       string      // of POP3_PASSWORD
	tls            *tls.Config // to begin with; nil: the system's
}

// The exit statuses.
const (
	exitOK          = 0
	exitIncomplete  = 1 // some messages were refused or left
	exitUsage       = 2 // usage or configuration
	exitLogin       = 3
	exitServer      = 4 // server or network, worth trying later
	exitSink        = 5 // the destination, or the state
	exitLocked      = 6 // by another run
	exitInterrupted = 130
)

// severity orders exit statuses from the least to the most important one. Several accounts result in the most
// important.
var severity = []int{exitOK, exitIncomplete, exitLocked, exitServer, exitSink, exitLogin, exitUsage, exitInterrupted}

// A usageError is a wrong command line or configuration.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{err: fmt.Errorf(format, args...)} }

// errReported ends the command with a status whose reason the user has seen.
type errReported int

func (e errReported) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitStatus returns the status for an error.
func exitStatus(err error) int {
	var usage *usageError
	var setup *connect.SetupError
	var mistakes *config.Mistakes
	var reported errReported
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &reported):
		return int(reported)
	case errors.Is(err, fetch.ErrInterrupted):
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &setup), errors.As(err, &mistakes), errors.Is(err, fetch.ErrNoUIDL):
		return exitUsage
	case errors.Is(err, fetch.ErrLogin):
		return exitLogin
	case errors.Is(err, fetch.ErrLocked):
		return exitLocked
	case errors.Is(err, fetch.ErrSink), errors.Is(err, fetch.ErrStore):
		return exitSink
	case errors.Is(err, fetch.ErrServer):
		return exitServer
	}
	return exitIncomplete
}

// run obeys a command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	v, args := findVerb(args)
	if v == nil {
		if len(args) > 0 && isHelp(args[0]) {
			return a.help(args[1:])
		}
		fmt.Fprint(a.stderr, usage())
		return exitUsage
	}
	flags := newFlagSet(v.name)
	act := v.define(a, flags)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(a.stdout, v.help())
		return exitOK
	} else if err != nil {
		a.complain(v.name, usagef("%s", flagError(err)))
		fmt.Fprintf(a.stderr, "usage: %s\n", v.usage())
		return exitUsage
	}
	err := checkOperands(v, flags.Args())
	if err == nil {
		err = act(ctx)
	}
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())) {
		err = fmt.Errorf("%w: %w", fetch.ErrInterrupted, context.Cause(ctx))
	}
	var reported errReported
	if !errors.As(err, &reported) {
		a.complain(v.name, err)
	}
	return exitStatus(err)
}

// flagError removes the URL of a proxy from an error of package flag, because it may hold a password.
func flagError(err error) string {
	if _, reason, ok := strings.Cut(err.Error(), "for flag -proxy: "); ok {
		return "invalid value for flag -proxy: " + reason
	}
	return err.Error()
}

// checkOperands checks the number of operands. They are not shown, because a password may be among them.
func checkOperands(v *verb, operands []string) error {
	for _, o := range operands {
		if len(o) > 1 && o[0] == '-' {
			return usagef("flags come before the other arguments")
		}
	}
	if n := len(operands); n < v.least || v.most >= 0 && n > v.most {
		return &usageError{fmt.Errorf("wrong number of arguments: %d", n), "usage: " + v.usage()}
	}
	return nil
}

// complain reports an error of a verb, with a hint on a separate line.
func (a *app) complain(verb string, err error) {
	for line := range strings.Lines(explain(err)) {
		fmt.Fprintf(a.stderr, "pop3 %s: %s\n", verb, clean(strings.TrimSuffix(line, "\n")))
	}
	if h := hint(err); h != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", clean(h))
	}
}
