package fleet

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// TestSharedClass has many mailboxes on one host of a shared class, whose sessions do not end, and one on another host.
func TestSharedClass(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	const mailboxes, class = 12, "other-3"
	many, d := b.mailbox("many")
	d.srv.Exclusive = false
	var open, most atomic.Int64
	end := make(chan struct{})
	d.srv.Refuse = func(verb string, n int) string {
		switch verb {
		case "PASS":
			most.Store(max(most.Load(), open.Add(1)))
			<-end
		case "QUIT":
			open.Add(-1)
		}
		return ""
	}
	for i := range mailboxes {
		many.Addr, many.Provider = fmt.Sprint("many:", 1000+i), class
		b.enrol(many)
	}
	other, otherDrop := b.mailbox("other", text("one", 10))
	other.Provider = class
	b.enrol(other)
	w := b.worker()
	b.start(w)
	b.until("jobs put off", func() bool { return w.Counts.PutOff.Load() >= mailboxes-hostJobs })
	b.until("message of the other host deleted", func() bool { return len(otherDrop.srv.Deleted()) == 1 })
	if n := open.Load(); n != hostSessions {
		t.Errorf("%d sessions with the host, want %d", n, hostSessions)
	}
	close(end)
	b.until("all mailboxes polled", func() bool { return verbs(d, "QUIT") >= mailboxes })
	if n := most.Load(); n > hostSessions {
		t.Errorf("%d sessions with the host at once, want %d", n, hostSessions)
	}
}

// TestPutOffIsSpread puts off a thousand mailboxes of a host.
func TestPutOffIsSpread(t *testing.T) {
	r := &running{hosts: make(map[string]*host)}
	for range hostJobs {
		if h, _ := r.enter("a:110"); h == nil {
			t.Fatal("a job was put off too early")
		}
	}
	_, first := r.enter("a:110")
	_, second := r.enter("a:111")
	if first <= 0 || second <= first {
		t.Errorf("jobs put off for %v and %v", first, second)
	}
	for range 1000 {
		if h, wait := r.enter("a:110"); h != nil || wait <= 0 || wait > maxPutOff {
			t.Fatalf("job put off for %v", wait)
		}
	}
	if h, _ := r.enter("b:110"); h == nil {
		t.Error("a job of another host was put off")
	}
}
