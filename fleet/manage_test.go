package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestKeep(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	m, d := b.mailbox("a")
	for n := range 3000 { // whose records do not fit into a job
		d.add(fmt.Sprintf("%032x", n*7919), text(fmt.Sprint(n), 1))
	}
	m.Keep = true
	b.enrol(m)
	w := b.worker()
	b.start(w)
	b.until("messages fetched", func() bool { return w.Counts.Mails.Load() == 3000 })
	b.until("another poll", func() bool { return w.Counts.Polls.Load() > 2 })
	j, _ := b.jobOf(m)
	if j.Object == "" {
		t.Error("the records are in the job")
	}
	d.add("new", text("new", 10))
	b.until("new message fetched", func() bool { return w.Counts.Mails.Load() == 3001 })
	if n := verbs(d, "RETR"); n != 3001 {
		t.Errorf("%d messages were retrieved, want 3001", n)
	}
	if n := verbs(d, "DELE"); n > 0 {
		t.Errorf("%d messages were deleted", n)
	}
	b.until("old records deleted", func() bool {
		objects, err := b.seen.List(t.Context())
		return err == nil && len(objects) == 1
	})
	m.Keep = false
	b.enrol(m)
	b.until("messages deleted", func() bool { return len(d.srv.Deleted()) == 3001 })
	if found := b.mails(); len(found) != 3001 {
		t.Errorf("%d messages in the stream", len(found))
	}
}

func TestUniqueIDUsedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	first, second := text("first", 10), text("second", 10)
	m, d := b.mailbox("a", first)
	b.enrol(m)
	b.start(b.worker())
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
	d.add("uid-1", second)
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 2 })
	if found := b.mails(); found[sha(first)] != 1 || found[sha(second)] != 1 {
		t.Errorf("messages in the stream: %v", found)
	}
}

func TestPauseResumeRemove(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	ctx := t.Context()
	m, d := b.mailbox("a")
	b.enrol(m)
	w := b.worker()
	b.start(w)
	b.until("a poll", func() bool { return w.Counts.Polls.Load() > 0 })
	if err := b.Pause(ctx, m); err != nil {
		t.Fatal(err)
	}
	b.until("mailbox rests", func() bool {
		j, due := b.jobOf(m)
		return !due && time.Until(j.Due) > time.Hour
	})
	d.add("uid-1", text("one", 10))
	if err := b.Resume(ctx, m); err != nil {
		t.Fatal(err)
	}
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
	if err := b.Remove(ctx, m); err != nil {
		t.Fatal(err)
	}
	b.until("jobs gone", func() bool {
		for msg, err := range b.messages(ctx, JobsStream, jobSubjects(m.Provider, m.ID())) {
			if err != nil {
				t.Fatal(err)
			}
			_ = msg
			return false
		}
		return true
	})
	for name, err := range map[string]error{
		"Pause": b.Pause(ctx, m), "Resume": b.Resume(ctx, m), "Remove": b.Remove(ctx, m), "Retry": b.Fleet.Retry(ctx, m),
	} {
		if !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("%s of a removed mailbox: %v", name, err)
		}
	}
	if found, err := b.Watch(ctx); err != nil || found > 0 {
		t.Errorf("Watch: %d, %v", found, err)
	}
	other := m
	b.enrol(m)
	other.Provider = "other"
	if err := b.Enrol(ctx, other); err == nil {
		t.Error("the provider of an enrolled mailbox was changed")
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	ctx := t.Context()
	waiting, _ := b.mailbox("waiting")
	missing, _ := b.mailbox("missing")
	stuck, _ := b.mailbox("stuck")
	putOff, _ := b.mailbox("put off")
	b.enrol(waiting, missing, stuck, putOff)
	for _, m := range []Mailbox{missing, stuck, putOff} {
		if err := b.jobs.Purge(ctx, jetstream.WithPurgeSubject(jobSubjects(m.Provider, m.ID()))); err != nil {
			t.Fatal(err)
		}
	}
	// A message without a schedule stands for one that the engine has lost.
	old := `{"due":"2001-01-01T00:00:00Z","failures":3}`
	if _, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: laterSubject(stuck.Provider, stuck.ID()), Data: []byte(old)}); err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(time.Hour)
	if err := b.schedule(ctx, putOff.Provider, putOff.ID(), job{Due: time.Unix(1e9, 0)}, hour, 0); err != nil {
		t.Fatal(err)
	}
	found, err := b.Watch(ctx)
	if err != nil || found != 2 {
		t.Errorf("Watch: %d, %v, want 2", found, err)
	}
	b.until("jobs due", func() bool {
		_, due1 := b.jobOf(missing)
		j, due2 := b.jobOf(stuck)
		return due1 && due2 && j.Failures == 3
	})
	if _, due := b.jobOf(waiting); !due {
		t.Error("the waiting job was changed")
	}
	if _, due := b.jobOf(putOff); due {
		t.Error("the job that was put off was changed")
	}
	s, err := b.Status(ctx)
	if err != nil || s.Mailboxes != 4 || s.Late.Due != 3 || s.Missing != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
}

// TestWatchFindsAcknowledgedJob has a job that its consumer takes for acknowledged, as it was seen once after an engine was killed.
func TestWatchFindsAcknowledgedJob(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	ctx := t.Context()
	m, d := b.mailbox("a", text("one", 10))
	b.enrol(m)
	job := nowSubject(m.Provider, m.ID())
	if _, err := b.js.Publish(ctx, job, []byte(`{"due":"2001-01-01T00:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	consumer, err := b.jobs.Consumer(ctx, consumerPrefix+m.Provider)
	if err != nil {
		t.Fatal(err)
	}
	// The consumer acknowledges a later message, of another subject, and then has its own subject again.
	own := consumer.CachedInfo().Config
	other := own
	other.FilterSubject = nowSubject("decoy", "x")
	for _, cfg := range []jetstream.ConsumerConfig{other, own} {
		if consumer, err = b.jobs.UpdateConsumer(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		if cfg.FilterSubject == own.FilterSubject {
			break
		}
		if _, err := b.js.Publish(ctx, other.FilterSubject, nil); err != nil {
			t.Fatal(err)
		}
		msg, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := msg.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if msg, err := consumer.Next(jetstream.FetchMaxWait(100 * time.Millisecond)); err == nil {
		t.Fatalf("the consumer delivers %s", msg.Subject())
	}
	if found, err := b.Watch(ctx); err != nil || found != 1 {
		t.Errorf("Watch: %d, %v, want 1", found, err)
	}
	b.start(b.worker())
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
	if got := fmt.Sprint(b.events(m)); got != "[forgotten]" {
		t.Errorf("events %s", got)
	}
}

// TestManyProviders has more providers than an engine permits by default.
func TestManyProviders(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes ten seconds")
	}
	t.Parallel()
	b := newBench(t, quick())
	const providers = 1001
	for i := range providers {
		if err := b.ensureClass(t.Context(), fmt.Sprint("p", i)); err != nil {
			t.Fatal(err)
		}
	}
	m, d := b.mailbox("a", text("one", 10))
	m.Provider = fmt.Sprint("p", providers-1)
	b.enrol(m)
	b.start(b.worker())
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
}

func TestCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	ctx := t.Context()
	m, d := b.mailbox("a", text("one", 10), text("two", 10))
	m.Keep = true
	other, _ := b.mailbox("b")
	b.enrol(m, other)
	w := b.worker()
	stop := b.start(w)
	b.until("messages fetched", func() bool { return w.Counts.Mails.Load() == 2 && w.Counts.Polls.Load() > 2 })
	stop()
	to := newBench(t, quick())
	to.servers = b.servers
	if _, err := b.Copy(ctx, to.Fleet); err == nil {
		t.Error("copied although mail was not drained")
	}
	r, err := b.Receive(ctx, "drain")
	if err != nil {
		t.Fatal(err)
	}
	mails, err := r.Next(ctx, 10, 10*time.Second)
	if err != nil || len(mails) != 2 {
		t.Fatalf("%d mails, %v", len(mails), err)
	}
	for _, m := range mails {
		if err := m.Ack(ctx); err != nil {
			t.Fatal(err)
		}
	}
	b.until("no poll unfinished", func() bool { // a job may have been on its way to the worker when it stopped
		s, err := b.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if s.Providers[0].Held > 0 {
			stop := b.start(b.worker())
			time.Sleep(2 * quick().AckWait)
			stop()
			return false
		}
		return true
	})
	for range 2 {
		if n, err := b.Copy(ctx, to.Fleet); err != nil || n != 2 {
			t.Fatalf("copied %d, %v", n, err)
		}
	}
	d.add("uid-3", text("three", 10))
	w = to.worker()
	to.start(w)
	to.until("new message fetched", func() bool { return w.Counts.Mails.Load() == 1 && w.Counts.Polls.Load() > 2 })
	if n := verbs(d, "RETR"); n != 3 {
		t.Errorf("%d messages retrieved, want 3", n)
	}
}

func TestWatchIsAJob(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.WatchEvery = time.Second
	b := newBench(t, cfg)
	m, d := b.mailbox("a", text("one", 10))
	b.enrol(m)
	if err := b.jobs.Purge(t.Context(), jetstream.WithPurgeSubject(jobSubjects(m.Provider, m.ID()))); err != nil {
		t.Fatal(err)
	}
	b.start(b.worker())
	b.start(b.worker())
	b.until("message deleted", func() bool { return len(d.srv.Deleted()) == 1 })
}

func TestReceiveAndTrim(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.MailAge = time.Nanosecond
	b := newBench(t, cfg)
	ctx := t.Context()
	m, d := b.mailbox("a", text("one", 10), text("two", 10), text("three", 10<<20))
	b.enrol(m)
	b.start(b.worker())
	b.until("messages deleted", func() bool { return len(d.srv.Deleted()) == 3 })
	trim := func(want int) {
		t.Helper()
		if err := b.trim(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if found := b.mails(); len(found) != want {
			t.Errorf("%d messages in the stream, want %d", len(found), want)
		}
	}
	trim(3) // without a receiver all mail is kept
	r, err := b.Receive(ctx, "drain")
	if err != nil {
		t.Fatal(err)
	}
	mails, err := r.Next(ctx, 2, 10*time.Second)
	if err != nil || len(mails) != 2 {
		t.Fatalf("%d mails, %v", len(mails), err)
	}
	if mails[0].Account != m.Account() || mails[0].ID != m.ID() || mails[0].UID != "uid-1" {
		t.Errorf("mail %+v", mails[0])
	}
	trim(3)
	if err := mails[0].Ack(ctx); err != nil {
		t.Fatal(err)
	}
	trim(2)
	if err := mails[1].Nak(0); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for seen < 2 {
		mails, err := r.Next(ctx, 10, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mails {
			body, err := m.Open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprint(new(strings.Builder), body); err != nil {
				t.Fatal(err)
			}
			body.Close()
			if err := m.Ack(ctx); err != nil {
				t.Fatal(err)
			}
			seen++
		}
	}
	trim(0)
	if err := b.sweepLarge(ctx, objectAge); err != nil {
		t.Fatal(err)
	}
	if objects, err := b.large.List(ctx); err != nil || len(objects) != 1 {
		t.Errorf("an object was deleted too early: %v, %v", objects, err)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ann"), []byte("from a file\r\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POP3_SECRET_ANN", "from the environment")
	t.Setenv("OTHER", "must not be read")
	s := &Secrets{
		Env: true, Dir: dir, Command: []string{"/bin/echo", "from a command for"},
		Keyring: func(ctx context.Context, name string) (string, error) { return "from the keyring for " + name, nil },
	}
	for ref, want := range map[string]string{
		"file:ann": "from a file", "env:ANN": "from the environment", "command:ann": "from a command for ann",
		"keyring:ann": "from the keyring for ann",
		"file:link":   "", "file:../x": "", "file:": "", "env:OTHER": "", "env:": "", "command:-n": "", "plain": "", "": "", "other:x": "",
	} {
		got, err := s.Resolve(t.Context(), ref)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, errSecret) {
			t.Errorf("%q is %q, %v", ref, got, err)
		}
	}
	none := new(Secrets)
	for _, ref := range []string{"file:ann", "env:ANN", "command:ann", "keyring:ann"} {
		if got, err := none.Resolve(t.Context(), ref); err == nil {
			t.Errorf("%q is %q without being allowed", ref, got)
		}
	}
	slow := &Secrets{Command: []string{"/bin/sh", "-c", "echo secret; sleep 10"}, Timeout: 10 * time.Millisecond}
	if got, err := slow.Resolve(t.Context(), "command:x"); err == nil {
		t.Errorf("a command that hangs returned %q", got)
	}
	failing := &Secrets{Command: []string{"/bin/sh", "-c", "echo secret; echo secret >&2; exit 1"}}
	if _, err := failing.Resolve(t.Context(), "command:x"); err == nil || strings.Contains(err.Error(), "secret:") && strings.Contains(err.Error(), "echo") {
		t.Errorf("failing command: %v", err)
	}
}

func TestOldServerIsRefused(t *testing.T) {
	for version, ok := range map[string]bool{"2.15.0": true, "2.15.2": true, "3.0.0": true, "2.14.9": false, "1.9": false, "": false} {
		if err := checkVersion(version); (err == nil) != ok {
			t.Errorf("%q: %v", version, err)
		}
	}
}
