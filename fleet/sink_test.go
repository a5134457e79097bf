package fleet

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// sink returns the sink of a mailbox as a poll has it.
func (b *bench) sink(m Mailbox) *streamSink {
	s := &streamSink{
		f: b.Fleet, id: m.ID(), account: m.Account(), budget: &budget{semaphore.NewWeighted(1 << 20), 1 << 20},
		known: func(fetch.Key) bool { return false }, hook: func(string) {},
	}
	s.Recover(b.t.Context(), fetch.Recovery{})
	return s
}

func TestOverloadedEngineIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, _ := b.mailbox("a")
	s := b.sink(m)
	body := text("one", 10)
	msg := s.message(fetch.Message{Key: fetch.Key{UID: "uid-1"}}, int64(len(body)), make([]byte, 32))
	msg.Data = []byte(body)
	refused := &jetstream.APIError{Code: 429, ErrorCode: 10167, Description: "too many requests"}
	if err := s.settle(t.Context(), msg, refused); err != nil {
		t.Fatal(err)
	}
	if info, err := b.Fleet.mail.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("stream %+v, %v", info, err)
	}
	other := errors.New("other")
	if err := s.settle(t.Context(), msg, other); !errors.Is(err, other) {
		t.Errorf("another refusal: %v", err)
	}
}

func TestTLSSessionIsResumed(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	srv := pop3test.NewTLSServer(nil)
	t.Cleanup(srv.Close)
	m := Mailbox{User: "user", Addr: srv.Addr, Secret: "keyring:x", Provider: "test", Interval: time.Second}
	b.enrol(m)
	w := b.worker()
	w.Dialer = nil
	w.TLSConfig = srv.TLSConfig()
	var full, resumed atomic.Int64
	w.TLSConfig.VerifyConnection = func(s tls.ConnectionState) error {
		if s.DidResume {
			resumed.Add(1)
		} else {
			full.Add(1)
		}
		return nil
	}
	b.start(w)
	b.until("a session resumed", func() bool { return resumed.Load() > 0 })
	if n := full.Load(); n != 1 {
		t.Errorf("%d full handshakes, want 1", n)
	}
}
