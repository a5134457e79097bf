package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/connect"
)

var aboutCheck = []string{
	"Check reads the configuration and prints every mistake in it, with its line. If there is none, it logs in to each account, or to those named, " +
		"and prints how the server identifies itself, what it can do, how fast it is, and what could be improved. With a URL it does so for one mailbox. " +
		"On a terminal it also grants access by OAuth for the first time. Nothing is fetched or deleted.",
}

func defineCheck(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &listFlags{}
	f.define(flags)
	offline := flags.Bool("offline", false, "check the configuration alone")
	return func(ctx context.Context) error {
		s, err := a.selectAny(&f.accountFlags, flags.Args(), false)
		if err != nil {
			return err
		}
		byURL := flags.NArg() > 0 && isURL(flags.Arg(0))
		if err := a.checkFiles(s, byURL); err != nil {
			return err
		}
		if !byURL {
			fmt.Fprintf(a.stdout, "the configuration of %s has no mistakes\n", count(len(s.accounts), "account"))
		}
		if *offline {
			return nil
		}
		status := exitOK
		for _, account := range s.accounts {
			fmt.Fprintf(a.stdout, "\n%s\n", clean(account.Name))
			p := &prober{app: a, account: account}
			if err := p.probe(ctx, s, f.debug); err != nil {
				a.complain("check", err)
				status = worst(status, exitStatus(err))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if status != exitOK {
			return errReported(status)
		}
		return nil
	}
}

// checkFiles finds the files that accounts name and that cannot be used.
func (a *app) checkFiles(s *selection, byURL bool) error {
	var mistakes []error
	for _, account := range s.accounts {
		name := ""
		if !byURL {
			name = fmt.Sprintf("line %d: %s: ", account.Line, account.Name)
		}
		if err := connect.CheckFiles(account); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s%w", name, err))
		}
		if err := checkDest(account.Dest); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%sdest: %w", name, err))
		}
	}
	if mistakes == nil {
		return nil
	}
	return &usageError{err: errors.Join(mistakes...)}
}

// checkDest finds a destination in a folder that is not there.
func checkDest(d config.Dest) error {
	if d.Path == "" || exists(d.Path) {
		return nil
	}
	_, err := os.Stat(filepath.Dir(d.Path))
	return err
}

// A prober looks at the server of one account.
type prober struct {
	*app
	account *config.Account
	advice  []string
}

func (p *prober) print(label, format string, args ...any) {
	fmt.Fprintf(p.stdout, "  %-13s %s\n", label, clean(fmt.Sprintf(format, args...)))
}

func (p *prober) advise(format string, args ...any) {
	p.advice = append(p.advice, fmt.Sprintf(format, args...))
}

func (p *prober) probe(ctx context.Context, s *selection, debug bool) error {
	c := p.connector(s, p.account, func(string, ...any) {}, p.warn)
	if debug {
		c.Debug = &lineSplitter{emit: func(line string) { fmt.Fprintln(p.stderr, clean(line)) }}
	}
	if err := c.Prepare(ctx); err != nil {
		return err
	}
	begin := time.Now()
	client, err := c.Connect(ctx)
	if err != nil {
		if cert, ok := connect.Untrusted(err); ok {
			p.certificate(cert)
		}
		return kindOfDial(err)
	}
	took := time.Since(begin)
	p.encryption(client, took)
	p.print("greeting", "%s", client.Greeting())
	client.Close()

	begin = time.Now()
	if client, err = c.Dial(ctx); err != nil { // also with a token that has to be renewed
		return kindOfDial(err)
	}
	defer client.Close()
	p.print("login", "accepted, %v after connecting", (time.Since(begin)).Round(time.Millisecond))
	if err := p.server(ctx, client); err != nil {
		return kindOfDial(err)
	}
	for _, text := range p.advice {
		p.print("advice", "%s", text)
	}
	if err := client.Quit(ctx); err != nil {
		return kindOfDial(err)
	}
	return nil
}

// encryption prints how the connection is encrypted, and the server's certificate.
func (p *prober) encryption(client *pop3.Client, took time.Duration) {
	state, encrypted := client.TLSConnectionState()
	if !encrypted {
		p.print("connected", "in %v, not encrypted", took.Round(time.Millisecond))
		p.advise("the connection is not encrypted: everyone on the network path can read the mail; ask the provider for TLS")
		return
	}
	p.print("connected", "in %v, %s", took.Round(time.Millisecond), connect.VersionName(state))
	if len(state.PeerCertificates) > 0 {
		p.certificate(state.PeerCertificates[0])
	}
	if !p.account.TLS {
		p.advise("TLS from the first byte (pops://, port 995) is preferred to STLS (RFC 8314), if the server has it")
	}
}

// expiresSoon is when a certificate should have been renewed.
const expiresSoon = 14 * 24 * time.Hour

func (p *prober) certificate(cert *x509.Certificate) {
	name := cert.Subject.CommonName
	if len(cert.DNSNames) > 0 {
		name = strings.Join(cert.DNSNames, ", ")
	}
	p.print("certificate", "%s, issued by %s", name, cert.Issuer)
	left := time.Until(cert.NotAfter)
	when := fmt.Sprintf("in %d days", int(left.Hours()/24))
	if left < 0 {
		when = "expired"
	}
	p.print("valid until", "%s, %s", cert.NotAfter.Format(time.DateOnly), when)
	p.print("fingerprint", "%v", connect.Fingerprint(cert))
	if left < expiresSoon && left > 0 {
		p.advise("the certificate expires soon")
		if len(p.account.Pins) > 0 {
			p.advise("the pin has to be changed then, unless it is that of the key (spki:)")
		}
	}
}

// server prints the capabilities of the server after login, and its response time.
func (p *prober) server(ctx context.Context, c *pop3.Client) error {
	caps, err := c.RefreshCapabilities(ctx)
	if err != nil {
		return err
	}
	p.print("capabilities", "%s", capabilityText(caps))
	messages, size, err := c.Stat(ctx)
	if err != nil {
		return err
	}
	p.print("mailbox", "%s, %s", count(messages, "message"), bytesText(size))
	var trips []time.Duration
	for range 3 {
		begin := time.Now()
		if err := c.Noop(ctx); err != nil {
			return err
		}
		trips = append(trips, time.Since(begin))
	}
	slices.Sort(trips)
	p.print("round trip", "%v", trips[1].Round(10*time.Microsecond))
	if err := p.uniqueIDs(ctx, c, messages); err != nil {
		return err
	}
	p.limits(caps)
	return nil
}

// uniqueIDs finds out whether messages can be identified.
func (p *prober) uniqueIDs(ctx context.Context, c *pop3.Client, messages int) error {
	if messages == 0 {
		return nil
	}
	list, err := c.UIDL(ctx)
	var refusal *pop3.ServerError
	if errors.As(err, &refusal) {
		p.print("unique-ids", "none: %s", refusal.Text)
		p.advise("without unique-ids, messages can be fetched only with keep = false or no_uidl = true")
		return nil
	}
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	doubled := 0
	for id, err := range list.All() {
		if err != nil {
			return err
		}
		if seen[id.ID] {
			doubled++
		}
		seen[id.ID] = true
	}
	if doubled > 0 {
		p.print("unique-ids", "%d messages share one with another message", doubled)
	}
	return nil
}

func (p *prober) limits(caps pop3.Capabilities) {
	if len(caps) == 0 {
		return
	}
	if !caps.Has("PIPELINING") {
		p.advise("the server has no PIPELINING: each message takes a round trip")
	}
	if !caps.Has("TOP") {
		p.advise("the server has no TOP: filters do not work, and messages of earlier runs are not deleted, because nothing proves which they are")
	}
	if params := caps["LOGIN-DELAY"]; len(params) > 0 {
		if seconds, err := strconv.Atoi(params[0]); err == nil {
			interval := firstPositive(int(p.account.Interval/time.Second), int(defaultInterval/time.Second))
			if seconds > interval {
				p.advise("the server wants %d s between logins: set the interval to that", seconds)
			}
		}
	}
	if params := caps["EXPIRE"]; len(params) > 0 && params[0] != "NEVER" {
		if days, err := strconv.Atoi(params[0]); err == nil && days == 0 {
			p.advise("the server deletes messages once they were fetched (EXPIRE 0)")
		} else if err == nil {
			p.advise("the server deletes messages after %d days (EXPIRE)", days)
		}
	}
	if p.account.Secret.Password != "" {
		p.advise("the password is in the configuration: password_command or keyring keeps it elsewhere")
	}
}

func capabilityText(caps pop3.Capabilities) string {
	var list []string
	for name, params := range caps {
		list = append(list, strings.Join(append([]string{name}, params...), " "))
	}
	slices.Sort(list)
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
