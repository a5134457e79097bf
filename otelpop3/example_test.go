package otelpop3_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/otelpop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func ExampleObserve() {
	const addr = "pop.example.org"
	observe, err := otelpop3.Observe(otelpop3.Config{Addr: addr}) // to the global providers
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, addr, &pop3.Options{Observe: observe})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
}

// Prometheus needs no more than this.
func Example_prometheus() {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "pop3_command_duration_seconds",
		Help: "Time from the call of a command to the end of its response.",
	}, []string{"command", "result"})
	octets := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pop3_response_bytes_total",
		Help: "Size of multi-line responses.",
	}, []string{"command"})
	registry := prometheus.NewRegistry() // served by promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	registry.MustRegister(duration, octets)
	observe := func(_ context.Context, e pop3.Event) {
		result := "ok"
		if e.Err != nil {
			result = "error"
		}
		duration.WithLabelValues(e.Verb, result).Observe(e.End.Sub(e.Queued).Seconds())
		if e.Octets > 0 {
			octets.WithLabelValues(e.Verb).Add(float64(e.Octets))
		}
	}

	srv := pop3test.NewServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
	defer srv.Close()
	ctx := context.Background()
	c, err := pop3.Dial(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig(), Observe: observe})
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
	if _, err := m.WriteTo(io.Discard); err != nil {
		log.Fatal(err)
	}
	fmt.Println(testutil.ToFloat64(octets.WithLabelValues("RETR")), "bytes")
	// Output:
	// 32 bytes
}
