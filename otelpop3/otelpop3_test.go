package otelpop3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/otelpop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// A recorder keeps reports in memory.
type recorder struct {
	t       *testing.T
	spans   *tracetest.InMemoryExporter
	tracer  *sdktrace.TracerProvider
	reader  *sdkmetric.ManualReader
	observe func(context.Context, pop3.Event)
}

func newRecorder(t *testing.T, addr string) *recorder {
	t.Helper()
	r := &recorder{t: t, spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	r.tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans))
	var err error
	r.observe, err = otelpop3.Observe(otelpop3.Config{
		TracerProvider: r.tracer,
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader)),
		Addr:           addr,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// histogram returns the number and the sum of the values of a metric, over all attributes.
func (r *recorder) histogram(name string) (count uint64, sum float64) {
	for _, p := range metric[metricdata.Histogram[float64]](r, name).DataPoints {
		count += p.Count
		sum += p.Sum
	}
	return count, sum
}

// counter returns the value of a metric over all attributes.
func (r *recorder) counter(name string) (sum int64) {
	for _, p := range metric[metricdata.Sum[int64]](r, name).DataPoints {
		sum += p.Value
	}
	return sum
}

// metric returns the data of a metric, or nothing if there is none.
func metric[T metricdata.Aggregation](r *recorder, name string) (data T) {
	r.t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.reader.Collect(context.Background(), &all); err != nil {
		r.t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m.Data.(T)
			}
		}
	}
	return data
}

func attributes(span tracetest.SpanStub) map[string]string {
	m := make(map[string]string)
	for _, a := range span.Attributes {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

func TestEvent(t *testing.T) {
	r := newRecorder(t, "pop.example.org:1995")
	ctx, parent := r.tracer.Tracer("test").Start(context.Background(), "parent")
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	r.observe(ctx, pop3.Event{Verb: "RETR", Number: 7, Queued: at(0), Sent: at(250), Answered: at(750), End: at(2000), Octets: 320})
	parent.End()

	spans := r.spans.GetSpans()
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	span := spans[0]
	if span.Name != "RETR" || span.SpanKind != trace.SpanKindClient || span.Status.Code != codes.Unset {
		t.Errorf("span %q of kind %v with status %v", span.Name, span.SpanKind, span.Status)
	}
	if span.Parent.SpanID() != parent.SpanContext().SpanID() {
		t.Error("the span is no child of the one in the context")
	}
	if !span.StartTime.Equal(at(0)) || !span.EndTime.Equal(at(2000)) {
		t.Errorf("span from %v to %v", span.StartTime, span.EndTime)
	}
	if e := span.Events; len(e) != 2 || e[0].Name != "sent" || !e[0].Time.Equal(at(250)) || e[1].Name != "answered" || !e[1].Time.Equal(at(750)) {
		t.Errorf("span events %v", e)
	}
	got := attributes(span)
	for key, want := range map[string]string{
		"messaging.system":                "pop3",
		"messaging.operation.name":        "RETR",
		"messaging.operation.type":        "receive",
		"messaging.message.envelope.size": "320",
		"network.protocol.name":           "pop3",
		"server.address":                  "pop.example.org",
		"server.port":                     "1995",
		"pop3.message.number":             "7",
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}

	for name, want := range map[string]float64{
		"messaging.client.operation.duration": 2,
		"pop3.client.queue.duration":          .25,
		"pop3.client.response.duration":       .5,
	} {
		if count, sum := r.histogram(name); count != 1 || sum != want {
			t.Errorf("%s: %d values, sum %v; want 1, %v", name, count, sum, want)
		}
	}
	if got := r.counter("messaging.client.consumed.messages"); got != 1 {
		t.Errorf("%d messages consumed, want 1", got)
	}
	if got := r.counter("pop3.client.response.size"); got != 320 {
		t.Errorf("%d bytes, want 320", got)
	}
	points := metric[metricdata.Histogram[float64]](r, "messaging.client.operation.duration").DataPoints
	for _, key := range []attribute.Key{"pop3.message.number", "messaging.message.envelope.size"} {
		if _, ok := points[0].Attributes.Value(key); ok {
			t.Errorf("the metric has the attribute %s, which has too many values", key)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&pop3.ServerError{Command: "RETR", Text: "no such message"}, "refused"},
		{&pop3.ServerError{Command: "PASS", Code: "IN-USE/NEW-BY-THE-SERVER-1"}, "IN-USE"},
		{&pop3.ServerError{Command: "PASS", Code: "NEW-BY-THE-SERVER-1"}, "refused"},
		{errors.Join(errors.New("x"), &pop3.ServerError{Code: pop3.CodeSysTemp}), "SYS/TEMP"},
		{&pop3.ProtocolError{Command: "STAT"}, "protocol"},
		{fmt.Errorf("pop3: NOOP: %w", context.Canceled), "canceled"},
		{fmt.Errorf("pop3: NOOP: %w", os.ErrDeadlineExceeded), "timeout"},
		{fmt.Errorf("pop3: NOOP: %w", context.DeadlineExceeded), "timeout"},
		{fmt.Errorf("pop3: NOOP: %w", pop3.ErrBusy), "busy"},
		{fmt.Errorf("pop3: NOOP: %w", pop3.ErrClosed), "connection"},
		{fmt.Errorf("pop3: RETR 1: %w", io.ErrUnexpectedEOF), "connection"},
		{errors.New("other"), "_OTHER"},
	} {
		r := newRecorder(t, "pop.example.org")
		r.observe(t.Context(), pop3.Event{Verb: "RETR", Queued: time.Unix(1, 0), End: time.Unix(2, 0), Err: test.err})
		span := r.spans.GetSpans()[0]
		got := attributes(span)
		if got["error.type"] != test.want || span.Status.Code != codes.Error || span.Status.Description != test.err.Error() {
			t.Errorf("%v: error.type %q, status %v; want %q", test.err, got["error.type"], span.Status, test.want)
		}
		if got["server.address"] != "pop.example.org" || got["server.port"] != "" {
			t.Errorf("server %q, port %q", got["server.address"], got["server.port"])
		}
		if n := r.counter("messaging.client.consumed.messages"); n != 0 {
			t.Errorf("%v: %d messages consumed", test.err, n)
		}
		if n, _ := r.histogram("pop3.client.queue.duration"); n != 0 { // the command was not sent
			t.Errorf("%v: %d commands left the queue", test.err, n)
		}
	}
}

// TestSession checks the reports of a session with a refused command, a batch and a wrong password.
func TestSession(t *testing.T) {
	srv := pop3test.NewServer(pop3test.Messages("Subject: one\r\n\r\nThis is the first.\r\n", "Subject: two\r\n\r\n"))
	defer srv.Close()
	r := newRecorder(t, srv.Addr)
	dial := func() *pop3.Client {
		c, err := pop3.Dial(t.Context(), srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig(), Observe: r.observe})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	if err := dial().Login(t.Context(), "user", "wrong"); err == nil {
		t.Error("logged in with a wrong password")
	}
	c := dial()
	if err := c.Login(t.Context(), "user", "secret"); err != nil {
		t.Fatal(err)
	}
	for m, err := range c.RetrAll(t.Context(), []int{1, 3, 2}) {
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, m) // message 3 does not exist
	}
	if err := c.Dele(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}

	var names []string
	for _, span := range r.spans.GetSpans() {
		names = append(names, span.Name)
		if failed := attributes(span)["error.type"] != ""; failed != (span.Status.Code == codes.Error) {
			t.Errorf("%s: attributes %v, status %v", span.Name, span.Attributes, span.Status)
		}
	}
	for _, name := range []string{"greeting", "PASS", "RETR", "DELE", "QUIT"} {
		if !slices.Contains(names, name) {
			t.Errorf("no span %s in %q", name, names)
		}
	}
	if got := r.counter("messaging.client.consumed.messages"); got != 2 {
		t.Errorf("%d messages consumed, want 2", got)
	}
	if got, want := r.counter("pop3.client.response.size"), int64(len("Subject: one\r\n\r\nThis is the first.\r\n"+"Subject: two\r\n\r\n")); got < want {
		t.Errorf("%d bytes, want %d or more", got, want)
	}
}
