package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var aboutDemo = []string{
	"Demo starts a server with a generated mailbox on the loopback interface, and fetches it over TLS into a temporary Maildir, as fetch " +
		"does it. Then it fetches again, to show that nothing is new. It prints how long that took, and how much memory.",
}

func defineDemo(a *app, flags *flag.FlagSet) func(context.Context) error {
	n := flags.Int("n", 20_000, "the mailbox has `N` messages")
	keep := flags.Bool("keep", false, "keep the Maildir and the state")
	return func(ctx context.Context) error {
		if *n < 1 {
			return usagef("-n must be 1 or more")
		}
		temp, err := os.MkdirTemp("", "pop3-demo-")
		if err != nil {
			return err
		}
		if *keep {
			defer fmt.Fprintln(a.stdout, "kept      ", temp)
		} else {
			defer os.RemoveAll(temp)
		}
		return a.demo(ctx, *n, temp)
	}
}

func (a *app) demo(ctx context.Context, n int, temp string) error {
	srv := pop3test.NewTLSServer(newMailbox(n))
	defer srv.Close()
	dial := func(ctx context.Context) (*pop3.Client, error) {
		c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
		if err != nil {
			return nil, err
		}
		if err := c.Login(ctx, "user", "secret"); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
	s := &selection{accounts: []*config.Account{{Name: "demo"}}, stateDir: filepath.Join(temp, "state"), single: true}
	store, err := s.openStore(s.accounts[0])
	if err != nil {
		return err
	}
	defer store.Close()
	fmt.Fprintf(a.stdout, "mailbox    %d messages, on %s over TLS\n", n, srv.Addr)
	peak := watchHeap()
	defer peak()
	for _, round := range []string{"first run", "second run"} {
		v := a.newView("demo", viewFlags{}, s, false)
		line := v.begin("demo")
		f := &fetch.Fetcher{
			Account: "demo", Dial: dial, Store: store, Sink: &fetch.Maildir{Dir: filepath.Join(temp, "Maildir")},
			Progress: line.event, Logger: v.logger("demo"),
		}
		r, err := f.Run(ctx)
		v.close()
		if err != nil {
			return err
		}
		want := n
		if round == "second run" {
			want = 0
		}
		if r.Listed != n || r.Fetched != want {
			return fmt.Errorf("%s: %d messages listed and %d fetched; want %d and %d", round, r.Listed, r.Fetched, n, want)
		}
		took := r.Elapsed.Round(time.Millisecond)
		if r.Fetched == 0 {
			fmt.Fprintf(a.stdout, "%-10s nothing new among %d messages, in %v\n", round, r.Listed, took)
			break
		}
		fmt.Fprintf(a.stdout, "%-10s %s fetched, each synced to a file of its own: %s in %v, %.0f messages/s, %.1f MB/s\n", round,
			count(r.Fetched, "message"), bytesText(r.Octets), took, float64(r.Fetched)/r.Elapsed.Seconds(), float64(r.Octets)/1e6/r.Elapsed.Seconds())
	}
	fmt.Fprintf(a.stdout, "peak heap  %s, that of the server included\n", bytesText(int64(peak())))
	return nil
}

// newMailbox returns messages of 1 to 10 kB, and every thousandth of 1 MB. Some of their lines begin with a dot.
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

// watchHeap samples the size of the heap until the function that it returns is called, which returns the largest
// sample.
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
