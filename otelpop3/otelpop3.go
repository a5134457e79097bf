// Package otelpop3 reports the commands of a POP3 session to OpenTelemetry, as spans and metrics.
//
// A span covers one command, from the call to the end of its response, and is a child of the span in the context of
// the call. Names follow the OpenTelemetry semantic conventions for messaging and network where these have one.
package otelpop3

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/seed-5b1d5243/pop3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/seed-5b1d5243/pop3/otelpop3"

// Config selects the destinations of reports. The zero value uses the global providers.
type Config struct {
	TracerProvider trace.TracerProvider // if nil, otel.GetTracerProvider()
	MeterProvider  metric.MeterProvider // if nil, otel.GetMeterProvider()
	Addr           string               // of the server, as given to Dial
}

type observer struct {
	tracer            trace.Tracer
	common            []attribute.KeyValue
	operation         messagingconv.ClientOperationDuration
	consumed          messagingconv.ClientConsumedMessages
	queued, responded metric.Float64Histogram
	octets            metric.Int64Counter
}

// Observe returns a function for [pop3.Options.Observe]. It may serve any number of sessions.
func Observe(c Config) (func(context.Context, pop3.Event), error) {
	if c.TracerProvider == nil {
		c.TracerProvider = otel.GetTracerProvider()
	}
	if c.MeterProvider == nil {
		c.MeterProvider = otel.GetMeterProvider()
	}
	o := &observer{tracer: c.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))}
	o.common = []attribute.KeyValue{semconv.MessagingSystemKey.String("pop3"), semconv.NetworkProtocolName("pop3")}
	if host, port, err := net.SplitHostPort(c.Addr); err != nil {
		o.common = append(o.common, semconv.ServerAddress(c.Addr))
	} else if n, err := strconv.Atoi(port); err == nil {
		o.common = append(o.common, semconv.ServerAddress(host), semconv.ServerPort(n))
	}

	meter := c.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	var errs [5]error
	o.operation, errs[0] = messagingconv.NewClientOperationDuration(meter)
	o.consumed, errs[1] = messagingconv.NewClientConsumedMessages(meter)
	o.queued, errs[2] = meter.Float64Histogram("pop3.client.queue.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that a command waited for the session."), seconds)
	o.responded, errs[3] = meter.Float64Histogram("pop3.client.response.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from writing a command to its status line."), seconds)
	o.octets, errs[4] = meter.Int64Counter("pop3.client.response.size", metric.WithUnit("By"),
		metric.WithDescription("Size of multi-line responses, without dot-stuffing."))
	return o.observe, errors.Join(errs[:]...)
}

var seconds = metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120)

func (o *observer) observe(ctx context.Context, e pop3.Event) {
	name := e.Verb
	if name == "" {
		name = "greeting"
	}
	start := e.Queued
	if start.IsZero() {
		start = e.End
	}
	attrs := append(o.common[:len(o.common):len(o.common)], semconv.MessagingOperationName(name))
	switch e.Verb {
	case "RETR", "TOP":
		attrs = append(attrs, semconv.MessagingOperationTypeReceive)
	case "DELE":
		attrs = append(attrs, semconv.MessagingOperationTypeSettle)
	}
	if e.Err != nil {
		attrs = append(attrs, semconv.ErrorTypeKey.String(errorType(e.Err)))
	}

	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	o.operation.Inst().Record(ctx, e.End.Sub(start).Seconds(), set)
	if !e.Sent.IsZero() {
		o.queued.Record(ctx, e.Sent.Sub(start).Seconds(), set)
		if !e.Answered.IsZero() {
			o.responded.Record(ctx, e.Answered.Sub(e.Sent).Seconds(), set)
		}
	}
	if e.Octets > 0 {
		o.octets.Add(ctx, e.Octets, set)
		attrs = append(attrs, semconv.MessagingMessageEnvelopeSizeKey.Int64(e.Octets))
	}
	if e.Verb == "RETR" && e.Err == nil {
		o.consumed.Inst().Add(ctx, 1, set)
	}

	if e.Number > 0 {
		attrs = append(attrs, attribute.Int("pop3.message.number", e.Number))
	}
	_, span := o.tracer.Start(ctx, name, trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	if !e.Sent.IsZero() {
		span.AddEvent("sent", trace.WithTimestamp(e.Sent))
	}
	if !e.Answered.IsZero() {
		span.AddEvent("answered", trace.WithTimestamp(e.Answered))
	}
	if e.Err != nil {
		span.SetStatus(codes.Error, e.Err.Error())
	}
	span.End(trace.WithTimestamp(e.End))
}

// errorType returns one of few values, which a server cannot add to.
func errorType(err error) string {
	var refused *pop3.ServerError
	var malformed *pop3.ProtocolError
	switch {
	case errors.As(err, &refused):
		for _, code := range []pop3.ResponseCode{pop3.CodeInUse, pop3.CodeLoginDelay, pop3.CodeSysTemp, pop3.CodeSysPerm, pop3.CodeAuth} {
			if refused.Code.Is(code) {
				return string(code)
			}
		}
		return "refused"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, pop3.ErrBusy):
		return "busy"
	case errors.As(err, &malformed):
		return "protocol"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, pop3.ErrClosed):
		return "connection"
	}
	return "_OTHER"
}
