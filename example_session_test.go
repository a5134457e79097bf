package pop3_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// Quit commits the deletions. It has three outcomes: all deletions were committed, the server kept some of the
// messages, or the outcome is unknown.
func ExampleClient_Quit() {
	srv := pop3test.NewUnstartedServer(pop3test.Messages("Subject: one\r\n\r\n", "Subject: two\r\n\r\n", "Subject: three\r\n\r\n"))
	srv.Refuse = func(verb string, n int) string {
		switch {
		case verb == "QUIT" && n == 2:
			return "some messages were not deleted"
		case verb == "QUIT" && n == 3:
			srv.CloseClientConnections()
		}
		return ""
	}
	srv.StartTLS()
	defer srv.Close()
	ctx := context.Background()

	for range 3 {
		c := login(ctx, srv)
		if err := c.Dele(ctx, 1); err != nil {
			log.Fatal(err)
		}
		err := c.Quit(ctx)
		var refused *pop3.ServerError
		switch {
		case err == nil:
			fmt.Println("deleted")
		case errors.As(err, &refused):
			fmt.Println("the server kept some messages:", refused.Text)
		case errors.Is(err, pop3.ErrNotSent):
			fmt.Println("nothing was deleted:", err)
		default:
			fmt.Println("unknown: connect again and compare unique-ids")
		}
		c.Close() // after Quit this is a no-op
	}

	// Output:
	// deleted
	// the server kept some messages: some messages were not deleted
	// unknown: connect again and compare unique-ids
}

// Delete messages in a batch. The error names each message that the server refused to delete.
func ExampleClient_DeleAll() {
	srv := pop3test.NewTLSServer(pop3test.Messages("Subject: one\r\n\r\n", "Subject: two\r\n\r\n"))
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	fmt.Println(c.DeleAll(ctx, []int{1, 2, 3}))
	if err := c.Quit(ctx); err != nil { // nothing is deleted before
		log.Fatal(err)
	}
	fmt.Println(len(srv.Deleted()), "deleted")

	// Output:
	// pop3: DELE 3: -ERR no such message
	// 2 deleted
}

// A message that is neither read nor closed keeps the connection. Other commands do not wait for it forever: nothing is
// sent, and the session remains usable.
func ExampleMessage_errBusy() {
	srv := pop3test.NewTLSServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
	defer srv.Close()
	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig(), StallTimeout: 10 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}

	m, err := c.Retr(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	err = c.Dele(ctx, 1) // m is still open
	fmt.Println(err)
	fmt.Println(errors.Is(err, pop3.ErrBusy), errors.Is(err, pop3.ErrNotSent))
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Dele(ctx, 1))

	// Output:
	// pop3: DELE 1: RETR 1 is still open (read it to EOF or Close it)
	// true true
	// <nil>
}

// Process messages in several goroutines, which share one session. The messages are fetched one after the other.
func ExampleListing_C_workers() {
	srv := pop3test.NewTLSServer(pop3test.Generate(100, func(n int) string {
		return fmt.Sprintf("Subject: message %d\r\n\r\n", n)
	}))
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	var processed atomic.Int64
	process := func(number int) error {
		m, err := c.Retr(ctx, number)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(m) // frees the connection for the other goroutines
		if err != nil {
			return err
		}
		if err := m.Close(); err != nil {
			return err
		}
		processed.Add(int64(len(text))) // parse text, index it ...
		return nil
	}
	messages, err := c.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	const workers = 4
	failed := make(chan error, workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for e := range messages.C() {
				if err := process(e.Number); err != nil {
					messages.Stop() // closes the channel for the others
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		log.Fatal(err)
	}
	if err := messages.Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(processed.Load(), "octets processed")

	// Output:
	// 2292 octets processed
}

// Print a transcript of the session. It contains neither secrets nor messages.
func ExampleOptions() {
	srv := pop3test.NewTLSServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
	defer srv.Close()

	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{
		TLSConfig:   srv.TLSConfig(),
		Timeout:     30 * time.Second,
		DebugWriter: os.Stdout,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}
	m, err := c.Retr(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, m); err != nil {
		log.Fatal(err)
	}
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	if err := c.Quit(ctx); err != nil {
		log.Fatal(err)
	}

	// Output:
	// S: +OK pop3test ready
	// C: CAPA
	// S: +OK capability list follows
	// S: TOP
	// S: UIDL
	// S: USER
	// S: RESP-CODES
	// S: AUTH-RESP-CODE
	// S: PIPELINING
	// S: IMPLEMENTATION pop3test
	// S: .
	// C: USER user
	// S: +OK send PASS
	// C: PASS ****
	// S: +OK logged in
	// C: RETR 1
	// S: +OK message follows
	// S: [32 octets]
	// C: QUIT
	// S: +OK bye
}

// Publish the number of commands and the seconds that they took, by verb. The time includes waiting for other commands.
func ExampleOptions_observe() {
	srv := pop3test.NewTLSServer(pop3test.Messages("Subject: one\r\n\r\n", "Subject: two\r\n\r\n"))
	defer srv.Close()

	commands, failures, seconds := new(expvar.Map), new(expvar.Map), new(expvar.Map) // expvar.Publish makes them available
	opts := &pop3.Options{
		TLSConfig: srv.TLSConfig(),
		Observe: func(_ context.Context, e pop3.Event) {
			verb := e.Verb
			if verb == "" {
				verb = "greeting"
			}
			commands.Add(verb, 1)
			seconds.AddFloat(verb, e.End.Sub(e.Queued).Seconds())
			if e.Err != nil {
				failures.Add(verb, 1)
			}
		},
	}
	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, srv.Addr, opts)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.DeleAll(ctx, []int{1, 2, 3}))
	if err := c.Quit(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("commands:", commands)
	fmt.Println("failures:", failures)

	// Output:
	// pop3: DELE 3: -ERR no such message
	// commands: {"CAPA": 2, "DELE": 3, "PASS": 1, "QUIT": 1, "USER": 1, "greeting": 1}
	// failures: {"DELE": 1}
}
