package pop3

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// BenchmarkBatch fetches and deletes 500 messages of 4 KiB at several round trip times, and in lock step if that does
// not take minutes.
func BenchmarkBatch(b *testing.B) {
	for _, rtt := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		for _, batch := range batches {
			if batch.name == "lockstep" && rtt > time.Millisecond {
				continue
			}
			b.Run(fmt.Sprint(rtt, "/", batch.name), func(b *testing.B) {
				c, numbers := mailbox(b, rtt)
				b.ReportAllocs()
				for b.Loop() {
					if err := batch.run(c, numbers); err != nil {
						b.Fatal(err)
					}
				}
				if rtt > 0 {
					b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(rtt), "round-trips")
				}
			})
		}
	}
}

// batches process all messages of a mailbox.
var batches = []struct {
	name string
	run  func(c *Client, numbers []int) error
}{
	{"RetrAll", func(c *Client, numbers []int) error {
		for m, err := range c.RetrAll(background, numbers) {
			if err != nil {
				return err
			}
			if _, err := m.WriteTo(io.Discard); err != nil {
				return err
			}
		}
		return nil
	}},
	{"DeleAll", func(c *Client, numbers []int) error {
		if err := c.DeleAll(background, numbers); err != nil {
			return err
		}
		return c.Rset(background) // one more round trip
	}},
	{"lockstep", func(c *Client, numbers []int) error {
		for _, n := range numbers {
			m, err := c.Retr(background, n)
			if err != nil {
				return err
			}
			if _, err := m.WriteTo(io.Discard); err != nil {
				return err
			}
		}
		return nil
	}},
}

// mailbox is a session with a server that is rtt away and has 500 messages of 4 KiB. It knows the server's
// capabilities.
func mailbox(b *testing.B, rtt time.Duration) (c *Client, numbers []int) {
	var texts []string
	for n := range 500 {
		numbers = append(numbers, n+1)
		texts = append(texts, "Subject: x\r\n\r\n"+string(corpusText(corpus[0].unit, 4<<10)))
	}
	s := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	s.STLS = false
	s.Latency = rtt
	s.Start()
	b.Cleanup(s.Close)
	c, err := Dial(background, s.Addr, &Options{AllowInsecureLogin: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	if err := c.Login(background, "user", "secret"); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Capabilities(background); err != nil {
		b.Fatal(err)
	}
	return c, numbers
}
