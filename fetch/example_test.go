package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/mail"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A program that copies new messages from a maildrop to a Maildir, and deletes messages from the server after 14 days.
func Example() {
	srv := pop3test.NewTLSServer(pop3test.Messages("Subject: first\r\n\r\nHello.\r\n", "Subject: second\r\n\r\nHello again.\r\n"))
	defer srv.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	f := &fetch.Fetcher{
		Account: "user@pop.example.org",
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
			if err != nil {
				return nil, err
			}
			if err := c.Login(ctx, "user", "secret"); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
		Store:  &fetch.MemoryStore{}, // package boltstore has one that lasts
		Sink:   &fetch.Maildir{Dir: filepath.Join(dir, "Mail")},
		Policy: fetch.Policy{DeleteAfter: 14 * 24 * time.Hour},
	}
	for range 2 {
		report, err := f.Run(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d listed, %d fetched\n", report.Listed, report.Fetched)
	}
	files, err := os.ReadDir(filepath.Join(dir, "Mail", "new"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(files), "files")
	// Output:
	// 2 listed, 2 fetched
	// 2 listed, 0 fetched
	// 2 files
}

// A bounce processor: a function receives each message once. A message is deleted only if the function has returned nil. One that the
// function cannot parse stays on the server, and is not tried again.
func ExampleDeliver() {
	srv := pop3test.NewTLSServer(pop3test.Messages(
		"From: mailer-daemon@example.net\r\nX-Failed-Recipients: ann@example.net\r\n\r\nUser unknown.\r\n",
		"This is not a message.\r\n",
		"From: mailer-daemon@example.com\r\nX-Failed-Recipients: bob@example.com\r\n\r\nMailbox full.\r\n",
	))
	defer srv.Close()

	process := func(ctx context.Context, m fetch.Message, body io.ReadSeeker) error {
		bounce, err := mail.ReadMessage(body)
		if err != nil {
			return fetch.Never(err) // a failure that may pass is a fetch.Later
		}
		fmt.Println("bounced:", bounce.Header.Get("X-Failed-Recipients"))
		return nil
	}
	f := &fetch.Fetcher{
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
			if err != nil {
				return nil, err
			}
			if err := c.Login(ctx, "user", "secret"); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
		Store:  &fetch.MemoryStore{},
		Sink:   fetch.Deliver(process),
		Policy: fetch.Policy{Delete: true},
	}
	for range 2 {
		report, err := f.Run(context.Background())
		if err != nil && !errors.Is(err, fetch.ErrIncomplete) {
			log.Fatal(err)
		}
		fmt.Printf("%d processed, %d refused, %d deleted\n", report.Fetched, report.Refused, report.Deleted)
	}
	fmt.Println(len(srv.Remaining()), "on the server")
	// Output:
	// bounced: ann@example.net
	// bounced: bob@example.com
	// 2 processed, 1 refused, 2 deleted
	// 0 processed, 0 refused, 0 deleted
	// 1 on the server
}
