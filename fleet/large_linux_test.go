package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"testing"
	"time"
)

// TestLargeMail fetches mails of 50 MiB, kills the worker while it does, and reads them while they arrive.
func TestLargeMail(t *testing.T) {
	t.Parallel()
	c := loadCase{mailboxes: 2, sync: true, mails: 1, size: 50 << 20, lease: 2 * time.Second}
	if *loadFor > 0 {
		c.mailboxes = 24
	}
	l := newLoadTrial(t, c)
	want := make(map[string]bool)
	for i := range c.mailboxes {
		sum := sha256.New()
		if err := (&loadDrop{mailbox: i, size: c.size}).WriteMessage(sum, 1); err != nil {
			t.Fatal(err)
		}
		want[hex.EncodeToString(sum.Sum(nil))] = true
	}
	l.worker = spawn(t, "poller", "FLEET_URL="+l.bench.url, "FLEET_LEASE="+c.lease.String())
	l.bench.until("a part of a mail is stored", func() bool {
		s, err := l.bench.large.Status(t.Context())
		return err == nil && s.Size() > 10<<20
	})
	l.worker.kill()
	begin := time.Now()
	l.worker = spawn(t, "poller", "FLEET_URL="+l.bench.url, "FLEET_LEASE="+c.lease.String())
	r, err := l.bench.Receive(t.Context(), "reader")
	if err != nil {
		t.Fatal(err)
	}
	read := make(map[string]int)
	var peak int64
	t.Cleanup(func() { t.Logf("%d retrievals, %d polls, %d read", l.mails.Load(), l.polls.Load(), len(read)) })
	l.bench.until("all mails read", func() bool {
		peak = max(peak, usageOf(t, l.worker.cmd.Process.Pid).peak)
		mails, err := r.Next(t.Context(), 1, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mails {
			read[l.sumOf(m)]++
			if err := m.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return len(read) == len(want)
	})
	t.Logf("%d mails of 50 MiB in %.1f s; peak memory of the worker: %d MiB", len(want), time.Since(begin).Seconds(), peak/mib)
	for sum, n := range read {
		if !want[sum] || n != 1 {
			t.Errorf("mail %s read %d times, one of those sent: %v", sum, n, want[sum])
		}
	}
	if limit := int64(120+32*min(c.mailboxes, 12)) << 20; peak > limit {
		t.Errorf("the worker needed %d MiB", peak/mib)
	}
}

// sumOf reads a mail and returns its digest.
func (l *loadTrial) sumOf(m *Mail) string {
	l.t.Helper()
	body, err := m.Open(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	defer body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, body)
	if err != nil || n != m.Size {
		l.t.Fatal(fmt.Errorf("mail of %d bytes: %d read, %w", m.Size, n, err))
	}
	return hex.EncodeToString(sum.Sum(nil))
}
