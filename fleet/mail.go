package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A Mail is a mail of the mail stream.
type Mail struct {
	ID      string // Mailbox.ID
	Account string // Mailbox.Account
	UID     string // the unique-id on the server
	Key     string // the same for the same mail, however often it is received: a target can recognize it
	SHA256  string // of the mail, in hexadecimal
	Size    int64  // bytes
	Time    time.Time

	f      *Fleet
	msg    jetstream.Msg
	object string
}

// Open returns the mail as the server sent it, with CRLF line endings. It is complete or an error comes: the digest of large mail is
// checked at the end. Large mail must be read in a minute, and a second more for each 64 KiB. The caller closes it.
func (m *Mail) Open(ctx context.Context) (io.ReadCloser, error) {
	if m.object == "" {
		return io.NopCloser(bytes.NewReader(m.msg.Data())), nil
	}
	// Without a deadline it would have to be read in five seconds.
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(m.Size/(64<<10))*time.Second)
	o, err := m.f.large.Get(ctx, m.object)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("fleet: mail %s: %w", m.Key, err)
	}
	return largeBody{o, cancel}, nil
}

// A largeBody is a mail in the object store.
type largeBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b largeBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// Ack says that the mail was delivered, and waits until the engine knows.
func (m *Mail) Ack(ctx context.Context) error { return m.msg.DoubleAck(ctx) }

// Nak asks for the mail again after a delay.
func (m *Mail) Nak(delay time.Duration) error { return m.msg.NakWithDelay(delay) }

// InProgress extends the time until the mail is delivered again.
func (m *Mail) InProgress() error { return m.msg.InProgress() }

func (f *Fleet) mailOf(msg jetstream.Msg) (*Mail, error) {
	h := msg.Headers()
	id, key, ok := strings.Cut(strings.TrimPrefix(msg.Subject(), mailPrefix), ".")
	account, err1 := strconv.Unquote(h.Get(headerMailbox))
	uid, err2 := strconv.Unquote(h.Get(headerUID))
	size, err3 := strconv.ParseInt(h.Get(headerSize), 10, 64)
	meta, err4 := msg.Metadata()
	if err := errors.Join(err1, err2, err3, err4); err != nil || !ok {
		return nil, fmt.Errorf("fleet: malformed message %s in the mail stream", msg.Subject())
	}
	return &Mail{
		ID: id, Account: account, UID: uid, Key: id + "." + key, SHA256: h.Get(headerSHA256), Size: size, Time: meta.Timestamp,
		f: f, msg: msg, object: h.Get(headerObject),
	}, nil
}

// A Receiver receives the mail of a fleet. Several may share a name, and the mail.
type Receiver struct {
	f        *Fleet
	consumer jetstream.Consumer
}

// AckWait returns the time in which mail must be acknowledged or extended, or it is delivered again.
func (r *Receiver) AckWait() time.Duration { return r.consumer.CachedInfo().Config.AckWait }

// Receive returns the receiver with a name. Mail remains in the stream until every name that was ever used has acknowledged it, and
// then for Config.MailAge; see Forget.
func (f *Fleet) Receive(ctx context.Context, name string) (*Receiver, error) {
	if !isToken(name) {
		return nil, fmt.Errorf("fleet: %q cannot be the name of a receiver", name)
	}
	consumer, err := f.mail.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: f.cfg.AckWait, MaxDeliver: -1, MaxAckPending: 1000,
		FilterSubject: mailPrefix + ">",
	})
	if err != nil {
		return nil, fmt.Errorf("fleet: receiver %s: %w", name, err)
	}
	return &Receiver{f, consumer}, nil
}

// Forget removes the receiver with a name: mail is no longer kept for it.
func (f *Fleet) Forget(ctx context.Context, name string) error {
	err := f.mail.DeleteConsumer(ctx, name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("fleet: receiver %s: %w", name, err)
	}
	return nil
}

// Next returns up to n mails. If there is none, it waits for one, and returns none after the time given.
func (r *Receiver) Next(ctx context.Context, n int, wait time.Duration) ([]*Mail, error) {
	batch, err := r.consumer.FetchNoWait(n)
	if err != nil {
		return nil, fmt.Errorf("fleet: receive mail: %w", err)
	}
	mails, err := r.mails(batch)
	if err != nil || len(mails) > 0 {
		return mails, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	batch, err = r.consumer.Fetch(1, jetstream.FetchContext(ctx))
	if err == nil {
		mails, err = r.mails(batch)
	}
	if err != nil && ctx.Err() == nil {
		return mails, fmt.Errorf("fleet: receive mail: %w", err)
	}
	return mails, nil
}

// mails returns the mails of a batch.
func (r *Receiver) mails(batch jetstream.MessageBatch) (mails []*Mail, err error) {
	for msg := range batch.Messages() {
		m, err := r.f.mailOf(msg)
		if err != nil {
			return mails, err
		}
		mails = append(mails, m)
	}
	if len(mails) > 0 {
		return mails, nil
	}
	return nil, batch.Error()
}
