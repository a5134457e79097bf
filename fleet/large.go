package fleet

import (
	"context"
	"crypto/rand"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// paceEvery is the number of bytes of an object after which the engine must have written them all. It keeps 128 MiB that wait to be
// written, of all workers together, and refuses more.
const paceEvery = 2 << 20

// A pacedReader counts what is read, keeps the error, and calls pace each paceEvery bytes.
type pacedReader struct {
	r     io.Reader
	pace  func() error
	n     int64
	paced int64
	err   error
}

func (r *pacedReader) Read(p []byte) (int, error) {
	if r.n-r.paced >= paceEvery {
		if r.err = r.pace(); r.err != nil {
			return 0, r.err
		}
		r.paced = r.n
	}
	n, err := r.r.Read(p)
	r.n += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// stageLarge writes a mail to the object store, in chunks, while it is received. Readers see it when Commit publishes the message
// that refers to it. sum has the digest when body is read to its end. release is called when nothing is held any more.
func (s *streamSink) stageLarge(ctx context.Context, m fetch.Message, body io.Reader, sum hash.Hash, release func()) (string, error) {
	defer release()
	key := m.Key.Digest(s.account)
	object := s.id + "." + key + "." + rand.Text()
	r := &pacedReader{r: body, pace: func() error { return s.pace(ctx) }}
	_, err := s.f.large.Put(ctx, jetstream.ObjectMeta{Name: object}, r)
	if r.err != nil {
		err = r.err
	}
	if err != nil {
		s.f.large.Delete(ctx, object)
		return "", err
	}
	s.hook("received")
	msg := s.message(m, r.n, sum.Sum(nil))
	msg.Header.Set(headerObject, object)
	return s.add(&pendingMail{msg: msg, object: object}), nil
}

// pace waits until the engine has written the chunks that were sent to it: a message of the same connection and the same stream is
// confirmed after them. The message replaces the one before.
func (s *streamSink) pace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	msg := nats.NewMsg("$O." + largeBucket + ".C.pace")
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	for {
		_, err := s.f.js.PublishMsg(ctx, msg)
		if !isOverloaded(err) {
			return err
		}
		select {
		case <-time.After(spread(200*time.Millisecond, randomJitter())):
		case <-ctx.Done():
			return err
		}
	}
}

// publishLarge publishes the message that refers to an object. If the engine has the mail already, the object is deleted.
func (s *streamSink) publishLarge(ctx context.Context, p *pendingMail) error {
	p.tried = true
	_, err := s.f.js.PublishMsg(ctx, p.msg, jetstream.WithExpectLastSequencePerSubject(0))
	if err == nil {
		return nil
	}
	if err := s.settle(ctx, p.msg, err); err != nil {
		return err
	}
	stored, err := s.f.mail.GetLastMsgForSubject(ctx, p.msg.Subject)
	if err == nil && stored.Header.Get(headerObject) != p.object {
		s.f.large.Delete(ctx, p.object)
	}
	return nil
}

// objectKey returns the mailbox and the key of a mail that was written to an object.
func objectKey(object string) (id, key string) {
	id, rest, _ := strings.Cut(object, ".")
	key, _, _ = strings.Cut(rest, ".")
	return id, key
}
