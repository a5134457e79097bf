package pop3

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// ofSize is a maildrop of n messages of about as many octets each.
func ofSize(n int, octets int64) pop3test.Maildrop {
	const line = "0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
	text := strings.Repeat(line, int(octets+int64(len(line))-1)/len(line))
	return pop3test.Generate(n, func(int) string { return text })
}

// countedServer connects a client to a maildrop, and counts the octets that it reads.
func countedServer(t *testing.T, drop pop3test.Maildrop, latency time.Duration) (*Client, *countingConn) {
	t.Helper()
	srv := pop3test.NewUnstartedServer(drop)
	srv.STLS = false
	srv.Latency = latency
	t.Cleanup(srv.Close)
	conn := &countingConn{Conn: srv.Pipe()}
	c := connect(t, &Options{AllowInsecureLogin: true}, conn)
	must(t, c.Login(background, "user", "secret"))
	_, err := c.Capabilities(background)
	must(t, err)
	return c, conn
}

// drained breaks out of a loop after some messages, and returns the octets that are read for nothing.
func drained(t *testing.T, c *Client, conn *countingConn, loop iter.Seq2[*Message, error], after int, readLast bool) int64 {
	t.Helper()
	var before int64
	for m, err := range loop {
		must(t, err)
		if after--; after > 0 || readLast {
			if _, err = io.Copy(io.Discard, m); !isServerError(err) {
				must(t, err)
			}
		}
		if before = conn.octets; after <= 0 {
			break
		}
	}
	must(t, c.Noop(background))
	return conn.octets - before
}

// TestBreakDrainsLittle: breaking out of a loop over large messages drains at most four MiB and two messages, or the first window if
// no message had been seen before.
func TestBreakDrainsLittle(t *testing.T) {
	const mib = 1 << 20
	for _, size := range []int64{100, 64 << 10, mib, 10 * mib} {
		for _, after := range []int{1, 2, 10} {
			if int64(after)*size > 10*mib {
				continue
			}
			for _, readLast := range []bool{true, false} {
				for _, latency := range []time.Duration{0, 20 * time.Millisecond} {
					t.Run(fmt.Sprintf("%d/%d/%v/%v", size, after, readLast, latency), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							c, conn := countedServer(t, ofSize(300, size), latency)
							limit := 4*mib + 2*(size+1000)
							if !readLast {
								limit += size + 1000
							}
							for _, batch := range []string{"first", "second"} {
								n := drained(t, c, conn, c.RetrAll(background, upTo(300)), after, readLast)
								if batch == "first" && n <= firstWindow*(size+1000) {
									continue
								}
								if n > limit {
									t.Errorf("%s batch: %d octets drained, want %d at most", batch, n, limit)
								}
							}
						})
					})
				}
			}
		}
	}
}

// TestBreakAfterHeaders checks that the sizes of headers do not set the window for messages.
func TestBreakAfterHeaders(t *testing.T) {
	const size = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		c, conn := countedServer(t, ofSize(100, size), 20*time.Millisecond)
		for m, err := range c.TopAll(background, upTo(100), 0) {
			must(t, discarded(m, err))
		}
		if n := drained(t, c, conn, c.RetrAll(background, upTo(100)), 1, true); n > firstWindow*(size+1000) {
			t.Errorf("%d octets drained", n)
		}
	})
}

// TestBreakAfterRefusals: neither do refusals.
func TestBreakAfterRefusals(t *testing.T) {
	const size = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		srv := pop3test.NewUnstartedServer(ofSize(1000, size))
		srv.Refuse = func(verb string, n int) string {
			if verb == "RETR" && n <= 5 {
				return "no"
			}
			return ""
		}
		conn := &countingConn{Conn: srv.Pipe()}
		srv.STLS = false
		t.Cleanup(srv.Close)
		c := connect(t, &Options{AllowInsecureLogin: true}, conn)
		must(t, c.Login(background, "user", "secret"))
		if n := drained(t, c, conn, c.RetrAll(background, upTo(1000)), 6, true); n > 12*size {
			t.Errorf("%d octets drained", n)
		}
	})
}

// TestRoundTripsOfSmallMessages: on a line of 20 ms, 500 small messages take eight round trips, whatever is known of their sizes.
func TestRoundTripsOfSmallMessages(t *testing.T) {
	const rtt = 20 * time.Millisecond
	for _, size := range []int64{0, 1, 1000, 8000} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := countedServer(t, ofSize(500, size), rtt)
			for _, batch := range []struct {
				name string
				loop iter.Seq2[*Message, error]
			}{
				{"first", c.RetrAll(background, upTo(500))},
				{"second", c.RetrAll(background, upTo(500))},
				{"TOP", c.TopAll(background, upTo(500), 1)},
				{"RETR after TOP", c.RetrAll(background, upTo(500))},
			} {
				start := time.Now()
				for m, err := range batch.loop {
					must(t, discarded(m, err))
				}
				if trips := float64(time.Since(start)) / float64(rtt); trips > 8 {
					t.Errorf("%d octets, %s: %.1f round trips", size, batch.name, trips)
				}
			}
		})
	}
}

// writerOf returns the batch that holds the session.
func writerOf(c *Client) *batch {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.holder.batch
}

// TestWriterEndsWithTheSession: the goroutine that sends ahead does not wait for the body of the loop.
func TestWriterEndsWithTheSession(t *testing.T) {
	for name, end := range map[string]func(c *Client, cancel func()){
		"Close":   func(c *Client, _ func()) { c.Close() },
		"context": func(_ *Client, cancel func()) { cancel() },
		"Quit":    func(c *Client, _ func()) { c.Quit(background) },
	} {
		for where, drop := range map[string]pop3test.Maildrop{"waiting": ofSize(1000, 1<<20), "writing": ofSize(1000, 100)} {
			t.Run(name+"/"+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, _ := countedServer(t, drop, 0)
					ctx, cancel := context.WithCancel(background)
					defer cancel()
					next, stop := iter.Pull2(c.RetrAll(ctx, upTo(1000)))
					defer stop() // for the bubble
					for range 3 {
						m, err, _ := next()
						must(t, discarded(m, err))
					}
					synctest.Wait()
					b := writerOf(c)
					select {
					case <-b.written:
						t.Fatal("the writer has ended already")
					default:
					}
					end(c, cancel)
					synctest.Wait()
					select {
					case <-b.written:
					default:
						t.Error("the writer goes on")
					}
				})
			})
		}
	}
}

// TestWriterBlockedByThePeer: neither does one that waits for a server that does not read.
func TestWriterBlockedByThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		go func() {
			io.WriteString(server, "+OK\r\n")
			answerOne(server, "+OK\r\nPIPELINING\r\n.\r\n")
		}()
		c := connect(t, &Options{Timeout: -1}, client)
		_, err := c.Capabilities(background)
		must(t, err)
		ended := make(chan error, 1)
		go func() { ended <- retrieved(c.RetrAll(background, upTo(10))) }()
		time.Sleep(time.Second)
		b := writerOf(c)
		must(t, c.Close())
		wantError(t, <-ended, ErrClosed)
		<-b.written
	})
}

// TestPullOfABatchNeverStopped: a batch that is neither finished nor stopped makes others busy, not stuck, and QUIT commits.
func TestPullOfABatchNeverStopped(t *testing.T) {
	for mode, m := range batchModes {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := pop3test.NewUnstartedServer(pop3test.Messages(strings.Repeat("x\r\n", 1000), "two\r\n", "three\r\n"))
				srv.Pipelining, srv.NoCAPA = mode == "pipelined", mode == "no CAPA"
				opts := m.opts
				c := served(t, &opts, srv)
				must(t, c.Dele(background, 3))
				next, stop := iter.Pull2(c.RetrAll(background, []int{1, 2}))
				defer stop() // for the bubble
				_, err, _ := next()
				must(t, err)
				wantError(t, c.Noop(background), ErrBusy, ErrNotSent)
				must(t, c.Quit(background))
				if n := len(srv.Deleted()); n != 1 {
					t.Errorf("%d messages deleted", n)
				}
			})
		})
	}
}
