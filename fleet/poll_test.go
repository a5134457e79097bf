package fleet

import "testing"

func TestPollDelivers(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	texts := []string{text("one", 10), text("two", 100_000), text("three", 3_000_000)}
	m, d := b.mailbox("a", texts...)
	b.enrol(m, m)
	w := b.worker()
	b.start(w)
	b.until("three messages deleted", func() bool { return len(d.srv.Deleted()) == 3 })
	d.add("uid-4", text("four", 10))
	b.until("another message deleted", func() bool { return len(d.srv.Deleted()) == 4 })
	found := b.mails()
	for _, text := range append(texts, text("four", 10)) {
		if found[sha(text)] != 1 {
			t.Errorf("a message is there %d times", found[sha(text)])
		}
	}
	if len(found) != 4 {
		t.Errorf("%d messages in the stream, want 4", len(found))
	}
}

func TestPollLarge(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	large := text("large", 12<<20)
	m, d := b.mailbox("a", text("one", 10), large)
	b.enrol(m)
	w := b.worker()
	w.Bytes = 1 << 20 // less than a message may have
	b.start(w)
	b.until("messages deleted", func() bool { return len(d.srv.Deleted()) == 2 })
	if found := b.mails(); found[sha(large)] != 1 || len(found) != 2 {
		t.Errorf("large message is there %d times, %d messages", found[sha(large)], len(found))
	}
}
