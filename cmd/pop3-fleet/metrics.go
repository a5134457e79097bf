package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-5b1d5243/pop3/fleet"
)

// statusAge is the age up to which a status is shown again: to read one costs about a second for 100,000 mailboxes.
const statusAge = 10 * time.Second

// A collector makes metrics of the status of the fleet and of the counts of a worker.
type collector struct {
	f      *fleet.Fleet
	counts *fleet.Counts // nil without a worker

	mu     sync.Mutex
	status *fleet.Status
	err    error
	read   time.Time
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pop3_fleet_"+name, help, labels, nil)
}

var (
	descUp        = desc("up", "Whether the status could be read from the engine.")
	descMailboxes = desc("mailboxes", "Mailboxes.", "provider")
	descFailing   = desc("mailboxes_failing", "Mailboxes whose last poll failed.", "provider")
	descDue       = desc("mailboxes_due", "Mailboxes that are due or being polled.", "provider")
	descHeld      = desc("mailboxes_held", "Mailboxes that workers hold.", "provider")
	descLimit     = desc("sessions_limit", "Sessions at once that the provider permits.", "provider")
	descPause     = desc("pause_seconds", "Time that the provider is paused.", "provider")
	descPaused    = desc("mailboxes_paused", "Mailboxes that an operator has paused.")
	descParked    = desc("mailboxes_parked", "Mailboxes that are given up after refused logins.")
	descMissing   = desc("mailboxes_missing", "Mailboxes without a job.")
	descLate      = desc("late_seconds", "How late the mailboxes are that are due.", "quantile")
	descMails     = desc("mails", "Mail in the mail stream.")
	descUndrained = desc("mails_undrained", "Mail that the slowest receiver has not acknowledged.")

	descPolls    = desc("worker_polls_total", "Polls of this worker.")
	descFailed   = desc("worker_polls_failed_total", "Failed polls of this worker.")
	descFetched  = desc("worker_mails_total", "Mail fetched by this worker.")
	descBytes    = desc("worker_bytes_total", "Bytes fetched by this worker.")
	descDeleted  = desc("worker_deleted_total", "Messages deleted from servers by this worker.")
	descRedone   = desc("worker_redelivered_total", "Jobs that this worker received after another one had lost them.")
	descFenced   = desc("worker_fenced_total", "Sessions that this worker dropped, and polls that the engine refused.")
	descSessions = desc("worker_sessions", "Sessions of this worker.")
)

// Describe implements prometheus.Collector. The metrics are not known in advance.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if s, err := c.current(context.Background()); err != nil {
		gauge(descUp, 0)
	} else {
		gauge(descUp, 1)
		for _, p := range s.Providers {
			gauge(descMailboxes, float64(p.Mailboxes), p.Name)
			gauge(descFailing, float64(p.Failing), p.Name)
			gauge(descDue, float64(p.Due), p.Name)
			gauge(descHeld, float64(p.Held), p.Name)
			gauge(descLimit, float64(p.Limit), p.Name)
			gauge(descPause, p.PausedFor.Seconds(), p.Name)
		}
		gauge(descPaused, float64(s.Paused))
		gauge(descParked, float64(s.Parked))
		gauge(descMissing, float64(s.Missing))
		gauge(descLate, s.Late.P50.Seconds(), "0.5")
		gauge(descLate, s.Late.P99.Seconds(), "0.99")
		gauge(descLate, s.Late.Max.Seconds(), "1")
		gauge(descMails, float64(s.Mails))
		gauge(descUndrained, float64(s.Undrained))
	}
	if c.counts == nil {
		return
	}
	counter := func(d *prometheus.Desc, v int64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	counter(descPolls, c.counts.Polls.Load())
	counter(descFailed, c.counts.Failed.Load())
	counter(descFetched, c.counts.Mails.Load())
	counter(descBytes, c.counts.Bytes.Load())
	counter(descDeleted, c.counts.Deleted.Load())
	counter(descRedone, c.counts.Redelivered.Load())
	counter(descFenced, c.counts.Fenced.Load())
	gauge(descSessions, float64(c.counts.Sessions.Load()))
}

// current returns the status, which may be statusAge old.
func (c *collector) current(ctx context.Context) (*fleet.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) > statusAge {
		ctx, cancel := context.WithTimeout(ctx, statusAge)
		defer cancel()
		c.status, c.err = c.f.Status(ctx)
		c.read = time.Now()
	}
	return c.status, c.err
}

// metricsHandler serves /metrics for Prometheus and /status as JSON.
func metricsHandler(f *fleet.Fleet, counts *fleet.Counts) http.Handler {
	c := &collector{f: f, counts: counts}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		s, err := c.current(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := c.current(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}
