package connect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
	"golang.org/x/sync/semaphore"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// A parcel is a mail on its way to the output.
type parcel struct {
	message *service.Message
	sent    bool
	size    int64         // of the bytes that it holds in the budget
	acked   chan struct{} // closed when err is valid
	err     error
	once    sync.Once
	budget  *semaphore.Weighted
}

// ack ends the parcel. It implements service.AckFunc.
func (p *parcel) ack(ctx context.Context, err error) error {
	p.once.Do(func() {
		p.err = err
		p.budget.Release(p.size)
		close(p.acked)
	})
	return nil
}

// An ackSink is a fetch.Sink that gives each mail to the pipeline. A mail counts as delivered when the output has acknowledged it.
type ackSink struct {
	account string
	out     chan<- *parcel
	budget  *semaphore.Weighted
	bytes   int64                // of the budget
	known   func(fetch.Key) bool // the message comes again to be compared

	mu      sync.Mutex
	next    int
	parcels map[string]*parcel
}

var _ fetch.Sink = (*ackSink)(nil)

// Target implements fetch.Sink.
func (s *ackSink) Target() string { return "benthos" }

// Recover implements fetch.Sink.
func (s *ackSink) Recover(ctx context.Context, r fetch.Recovery) ([]fetch.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parcels = make(map[string]*parcel)
	return make([]fetch.Outcome, len(r.Intents)), nil
}

// Stage implements fetch.Sink. The complete mail is sent at once: it occupies the budget until it is acknowledged, which does not
// depend on the rest of the batch.
func (s *ackSink) Stage(ctx context.Context, m fetch.Message, body io.Reader) (string, error) {
	size := min(max(m.Size, 1), s.bytes)
	if err := s.budget.Acquire(ctx, size); err != nil {
		return "", err
	}
	p := &parcel{size: size, acked: make(chan struct{}), budget: s.budget}
	text, err := io.ReadAll(body)
	if err != nil {
		p.ack(ctx, err)
		return "", err
	}
	p.message = service.NewMessage(bytes.Clone(text))
	p.message.MetaSetMut("pop3_mailbox", s.account)
	p.message.MetaSetMut("pop3_uid", m.Key.UID)
	p.message.MetaSetMut("pop3_key", m.Key.Digest(s.account))
	p.message.MetaSetMut("pop3_number", strconv.Itoa(m.Number))
	p.message.MetaSetMut("pop3_size", strconv.Itoa(len(text)))
	if !s.known(m.Key) {
		if err := s.send(ctx, p); err != nil {
			return "", err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	name := strconv.Itoa(s.next)
	s.parcels[name] = p
	return name, nil
}

func (s *ackSink) send(ctx context.Context, p *parcel) error {
	p.sent = true
	select {
	case s.out <- p:
		return nil
	case <-ctx.Done():
		p.ack(ctx, ctx.Err())
		return context.Cause(ctx)
	}
}

// Sync implements fetch.Sink.
func (s *ackSink) Sync(ctx context.Context, staged []fetch.Record) error { return nil }

// Commit implements fetch.Sink. It waits for the acknowledgement of each mail.
func (s *ackSink) Commit(ctx context.Context, staged []fetch.Record) (n int, err error) {
	for _, r := range staged {
		p := s.take(r.Name)
		if p == nil {
			return n, fmt.Errorf("no mail %q", r.Name)
		}
		if !p.sent {
			if err := s.send(ctx, p); err != nil {
				return n, err
			}
		}
		select {
		case <-p.acked:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
		if p.err != nil {
			return n, fetch.Later(p.err)
		}
		n++
	}
	return n, nil
}

func (s *ackSink) take(name string) *parcel {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parcels[name]
	delete(s.parcels, name)
	return p
}

// Discard implements fetch.Sink.
func (s *ackSink) Discard(ctx context.Context, staged []fetch.Record) {
	for _, r := range staged {
		if p := s.take(r.Name); p != nil && !p.sent {
			p.ack(ctx, context.Canceled)
		}
	}
}
