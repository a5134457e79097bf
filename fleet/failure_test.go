package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// take receives the job of a mailbox as a worker does, and neither extends nor acknowledges it.
func (b *bench) take(m Mailbox) jetstream.Msg {
	b.t.Helper()
	consumer, err := b.jobs.Consumer(b.t.Context(), consumerPrefix+m.Provider)
	if err != nil {
		b.t.Fatal(err)
	}
	batch, err := consumer.Fetch(1, jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		b.t.Fatal(err)
	}
	msg := <-batch.Messages()
	if msg == nil {
		b.t.Fatal("no job")
	}
	return msg
}

// events returns the kinds of the events of a mailbox.
func (b *bench) events(m Mailbox) (kinds []string) {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), EventsStream)
	if err != nil {
		b.t.Fatal(err)
	}
	info, err := s.Info(b.t.Context(), jetstream.WithSubjectFilter(eventPrefix+m.Provider+"."+m.ID()+".*"))
	if err != nil {
		b.t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		kinds = append(kinds, subject[strings.LastIndex(subject, ".")+1:])
	}
	slices.Sort(kinds)
	return kinds
}

func verbs(d *maildrop, verb string) (n int) {
	for _, line := range d.srv.Commands() {
		if strings.HasPrefix(line, verb) {
			n++
		}
	}
	return n
}

func TestFenceRefusesLateWorker(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, _ := b.mailbox("a")
	b.enrol(m)
	msg := b.take(m)
	meta, err := msg.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(time.Hour)
	if err := b.schedule(t.Context(), m.Provider, m.ID(), job{Failures: 1}, hour, meta.Sequence.Stream); err != nil {
		t.Fatal(err)
	}
	err = b.schedule(t.Context(), m.Provider, m.ID(), job{Failures: 2}, hour, meta.Sequence.Stream)
	if !isFenced(err) {
		t.Errorf("a worker with an old job: %v", err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if j, due := b.jobOf(m); due || j.Failures != 1 {
		t.Errorf("job %+v, due %v", j, due)
	}
}

func TestRedeliveredJobIsNotRepeated(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a", text("one", 10))
	b.enrol(m)
	msg := b.take(m)
	meta, err := msg.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.schedule(t.Context(), m.Provider, m.ID(), job{}, time.Now().Add(time.Hour), meta.Sequence.Stream); err != nil {
		t.Fatal(err)
	}
	w := b.worker()
	b.start(w) // receives the job after AckWait
	b.until("job acknowledged", func() bool {
		_, err := b.jobs.GetLastMsgForSubject(t.Context(), nowSubject(m.Provider, m.ID()))
		return errors.Is(err, jetstream.ErrMsgNotFound)
	})
	if got := d.srv.Commands(); len(got) > 0 {
		t.Errorf("the mailbox was polled: %q", got)
	}
	if n := w.Counts.Redelivered.Load(); n == 0 {
		t.Error("the job was not redelivered")
	}
}

func TestJobIsRepeatedAfterAckWait(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a", text("one", 10))
	b.enrol(m)
	b.take(m) // by a worker that dies
	b.start(b.worker())
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
}

// A blockingDrop blocks in the middle of a message until the test ends.
type blockingDrop struct {
	*maildrop
	begun, release chan struct{}
}

func (d *blockingDrop) WriteMessage(w io.Writer, n int) error {
	close(d.begun)
	<-d.release
	return errors.New("released")
}

func TestWorkerFencesItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a", text("one", 10))
	blocking := &blockingDrop{d, make(chan struct{}), make(chan struct{})}
	d.srv.Maildrop = blocking
	hungUp := make(chan struct{})
	d.srv.Logf = func(format string, args ...any) {
		if strings.Contains(fmt.Sprintf(format, args...), "released") {
			close(hungUp)
		}
	}
	b.enrol(m)
	w := b.worker()
	stop := b.start(w)
	<-blocking.begun
	b.engine.Close()
	b.until("session dropped", func() bool { return w.Counts.Fenced.Load() == 1 })
	close(blocking.release)
	stop()
	if n := verbs(d, "QUIT"); n > 0 {
		t.Error("the dropped session ended with QUIT")
	}
}

// TestLeaseOfClassIsShorter has a worker that was configured with a longer lease than the mailboxes have.
func TestLeaseOfClassIsShorter(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a", text("one", 10))
	d.srv.Latency = quick().AckWait / 5 // the session takes longer than the lease
	m.Interval = time.Hour
	b.enrol(m)
	w := b.worker()
	w.Fleet = b.open(Config{})
	b.start(w)
	b.until("a poll", func() bool { return w.Counts.Polls.Load() > 0 })
	if n := w.Counts.Fenced.Load(); n > 0 || len(d.srv.Deleted()) != 1 {
		t.Errorf("%d sessions dropped, deleted: %v", n, d.srv.Deleted())
	}
}

func TestSinkFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a", text("one", 10), text("two", 10))
	b.enrol(m)
	limit := func(bytes int64) {
		info, err := b.mail.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cfg := info.Config
		cfg.MaxBytes = bytes
		if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	w := b.worker()
	b.start(w)
	b.until("two polls failed", func() bool { return w.Counts.Failed.Load() >= 2 })
	if n := verbs(d, "DELE"); n > 0 {
		t.Errorf("%d messages deleted while the sink failed", n)
	}
	limit(-1)
	b.until("messages deleted", func() bool { return len(d.srv.Deleted()) == 2 })
	if found := b.mails(); len(found) != 2 {
		t.Errorf("%d messages in the stream, want 2", len(found))
	}
	b.until("events", func() bool { return fmt.Sprint(b.events(m)) == "[back]" })
}

func TestProviderIsPaused(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Retry.PauseMin, cfg.Retry.PauseMax = time.Minute, time.Hour
	b := newBench(t, cfg)
	var gone []Mailbox
	for i := range 12 {
		m, _ := b.mailbox(fmt.Sprint("gone", i))
		m.Provider = "gone"
		b.servers[fmt.Sprint("gone", i)] = nil
		gone = append(gone, m)
	}
	good, d := b.mailbox("a", text("one", 10))
	b.enrol(append(gone, good)...)
	b.start(b.worker())
	b.until("class paused", func() bool {
		s, err := b.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(s.Providers, func(p ProviderStatus) bool { return p.Name == "gone" })
		return s.Providers[i].PausedFor > 50*time.Second
	})
	b.until("message of another class deleted", func() bool { return len(d.srv.Deleted()) == 1 })
}

func TestPoisonRests(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Retry.PoisonRest = time.Hour
	b := newBench(t, cfg)
	m, d := b.mailbox("a", text("one", 10))
	b.enrol(m)
	for range cfg.Retry.Deliveries {
		b.take(m).Nak()
	}
	b.start(b.worker())
	b.until("event", func() bool { return fmt.Sprint(b.events(m)) == "[poison]" })
	j, due := b.jobOf(m)
	if due || j.Kind != failPoison || time.Until(j.Due) < 50*time.Minute {
		t.Errorf("job %+v, due %v", j, due)
	}
	if got := d.srv.Commands(); len(got) > 0 {
		t.Errorf("the mailbox was polled: %q", got)
	}
	if err := b.Retry(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
}

func TestLoginDelay(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a")
	d.srv.Caps = []string{"LOGIN-DELAY 3"}
	logins := make(chan time.Time, 100)
	d.srv.Refuse = func(verb string, n int) string {
		if verb == "PASS" {
			logins <- time.Now()
		}
		return ""
	}
	b.enrol(m)
	b.start(b.worker())
	first, second := <-logins, <-logins
	if gap := second.Sub(first); gap < 2900*time.Millisecond {
		t.Errorf("%v between logins, the server wants 3 s", gap)
	}
}

func TestRefusedLoginParks(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Retry.Logins = 2
	b := newBench(t, cfg)
	m, d := b.mailbox("a", text("one", 10))
	d.srv.Password = "other"
	b.enrol(m)
	w := b.worker()
	b.start(w)
	b.until("mailbox parked", func() bool { return fmt.Sprint(b.events(m)) == "[parked refused]" })
	b.until("mailbox rests", func() bool {
		j, due := b.jobOf(m)
		return !due && j.Parked && time.Until(j.Due) > time.Hour
	})
	if n := verbs(d, "PASS"); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
	s, err := b.Status(t.Context())
	if err != nil || s.Parked != 1 || s.Failing != 1 || len(s.Problems) != 1 || s.Problems[0].Kind != string(failLogin) {
		t.Errorf("status %+v, %v", s, err)
	}
	if strings.Contains(s.Problems[0].Error, "secret") {
		t.Errorf("the error shows the password: %s", s.Problems[0].Error)
	}
	d.srv.CloseClientConnections()
	b.mu.Lock()
	srv := pop3test.NewUnstartedServer(d)
	srv.STLS = false
	b.servers["a"] = &maildrop{srv: srv}
	b.mu.Unlock()
	t.Cleanup(srv.Close)
	m.Interval = 2 * time.Second // the record changes
	b.enrol(m)
	b.until("message deleted", func() bool { return len(srv.Deleted()) == 1 })
	if j, _ := b.jobOf(m); j.Parked || j.Failures > 0 {
		t.Errorf("job %+v", j)
	}
}

// A refusingDrop refuses one message.
type refusingDrop struct {
	*maildrop
	uid string
}

func (d refusingDrop) WriteMessage(w io.Writer, n int) error {
	if d.UID(n) == d.uid {
		return errors.New("damaged")
	}
	return d.maildrop.WriteMessage(w, n)
}

func TestMessageIsGivenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a", text("one", 10), text("two", 10), text("three", 10))
	d.srv.Maildrop = refusingDrop{d, "uid-2"}
	b.enrol(m)
	b.start(b.worker())
	b.until("message given up", func() bool { return fmt.Sprint(b.events(m)) == "[message]" })
	n := verbs(d, "RETR 1") // its number when the others are deleted
	d.add("uid-4", text("four", 10))
	b.until("the others deleted", func() bool { return len(d.srv.Deleted()) == 3 })
	if got := d.srv.Remaining(); fmt.Sprint(got) != "[uid-2]" {
		t.Errorf("remaining: %v", got)
	}
	if again := verbs(d, "RETR 1"); again != n {
		t.Errorf("the message was asked for %d times more", again-n)
	}
	d.srv.CloseClientConnections()
	if err := b.Retry(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	b.until("message asked for again", func() bool { return verbs(d, "RETR 1") > n })
}

func TestTruncatedMailIsAbsent(t *testing.T) {
	t.Parallel()
	for _, size := range []int{500_000, 10 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, quick())
			m, d := b.mailbox("a", text("one", size))
			whole := d.srv.Maildrop
			d.srv.Maildrop = pop3test.CutAt(whole, 1, int64(size-100))
			b.enrol(m)
			w := b.worker()
			b.start(w)
			b.until("a poll failed", func() bool { return w.Counts.Failed.Load() >= 1 })
			if found := b.mails(); len(found) > 0 {
				t.Errorf("%d messages in the stream", len(found))
			}
			objects, err := b.large.List(t.Context())
			if !errors.Is(err, jetstream.ErrNoObjectsFound) {
				t.Errorf("objects %v, %v", objects, err)
			}
			if n := verbs(d, "DELE"); n > 0 {
				t.Error("the message was deleted")
			}
		})
	}
}

// A lyingDrop lists all messages with one octet.
type lyingDrop struct{ *maildrop }

func (lyingDrop) Size(int) int64 { return 1 }

func TestListedSizeIsWrong(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	large := text("one", 10<<20)
	m, d := b.mailbox("a", large, text("two", 300_000))
	d.srv.Maildrop = lyingDrop{d}
	b.enrol(m)
	w := b.worker()
	w.Bytes = 128 << 10
	b.start(w)
	b.until("messages deleted", func() bool { return len(d.srv.Deleted()) == 2 })
	if found := b.mails(); found[sha(large)] != 1 || len(found) != 2 {
		t.Errorf("%d messages in the stream, the large one %d times", len(found), found[sha(large)])
	}
}

func TestStopCommits(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a", text("one", 10))
	b.enrol(m)
	w := b.worker()
	var stop func()
	ready := make(chan struct{})
	w.hook = func(point string) {
		if point == "stored" {
			<-ready
			go stop()
		}
	}
	stop = b.start(w)
	close(ready)
	b.until("worker stopped", func() bool { return len(d.srv.Deleted()) == 1 })
	stop()
	if _, due := b.jobOf(m); due {
		j, err := b.jobs.GetLastMsgForSubject(context.Background(), nowSubject(m.Provider, m.ID()))
		if err == nil && j.Sequence == 1 {
			t.Error("the job was not acknowledged")
		}
	}
}
