package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"

	"github.com/seed-5b1d5243/pop3"
)

// A mailbox is what a URL names.
type mailbox struct {
	user, addr string
	tls        bool // from the first octet
}

func (m mailbox) String() string { return m.user + "@" + m.addr }

// parseMailbox parses pops://USER@HOST[:PORT] or pop://USER@HOST[:PORT].
// Its errors show nothing of the URL, which may hold a password by mistake.
func parseMailbox(text string) (mailbox, error) {
	form := errors.New("the URL must be pops://USER@HOST[:PORT] or pop://USER@HOST[:PORT], with an @ within USER written %40")
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "pop" && u.Scheme != "pops" {
		return mailbox{}, form
	}
	if _, ok := u.User.Password(); ok {
		return mailbox{}, errors.New("no password in the URL, where others can see it: set POP3_PASSWORD, or be asked on the terminal")
	}
	if u.User.Username() == "" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return mailbox{}, form
	}
	m := mailbox{user: u.User.Username(), addr: u.Host, tls: u.Scheme == "pops"}
	if u.Port() == "" {
		m.addr = u.Hostname()
	}
	return m, nil
}

// connect opens a session, encrypted unless insecure allows otherwise.
func (a *app) connect(ctx context.Context, m mailbox, insecure bool) (*pop3.Client, error) {
	opts := &pop3.Options{TLSConfig: a.tls, AllowInsecureLogin: insecure}
	if m.tls {
		return pop3.DialTLS(ctx, m.addr, opts)
	}
	if !insecure {
		c, err := pop3.DialStartTLS(ctx, m.addr, opts)
		if errors.Is(err, pop3.ErrTLSNotSupported) {
			err = fmt.Errorf("%w (-insecure goes on in the clear)", err)
		}
		return c, err
	}
	c, err := pop3.Dial(ctx, m.addr, opts)
	if err != nil {
		return nil, err
	}
	// Login would do so too, but not where it can use APOP: the messages are
	// worth hiding as well.
	err = c.StartTLS(ctx, nil)
	if errors.Is(err, pop3.ErrTLSNotSupported) {
		fmt.Fprintln(a.stderr, "pop3 fetch: warning: the server does not offer STLS; everybody on the way can read along")
		return c, nil
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (a *app) fetch(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fetch", flag.ContinueOnError)
	remove := flags.Bool("delete", false, "delete from the server what is safely in MAILDIR")
	insecure := flags.Bool("insecure", false, "permit a pop URL to go on without TLS")
	if err := a.parse(flags, args, 2); err != nil {
		return err
	}
	m, err := parseMailbox(flags.Arg(0))
	if err != nil {
		return err
	}
	dir, err := openMaildir(flags.Arg(1))
	if err != nil {
		return err
	}
	password, err := askPassword(ctx, m.String())
	if err != nil {
		return err
	}
	c, err := a.connect(ctx, m, *insecure)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, m.user, password); err != nil {
		return err
	}
	got, err := a.fetchAll(ctx, c, dir)
	if err != nil {
		return fmt.Errorf("%w\n%d messages are in %s, none was deleted from the server", err, len(got.numbers), dir.dir)
	}
	deleted := 0
	if *remove {
		var refused []error
		if deleted, refused, err = deleteAll(ctx, c, dir, got.numbers); err != nil {
			return err
		}
		got.refused = append(got.refused, refused...)
	} else {
		c.Quit(ctx) // with nothing to commit it cannot fail in a way that matters
	}
	fmt.Fprintf(a.stdout, "%d messages fetched, %s, %d deleted from the server\n", len(got.numbers), megabytes(got.octets), deleted)
	return errors.Join(got.refused...)
}

// A haul is what a session has brought home.
type haul struct {
	numbers []int // of the messages delivered
	octets  int64
	refused []error // one for each message that the server would not give
}

// fetchAll delivers every message into dir. A message that the server refuses
// does not keep it from the others.
func (a *app) fetchAll(ctx context.Context, c *pop3.Client, dir *maildir) (got haul, err error) {
	_, total, err := c.Stat(ctx)
	if err != nil {
		return got, err
	}
	list, err := c.List(ctx)
	if err != nil {
		return got, err
	}
	progress, done := newProgress(a.stderr, total)
	defer done()
	for entry, err := range list.All() {
		if err != nil {
			return got, err
		}
		m, err := c.Retr(ctx, entry.Number)
		if refused := (*pop3.ServerError)(nil); errors.As(err, &refused) {
			got.refused = append(got.refused, refused)
			continue
		}
		if err != nil {
			return got, err
		}
		n, err := dir.deliver(m, progress)
		if err != nil {
			return got, fmt.Errorf("message %d: %w", entry.Number, err)
		}
		got.octets += n
		got.numbers = append(got.numbers, entry.Number)
	}
	return got, nil
}

// deleteAll deletes messages that have been delivered into dir, and returns
// how many. An error means that nothing was deleted, unless it says otherwise.
func deleteAll(ctx context.Context, c *pop3.Client, dir *maildir, numbers []int) (deleted int, refused []error, err error) {
	if err := dir.commit(); err != nil {
		return 0, nil, fmt.Errorf("nothing was deleted from the server: %w", err)
	}
	for _, n := range numbers {
		err := c.Dele(ctx, n)
		if e := (*pop3.ServerError)(nil); errors.As(err, &e) {
			refused = append(refused, e)
			continue
		}
		if err != nil {
			return 0, nil, fmt.Errorf("nothing was deleted from the server: %w", err)
		}
		deleted++
	}
	err = c.Quit(ctx)
	if e := (*pop3.ServerError)(nil); errors.As(err, &e) {
		return 0, nil, fmt.Errorf("the server kept some of the messages that it was to delete: %w", err)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("nobody knows whether the server deleted the messages: %w", err)
	}
	return deleted, refused, nil
}
