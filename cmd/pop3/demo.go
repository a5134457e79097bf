package main

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"os"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func (a *app) demo(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	count := flags.Int("n", 20_000, "number of messages")
	keep := flags.Bool("keep", false, "keep the Maildir")
	if err := a.parse(flags, args, 0); err != nil {
		return err
	}
	if *count < 1 {
		fmt.Fprintln(a.stderr, "pop3 demo: -n must be 1 or more")
		return errUsage
	}

	srv := pop3test.NewTLSServer(newMailbox(*count))
	defer srv.Close()
	temp, err := os.MkdirTemp("", "pop3-demo-")
	if err != nil {
		return err
	}
	if *keep {
		defer fmt.Fprintln(a.stdout, "kept     ", temp)
	} else {
		defer os.RemoveAll(temp)
	}
	dir, err := openMaildir(temp)
	if err != nil {
		return err
	}
	dir.sync = false // it is not to last

	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		return err
	}
	messages, octets, err := c.Stat(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "mailbox   %d messages, %s, on %s over TLS\n", messages, megabytes(octets), srv.Addr)

	peak := watchHeap()
	defer peak()
	start := time.Now()
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	entries, err := drain(list.All())
	if err != nil {
		return err
	}
	a.rate("LIST", entries, time.Since(start))

	start = time.Now()
	uids, err := c.UIDL(ctx)
	if err != nil {
		return err
	}
	ids, err := drain(uids.All())
	if err != nil {
		return err
	}
	a.rate("UIDL", ids, time.Since(start))

	start = time.Now()
	got, err := a.fetchAll(ctx, c, dir)
	if err != nil {
		return err
	}
	took := time.Since(start)
	if entries != messages || ids != messages || len(got.numbers) != messages || got.octets != octets {
		return fmt.Errorf("the mailbox has %d messages with %d octets, but LIST gave %d, UIDL %d, RETR %d with %d octets",
			messages, octets, entries, ids, len(got.numbers), got.octets)
	}
	if err := c.Quit(ctx); err != nil {
		return err
	}
	a.rate("RETR", messages, took)
	fmt.Fprintf(a.stdout, "          %s, %.1f MB/s, each into a file of its own\n", megabytes(got.octets), float64(got.octets)/1e6/took.Seconds())
	fmt.Fprintf(a.stdout, "peak heap %s, the server's included\n", megabytes(peak()))
	return nil
}

// drain reads a listing to its end and counts its entries.
func drain[T any](listing iter.Seq2[T, error]) (entries int, err error) {
	for _, err := range listing {
		if err != nil {
			return entries, err
		}
		entries++
	}
	return entries, nil
}

func (a *app) rate(command string, messages int, took time.Duration) {
	fmt.Fprintf(a.stdout, "%-9s %d messages in %v, %.0f messages/s\n",
		command, messages, took.Round(time.Millisecond), float64(messages)/took.Seconds())
}

// newMailbox returns messages of 1 to 10 KB, and every thousandth of 1 MB. Some
// of their lines begin with a dot.
func newMailbox(count int) pop3test.Maildrop {
	const line = "The quick brown fox jumps over the lazy dog, and then it has a rest.\r\n"
	const dots = ".. and . are lines too:\r\n.\r\n"
	text := strings.Repeat(strings.Repeat(line, 9)+dots, 1600)
	message := func(n int) (header, body string) {
		header = fmt.Sprintf("From: sender@example.com\r\nTo: user@example.com\r\nSubject: message %d\r\n"+
			"Message-ID: <%d@example.com>\r\n\r\n", n, n)
		size := 1000 + n*7919%9000 // spread by a prime
		if n%1000 == 0 {
			size = 1_000_000
		}
		return header, text[:strings.LastIndex(text[:size], "\r\n")+2]
	}
	return &pop3test.Generated{
		N: count,
		Text: func(n int) string {
			header, body := message(n)
			return header + body
		},
		SizeOf: func(n int) int64 {
			header, body := message(n)
			return int64(len(header) + len(body))
		},
	}
}

// watchHeap samples the size of the heap until the function it returns is
// called, which says what the largest was.
func watchHeap() (peak func() uint64) {
	stop := make(chan struct{})
	most := make(chan uint64)
	go func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		var top uint64
		for {
			metrics.Read(sample)
			top = max(top, sample[0].Value.Uint64())
			select {
			case <-ticker.C:
			case <-stop:
				most <- top
				return
			}
		}
	}()
	return sync.OnceValue(func() uint64 {
		close(stop)
		return <-most
	})
}
