package fleet

import (
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// receive receives a number of mails.
func (b *bench) receive(name string, n int) (mails []*Mail) {
	b.t.Helper()
	r, err := b.Receive(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	for len(mails) < n {
		some, err := r.Next(b.t.Context(), n, 10*time.Second)
		if err != nil {
			b.t.Fatal(err)
		}
		mails = append(mails, some...)
	}
	return mails
}

func TestLargeMailIsReadSlowly(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	large := text("large", 10<<20)
	m, d := b.mailbox("a", large)
	b.enrol(m)
	b.start(b.worker())
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
	const timeout = 200 * time.Millisecond // of requests, instead of five seconds
	js, err := jetstream.New(b.nc, jetstream.WithDefaultTimeout(timeout))
	if err != nil {
		t.Fatal(err)
	}
	if b.large, err = js.ObjectStore(t.Context(), largeBucket); err != nil {
		t.Fatal(err)
	}
	body, err := b.receive("drain", 1)[0].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	time.Sleep(2 * timeout)
	got, err := io.ReadAll(body)
	if err != nil || string(got) != large {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(large))
	}
}

// TestSweep looks for what is left in the object store of mail that was removed, and of mail that was not completed.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	ctx := t.Context()
	m, d := b.mailbox("a", text("one", 10<<20), text("two", 10<<20))
	b.enrol(m)
	stop := b.start(b.worker())
	b.until("messages deleted", func() bool { return len(d.srv.Deleted()) == 2 })
	stop()
	// A worker that dies leaves an object that is complete and one that is not.
	orphan := m.ID() + ".key.orphan"
	if _, err := b.large.PutString(ctx, orphan, "orphan"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.Publish(ctx, "$O."+largeBucket+".C.partial", []byte("partial")); err != nil {
		t.Fatal(err)
	}
	stored := func(age time.Duration) int {
		t.Helper()
		for range 2 { // the first deletes objects, and the second what the store keeps of them
			if err := b.sweepLarge(ctx, age); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.js.Stream(ctx, "OBJ_"+largeBucket)
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		return len(info.State.Subjects)
	}
	if n := stored(time.Hour); n != 3*2+1+1 {
		t.Errorf("%d subjects before anything is old, want 8: three objects, chunks, and the one of pace", n)
	}
	if n := stored(0); n != 2*2 {
		t.Errorf("%d subjects with two mails, want 4", n)
	}
	for _, mail := range b.receive("drain", 2) {
		body, err := mail.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, body); n != mail.Size || err != nil {
			t.Errorf("%d bytes, %v; want %d", n, err, mail.Size)
		}
		body.Close()
		if err := mail.Ack(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.trim(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := stored(0); n != 0 {
		t.Errorf("%d subjects without mail, want 0", n)
	}
}
