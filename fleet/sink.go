package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// The header of a message in the mail stream.
const (
	headerMailbox = "Pop3-Mailbox" // Mailbox.Account, quoted
	headerUID     = "Pop3-Uid"     // quoted
	headerNth     = "Pop3-Nth"     // fetch.Key.Nth, if not 0
	headerSize    = "Pop3-Size"    // bytes of the mail
	headerSHA256  = "Pop3-Sha256"  // of the mail, in hexadecimal
	headerObject  = "Pop3-Object"  // the object in pop3-large that has the mail, if the message does not
)

const (
	maxInline = 8 << 20  // bytes of a mail in a message; a smaller limit of the engine wins
	headroom  = 16 << 10 // for the header of the message
	minBuffer = 16 << 10
)

// A budget bounds the bytes of mail in flight in a worker.
type budget struct {
	*semaphore.Weighted
	bytes int64
}

// A streamSink is a fetch.Sink that writes to the mail stream. Each mail has the key of its unique-id, so a mail that is written twice
// is there once. Small mail is published by Stage, and large mail becomes visible by Commit.
type streamSink struct {
	f       *Fleet
	id      string
	account string
	budget  *budget
	known   func(fetch.Key) bool // the message is fetched to compare it, not to deliver it
	hook    func(point string)

	mu      sync.Mutex
	next    int
	pending map[string]*pendingMail
}

// A pendingMail is mail that was staged.
type pendingMail struct {
	msg    *nats.Msg // to be published by Commit; nil if Stage has
	object string
	tried  bool          // the engine may have msg, which refers to object
	done   chan struct{} // closed when err is valid
	err    error
}

var _ fetch.Sink = (*streamSink)(nil)

// Target implements fetch.Sink.
func (s *streamSink) Target() string { return "stream:" + MailStream }

// Recover implements fetch.Sink. Messages of earlier polls are fetched again, and their keys show whether they are there.
func (s *streamSink) Recover(ctx context.Context, r fetch.Recovery) ([]fetch.Outcome, error) {
	s.pending = make(map[string]*pendingMail)
	return make([]fetch.Outcome, len(r.Intents)), nil
}

// inline returns the number of bytes that a message of the engine can have.
func (f *Fleet) inline() int64 { return min(f.maxInline, f.nc.MaxPayload()-headroom) }

// Stage implements fetch.Sink.
func (s *streamSink) Stage(ctx context.Context, m fetch.Message, body io.Reader) (string, error) {
	s.hook("receiving")
	inline := s.f.inline()
	// One byte more than the size shows that there is no more. The size of the listing is a hint.
	held := min(max(m.Size+1, minBuffer), inline+1, s.budget.bytes)
	if err := s.budget.Acquire(ctx, held); err != nil {
		return "", err
	}
	release := func() { s.budget.Release(held) }
	sum := sha256.New()
	body = io.TeeReader(body, sum)
	buf := make([]byte, 0, held)
	complete := false
	for !complete {
		for len(buf) < cap(buf) && !complete {
			n, err := body.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			complete = err == io.EOF
			if err != nil && !complete {
				release()
				return "", err
			}
		}
		if complete {
			break
		}
		// The listing was wrong, or the mail is large. To wait for more of the budget while holding some could take forever.
		more := min(held, inline+1-held)
		if more <= 0 || !s.budget.TryAcquire(more) {
			return s.stageLarge(ctx, m, io.MultiReader(bytes.NewReader(buf), body), sum, release)
		}
		held += more
		buf = append(make([]byte, 0, held), buf...)
	}
	if s.known(m.Key) || int64(len(buf)) > inline {
		return s.stageLarge(ctx, m, bytes.NewReader(buf), sum, release)
	}
	s.hook("received")
	msg := s.message(m, int64(len(buf)), sum.Sum(nil))
	msg.Data = buf
	p := &pendingMail{done: make(chan struct{})}
	ack, err := s.f.js.PublishMsgAsync(msg, jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithStallWait(publishTimeout))
	if err != nil {
		release()
		return "", fmt.Errorf("publish mail: %w", err)
	}
	go func() {
		defer close(p.done)
		defer release()
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			p.err = s.settle(ctx, msg, err)
		}
	}()
	return s.add(p), nil
}

func (s *streamSink) add(p *pendingMail) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	name := strconv.Itoa(s.next)
	s.pending[name] = p
	return name
}

func (s *streamSink) get(name string) *pendingMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[name]
}

func (s *streamSink) drop(name string) *pendingMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending[name]
	delete(s.pending, name)
	return p
}

// message returns the message for a mail, without its data.
func (s *streamSink) message(m fetch.Message, size int64, sum []byte) *nats.Msg {
	msg := nats.NewMsg(mailPrefix + s.id + "." + m.Key.Digest(s.account))
	msg.Header.Set(headerMailbox, strconv.QuoteToASCII(s.account))
	msg.Header.Set(headerUID, strconv.QuoteToASCII(m.Key.UID))
	if m.Key.Nth > 0 {
		msg.Header.Set(headerNth, strconv.Itoa(m.Key.Nth))
	}
	msg.Header.Set(headerSize, strconv.FormatInt(size, 10))
	msg.Header.Set(headerSHA256, hex.EncodeToString(sum))
	return msg
}

// settle returns nil if the engine refused a mail because it has it already. A server that gives another mail the unique-id of an
// earlier one must not lose it, so another mail gets a key of its own. If the engine has too much to write, settle tries again for
// publishTimeout.
func (s *streamSink) settle(ctx context.Context, msg *nats.Msg, err error) error {
	end := time.Now().Add(publishTimeout)
	for n := 0; n < 10; n++ {
		wait := time.Duration(0)
		switch {
		case isOverloaded(err) && time.Now().Before(end):
			n--
			wait = spread(200*time.Millisecond, randomJitter())
		case isFenced(err):
			stored, getErr := s.f.mail.GetLastMsgForSubject(ctx, msg.Subject)
			switch {
			case errors.Is(getErr, jetstream.ErrMsgNotFound): // by a replica that lags behind, or it was trimmed just now
				wait = 100 * time.Millisecond
			case getErr != nil:
				return getErr
			case stored.Header.Get(headerSHA256) == msg.Header.Get(headerSHA256):
				return nil
			default:
				msg.Subject += "." + msg.Header.Get(headerSHA256)[:32]
			}
		case err != nil:
			return fmt.Errorf("publish mail: %w", err)
		default:
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		_, err = s.f.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(0))
	}
	if err != nil {
		return fmt.Errorf("publish mail: %w", err)
	}
	return nil
}

// Sync implements fetch.Sink. It waits until the engine has the mail that was published.
func (s *streamSink) Sync(ctx context.Context, staged []fetch.Record) error {
	for _, r := range staged {
		p := s.get(r.Name)
		if p == nil {
			return fmt.Errorf("no mail %q", r.Name)
		}
		if p.msg != nil {
			continue
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// Commit implements fetch.Sink.
func (s *streamSink) Commit(ctx context.Context, staged []fetch.Record) (n int, err error) {
	for _, r := range staged {
		p := s.get(r.Name)
		if p == nil {
			return n, fmt.Errorf("no mail %q", r.Name)
		}
		if p.msg != nil {
			if err := s.publishLarge(ctx, p); err != nil {
				return n, err
			}
		}
		s.drop(r.Name)
		n++
	}
	s.hook("stored")
	return n, nil
}

// Discard implements fetch.Sink.
func (s *streamSink) Discard(ctx context.Context, staged []fetch.Record) {
	for _, r := range staged {
		if p := s.drop(r.Name); p != nil && p.object != "" && !p.tried {
			s.f.large.Delete(ctx, p.object)
		}
	}
}
