package fetch

import (
	"strings"
	"testing"
)

// withoutUIDL makes the server one without UIDL, and calls next for the other commands.
func (d *maildrop) withoutUIDL(next func(session int, line string) *response) {
	d.hook = func(session int, line string) *response {
		switch line {
		case "UIDL":
			return negative("unknown command")
		case "CAPA":
			return &response{text: "+OK\r\nTOP\r\nPIPELINING\r\n.\r\n"}
		}
		if next != nil {
			return next(session, line)
		}
		return nil
	}
}

func TestNoUIDL(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.drop.withoutUIDL(nil)
	x.run(ErrNoUIDL)
	x.delivered()

	x.Policy.NoUIDL = true
	x.run(nil)
	x.run(nil)
	x.delivered(1, 2, 3)
	x.drop.set(newMail(2), newMail(4), newMail(2))
	x.run(nil)
	x.delivered(1, 2, 2, 3, 4)

	x.Policy = Policy{Delete: true}
	x.drop.set(newMail(5), newMail(2))
	if report := x.run(nil); report.Fetched != 1 || report.Deleted != 2 {
		t.Errorf("%+v", report)
	}
	x.delivered(1, 2, 2, 3, 4, 5)
	x.left()
}

// TestNoUIDLQuitUnanswered deletes messages that were delivered by another session.
func TestNoUIDLQuitUnanswered(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.Policy.Delete = true
	x.drop.withoutUIDL(func(session int, line string) *response {
		if session == 1 && line == "QUIT" {
			return &response{hangUp: true}
		}
		return nil
	})
	x.run(nil)
	x.delivered(1, 2, 3)
	x.left()
}

func TestNoUIDLNoTOP(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.Policy.Delete = true
	x.drop.withoutUIDL(func(session int, line string) *response {
		if strings.HasPrefix(line, "TOP") {
			return negative("unknown command")
		}
		return nil
	})
	x.run(ErrNoUIDL)
	x.delivered()
	x.drop.withoutUIDL(on("TOP 2 0", negative("damaged")))
	if report := x.run(ErrIncomplete); report.Left != 1 || report.Fetched != 2 {
		t.Errorf("%+v", report)
	}
	x.left(2)
}

// TestNoUIDLNoLIST has a server that refuses every listing. It does not pass for one without messages.
func TestNoUIDLNoLIST(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.Policy.Delete = true
	x.drop.withoutUIDL(on("LIST", negative("not now")))
	x.run(ErrServer)
	x.drop.withoutUIDL(func(session int, line string) *response {
		if line == "LIST" && session%2 == 1 {
			return negative("not now")
		}
		return nil
	})
	x.run(nil)
	x.delivered(1, 2, 3)
	x.left()
}

// TestUIDLRefusedForNow has a server with UIDL that refuses it once.
func TestUIDLRefusedForNow(t *testing.T) {
	for _, test := range []struct {
		name, text string
		bare       bool // CAPA does not list UIDL
		before     bool // messages were fetched by their unique-ids before
		keep       bool
	}{
		{name: "listed", text: "index is being rebuilt"},
		{name: "temporary", text: "[SYS/TEMP] index is being rebuilt", bare: true},
		{name: "known before", text: "index is being rebuilt", bare: true, before: true},
		{name: "kept", text: "index is being rebuilt", bare: true, before: true, keep: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newFixture(t, mails(3)...)
			if test.before {
				x.run(nil)
			}
			x.Policy.Delete = !test.keep
			refused := false
			x.drop.hook = func(_ int, line string) *response {
				switch {
				case line == "UIDL" && !refused:
					refused = true
					return negative(test.text)
				case line == "CAPA" && test.bare:
					return &response{text: "+OK\r\nTOP\r\n.\r\n"}
				}
				return nil
			}
			x.run(nil)
			x.delivered(1, 2, 3)
			if test.keep {
				x.left(1, 2, 3)
			} else {
				x.left()
			}
			top := len(x.drop.sent("TOP"))
			if test.before && !test.keep {
				top -= 3 // to compare the messages before they are deleted
			}
			if !refused || top > 0 {
				t.Errorf("refused %v, then %d TOP", refused, top)
			}
			for r := range x.store.Load(t.Context()) {
				if !test.keep {
					t.Errorf("record of %q", r.Key.UID)
				}
			}
		})
	}
}

// TestUIDLRefusedForGood has a server that had UIDL once.
func TestUIDLRefusedForGood(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.run(nil)
	x.Policy.Delete = true
	x.drop.withoutUIDL(nil)
	x.run(ErrServer)
	x.delivered(1, 2, 3)
	x.left(1, 2, 3)
	x.Policy.NoUIDL, x.Policy.AllNew = true, AllNewMatch // as the user wants it
	x.run(nil)
	x.delivered(1, 2, 3)
	x.left()
}
