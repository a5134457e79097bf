// Command bounces reads delivery status notifications (RFC 3464) from a mailbox and prints a line of JSON for each
// recipient, for a program that maintains a list of addresses.
//
//	POP3_USER=bounces POP3_PASSWORD=secret go run ./bounces pop.example.org bounces.state
//
// Notifications are deleted from the server after they were printed; other mail stays and is not read again. If the
// process dies between the two, a notification is printed again, with the same id.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/textproto"
	"os"
	"os/signal"
	"strings"

	"github.com/emersion/go-message"
	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: bounces HOST STATE-FILE")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], nil, os.Getenv("POP3_USER"), os.Getenv("POP3_PASSWORD"), os.Args[2], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string, opts *pop3.Options, user, password, state string, out io.Writer) error {
	account := user + "@" + addr
	store, err := boltstore.Open(state, account)
	if err != nil {
		return err
	}
	defer store.Close()
	f := &fetch.Fetcher{
		Account: account,
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			c, err := pop3.DialTLS(ctx, addr, opts)
			if err != nil {
				return nil, err
			}
			if err := c.Login(ctx, user, password); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return c, nil
		},
		Store:  store,
		Policy: fetch.Policy{Delete: true, MaxSize: 10 << 20},
		Sink: fetch.Deliver(func(ctx context.Context, m fetch.Message, body io.ReadSeeker) error {
			results, err := parse(body)
			if err != nil {
				return fetch.Never(err) // leave it to a person
			}
			for _, r := range results {
				r.ID = m.Key.Digest(account)
				err = errors.Join(err, json.NewEncoder(out).Encode(r))
			}
			return err // ends the run if not nil: the message stays
		}),
	}
	report, err := f.Run(ctx)
	for _, p := range report.Problems {
		log.Print(p)
	}
	if errors.Is(err, fetch.ErrIncomplete) && report.Left == 0 { // other mail, listed above
		return nil
	}
	return err
}

// A result is the status of a message for one recipient.
type result struct{ ID, Recipient, Action, Status, Diagnostic string }

func parse(r io.Reader) (results []result, err error) {
	m, err := message.Read(r)
	if err != nil && !message.IsUnknownCharset(err) {
		return nil, err
	}
	for parts := m.MultipartReader(); parts != nil; {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		} else if err != nil && !message.IsUnknownCharset(err) {
			return nil, err
		}
		if kind, _, _ := part.Header.ContentType(); kind != "message/delivery-status" {
			continue
		}
		// Groups of fields: one about the message, then one for each recipient.
		for groups := textproto.NewReader(bufio.NewReader(part.Body)); ; {
			group, err := groups.ReadMIMEHeader()
			if _, recipient, ok := strings.Cut(group.Get("Final-Recipient"), ";"); ok {
				results = append(results, result{Recipient: strings.TrimSpace(recipient), Status: group.Get("Status"),
					Action: strings.ToLower(group.Get("Action")), Diagnostic: group.Get("Diagnostic-Code")})
			}
			if err == io.EOF {
				break
			} else if err != nil {
				return nil, err
			}
		}
	}
	if len(results) == 0 {
		return nil, errors.New("not a delivery status notification")
	}
	return results, nil
}
