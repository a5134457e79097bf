// Command workers fetches a mailbox over one connection and lets a pool of goroutines process the messages: here, each
// prints the digest and the subject.
//
//	POP3_USER=joe POP3_PASSWORD=secret go run ./workers pop.example.org
//
// One session pipelines all RETR commands, and most servers permit no more. The pool is for the work that follows.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/mail"
	"os"
	"os/signal"
	"runtime"

	"github.com/seed-5b1d5243/pop3"
	"golang.org/x/sync/errgroup"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: workers HOST")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], nil, os.Getenv("POP3_USER"), os.Getenv("POP3_PASSWORD"), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

type message struct {
	number int
	text   []byte
}

func run(ctx context.Context, addr string, opts *pop3.Options, user, password string, out io.Writer) error {
	c, err := pop3.DialTLS(ctx, addr, opts)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, user, password); err != nil {
		return err
	}
	listing, err := c.List(ctx)
	if err != nil {
		return err
	}
	var numbers []int
	for e, err := range listing.All() {
		if err != nil {
			return err
		}
		numbers = append(numbers, e.Number)
	}

	// If any goroutine fails, groupCtx stops the others.
	group, groupCtx := errgroup.WithContext(ctx)
	messages := make(chan message, runtime.NumCPU()) // bounds the memory: the fetcher waits for the workers
	group.Go(func() error {
		defer close(messages)
		return fetch(groupCtx, c, numbers, messages)
	})
	lines := log.New(out, "", 0) // safe for concurrent use
	for range runtime.NumCPU() {
		group.Go(func() error {
			for m := range messages {
				line, err := process(m.text)
				if err != nil {
					return fmt.Errorf("message %d: %w", m.number, err)
				}
				lines.Println(m.number, line)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.Quit(ctx)
}

// fetch sends each message to the workers after it was read completely, so that they never receive a truncated one.
func fetch(ctx context.Context, c *pop3.Client, numbers []int, messages chan<- message) error {
	for m, err := range c.RetrAll(ctx, numbers) {
		if err != nil {
			return err
		}
		text, err := io.ReadAll(m)
		if refused := new(pop3.ServerError); errors.As(err, &refused) {
			log.Printf("skipping message %d: %v", m.Number, err)
			continue
		}
		if err != nil {
			return err
		}
		select {
		case messages <- message{m.Number, text}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func process(text []byte) (string, error) {
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x %s", sha256.Sum256(text), m.Header.Get("Subject")), nil
}
