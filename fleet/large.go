package fleet

import (
	"context"
	"crypto/rand"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// objectAge is the age from which the overdue watch deletes an object that no message refers to. It is longer than a session.
const objectAge = 24 * time.Hour

// A countingReader counts what is read, and keeps the error.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (r *countingReader) Read(p []byte) (int, error) {
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
	r := &countingReader{r: body}
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
