// Command incremental copies the messages that are new since the last run to a Maildir, each once.
//
//	POP3_USER=joe POP3_PASSWORD=secret go run ./incremental pop.example.org ~/Maildir joe.state
//
// The state file remembers the unique-ids. It may be killed at any moment: the next run continues, and neither loses a
// message nor delivers it twice. Nothing is deleted from the server.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: incremental HOST MAILDIR STATE-FILE")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1], nil, os.Getenv("POP3_USER"), os.Getenv("POP3_PASSWORD"), os.Args[2], os.Args[3], os.Stdout)
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string, opts *pop3.Options, user, password, dir, state string, out io.Writer) error {
	account := user + "@" + addr
	store, err := boltstore.Open(state, account)
	if err != nil {
		return err // fetch.ErrLocked if another run is not over
	}
	defer store.Close()

	f := &fetch.Fetcher{
		Account: account,
		Dial: func(ctx context.Context) (*pop3.Client, error) { // again after a lost connection
			c, err := pop3.DialTLS(ctx, addr, opts)
			if err != nil {
				return nil, err
			}
			if err := c.Login(ctx, user, password); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
		Store: store,
		Sink:  &fetch.Maildir{Dir: dir},
		Progress: func(e fetch.Event) {
			switch e.Kind {
			case fetch.EventFetched:
				fmt.Fprintf(out, "fetched %s, %d octets\n", e.Message.Key.UID, e.Message.Size)
			case fetch.EventRetry:
				fmt.Fprintf(out, "again in %v: %v\n", e.Delay, e.Err)
			}
		},
	}
	report, err := f.Run(ctx) // the report is valid with any error
	fmt.Fprintf(out, "%d of %d messages are new, %d fetched\n", report.New, report.Listed, report.Fetched)
	return err
}
