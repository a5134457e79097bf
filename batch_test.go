package pop3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// batchServer has n messages, number k saying "message k".
func batchServer(t *testing.T, n int) *pop3test.Server {
	s := pop3test.NewUnstartedServer(pop3test.Generate(n, func(k int) string {
		return fmt.Sprintf("Subject: %d\r\n\r\nmessage %d\r\n", k, k)
	}))
	s.STLS = false
	t.Cleanup(s.Close)
	return s
}

func batchClient(t *testing.T, conn net.Conn, opts pop3.Options) *pop3.Client {
	t.Helper()
	opts.AllowInsecureLogin = true
	c, err := pop3.NewClient(t.Context(), conn, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(t.Context(), "user", "secret"); err != nil {
		t.Fatal(err)
	}
	return c
}

// pipelining connects a client to a server that lists PIPELINING and handles the following input as given.
func pipelining(t *testing.T, opts pop3.Options, serve func(server net.Conn)) *pop3.Client {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { server.Close() })
	go func() {
		io.WriteString(server, "+OK\r\n")
		server.Read(make([]byte, 100)) // CAPA
		io.WriteString(server, "+OK\r\nPIPELINING\r\n.\r\n")
		serve(server)
	}()
	c, err := pop3.NewClient(t.Context(), client, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}

func TestRetrAll(t *testing.T) {
	for _, mode := range []struct {
		name string
		set  func(*pop3test.Server, *pop3.Options)
	}{
		{"pipelined", func(*pop3test.Server, *pop3.Options) {}},
		{"not listed", func(s *pop3test.Server, _ *pop3.Options) { s.Pipelining = false }},
		{"NoPipelining", func(_ *pop3test.Server, o *pop3.Options) { o.NoPipelining = true }},
		{"one byte per write", func(s *pop3test.Server, _ *pop3.Options) { s.Dribble = true }},
		{"no CAPA", func(s *pop3test.Server, _ *pop3.Options) { s.NoCAPA = true }},
	} {
		t.Run(mode.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, opts := batchServer(t, 700), pop3.Options{}
				mode.set(s, &opts)
				s.Refuse = func(verb string, n int) string {
					if verb == "RETR" && n == 3 {
						return "[SYS/TEMP] not this one"
					}
					return ""
				}
				c := batchClient(t, s.Pipe(), opts)
				want := 0
				for m, err := range c.RetrAll(t.Context(), upTo(700)) {
					want++
					if err != nil || m.Number != want {
						t.Fatalf("step %d: message %d, %v", want, m.Number, err)
					}
					text, err := io.ReadAll(m)
					if want == 3 {
						var refused *pop3.ServerError
						if !errors.As(err, &refused) || refused.Command != "RETR 3" || len(text) > 0 {
							t.Fatalf("refused message reads as %q, %v", text, err)
						}
						continue
					}
					if err != nil || !strings.HasSuffix(string(text), fmt.Sprintf("\r\nmessage %d\r\n", want)) {
						t.Fatalf("message %d is %q, %v", want, text, err)
					}
				}
				if want != 700 {
					t.Fatalf("%d messages", want)
				}
				if err := c.Noop(t.Context()); err != nil {
					t.Fatal(err)
				}
				lockstep := !s.Pipelining || opts.NoPipelining || s.NoCAPA
				if got := s.MaxInFlight(); got > 256 || lockstep && got > 1 {
					t.Errorf("%d commands in flight", got)
				}
			})
		})
	}
}

func TestBatchKeepsSessionInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, 500)
		c := batchClient(t, s.Pipe(), pop3.Options{})
		for stop := range 100 {
			n := 0
			for m, err := range c.RetrAll(t.Context(), upTo(500)) {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n%3 == 0 {
					m.Read(make([]byte, 5)) // the rest is discarded by the next step
				}
				if n > stop {
					break
				}
			}
			if size, err := c.Size(t.Context(), 7); err != nil || size == 0 {
				t.Fatalf("after %d messages: %v", stop, err)
			}
		}
	})
}

func TestBatchMessageEndsWithIteration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, 3)
		c := batchClient(t, s.Pipe(), pop3.Options{})
		var before *pop3.Message
		for m, err := range c.TopAll(t.Context(), []int{3, 1, 2}, 1) {
			if err != nil {
				t.Fatal(err)
			}
			if before != nil {
				if n, err := before.Read(make([]byte, 10)); n > 0 || !errors.Is(err, pop3.ErrClosed) {
					t.Errorf("message of the step before: %d, %v", n, err)
				}
			}
			before = m
		}
	})
}

func TestDeleAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, 300)
		c := batchClient(t, s.Pipe(), pop3.Options{})
		err := c.DeleAll(t.Context(), append(upTo(299), 5, 999))
		var refused *pop3.ServerError
		if !errors.As(err, &refused) || refused.Command != "DELE 5" || !strings.Contains(err.Error(), "DELE 999") {
			t.Errorf("refusals are %v", err)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := s.Remaining(); len(left) != 1 {
			t.Errorf("%d messages left", len(left))
		}
	})
}

func TestBatchRefusesNumbersUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, 3)
		c := batchClient(t, s.Pipe(), pop3.Options{})
		before := len(s.Commands())
		for m, err := range c.RetrAll(t.Context(), []int{1, 0}) {
			if m == nil || err == nil {
				t.Errorf("%v, %v", m, err)
			}
		}
		for range c.TopAll(t.Context(), []int{1}, -1) {
		}
		if err := c.DeleAll(t.Context(), []int{1, -1}); err == nil {
			t.Error("DeleAll took a number below 1")
		}
		for range c.RetrAll(t.Context(), nil) {
			t.Error("a step without a number")
		}
		if sent := s.Commands()[before:]; len(sent) > 0 {
			t.Errorf("sent %q", sent)
		}
	})
}

func TestCommandsInsideBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, 500)
		c := batchClient(t, s.Pipe(), pop3.Options{})
		if err := c.Dele(t.Context(), 500); err != nil {
			t.Fatal(err)
		}
		n := 0
		for m, err := range c.RetrAll(t.Context(), upTo(400)) {
			n++
			if n == 1 {
				start := time.Now()
				err := c.Noop(t.Context())
				if !errors.Is(err, pop3.ErrBusy) || !strings.Contains(err.Error(), "NOOP: RETR 1 is still open") {
					t.Errorf("NOOP inside a batch: %v", err)
				}
				if d := time.Since(start); d != 5*time.Second {
					t.Errorf("ErrBusy after %v", d)
				}
				if err := c.Quit(t.Context()); err != nil {
					t.Errorf("QUIT inside a batch: %v", err)
				}
				if _, err := m.Read(make([]byte, 1)); !errors.Is(err, pop3.ErrClosed) {
					t.Errorf("message of a batch that QUIT discarded: %v", err)
				}
				continue
			}
			if !errors.Is(err, pop3.ErrClosed) {
				t.Errorf("the step after QUIT: %v", err)
			}
		}
		if n != 2 {
			t.Errorf("%d steps", n)
		}
		if gone := s.Deleted(); len(gone) != 1 {
			t.Errorf("deleted %q", gone)
		}
	})
}

// With a round trip of 20 ms, 500 messages take as long as eight round trips.
func TestBatchRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 20 * time.Millisecond
		s := batchServer(t, 500)
		s.Latency = rtt
		c := batchClient(t, s.Pipe(), pop3.Options{})
		for _, batch := range []struct {
			name string
			run  func()
		}{
			{"RetrAll", func() {
				for m, err := range c.RetrAll(t.Context(), upTo(500)) {
					if _, rerr := io.Copy(io.Discard, m); err != nil || rerr != nil {
						t.Fatal(err, rerr)
					}
				}
			}},
			{"DeleAll", func() {
				if err := c.DeleAll(t.Context(), upTo(500)); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			start := time.Now()
			batch.run()
			trips := float64(time.Since(start)) / float64(rtt)
			t.Logf("%s: %.1f round trips", batch.name, trips)
			if trips > 8 {
				t.Errorf("%s took %.1f round trips", batch.name, trips)
			}
		}
	})
}

// Quit evicts a batch whose loop runs in another goroutine.
func TestQuitDuringBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, 3)
		s.Latency = 20 * time.Second
		c := batchClient(t, s.Pipe(), pop3.Options{})
		quit := make(chan error, 1)
		go func() {
			time.Sleep(time.Second)
			quit <- c.Quit(context.Background())
		}()
		steps := 0
		for m, err := range c.RetrAll(t.Context(), []int{1, 2, 3}) {
			time.Sleep(25 * time.Second)
			if steps++; err == nil {
				_, err = m.Read(make([]byte, 1))
			}
			if steps == 2 && !errors.Is(err, pop3.ErrClosed) {
				t.Errorf("step %d: %v", steps, err)
			}
		}
		if err := <-quit; err != nil || steps > 2 {
			t.Errorf("QUIT: %v, after %d steps", err, steps)
		}
	})
}

// The caller may change its slice inside the loop without effect on the batch.
func TestBatchCopiesNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := batchClient(t, batchServer(t, 100).Pipe(), pop3.Options{})
		numbers, want := upTo(100), 0
		for m, err := range c.RetrAll(t.Context(), numbers) {
			clear(numbers)
			want++
			if text, rerr := io.ReadAll(m); err != nil || rerr != nil || !strings.HasSuffix(string(text), fmt.Sprintf("message %d\r\n", want)) {
				t.Fatalf("message %d is %q, %v, %v", want, text, err, rerr)
			}
		}
		if want != 100 {
			t.Errorf("%d messages", want)
		}
	})
}
