package fetch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// withUID returns message n with the unique-id of another one.
func withUID(n int, uid string) mail {
	m := newMail(n)
	m.uid = uid
	return m
}

// TestReusedUniqueID gives a new message the unique-id of one that was fetched.
func TestReusedUniqueID(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		x := newFixture(t, mails(3)...)
		x.run(nil)
		x.Policy.Delete = deletes
		x.drop.set(newMail(1), withUID(4, "uid2"), newMail(3))
		report := x.run(nil)
		x.delivered(1, 2, 3, 4)
		x.logged("unique-id used again")
		if deletes && report.Deleted != 3 {
			t.Errorf("%+v", report)
		}
	}
}

// TestReusedUniqueIDOfSameSize gives a new message the unique-id and the size of one that was fetched: it must not be deleted unread.
func TestReusedUniqueIDOfSameSize(t *testing.T) {
	same := newMail(2)
	same.text = strings.Replace(same.text, "Subject: 2", "Subject: 9", 1)
	x := newFixture(t, mails(3)...)
	x.run(nil)
	x.Policy.Delete = true
	x.drop.set(newMail(1), same, newMail(3))
	if report := x.run(nil); report.Fetched != 1 || report.Deleted != 3 {
		t.Errorf("%+v", report)
	}
	if got := x.sink.texts(); !slices.Contains(got, same.text) {
		t.Errorf("delivered %q", got)
	}
	x.logged("unique-id used again")
	x.left()
}

// TestTwins fetches messages that share unique-ids, while some of them go and others come.
func TestTwins(t *testing.T) {
	twin := func(n int) mail { return withUID(n, "twin") }
	x := newFixture(t, twin(1), newMail(10), twin(2), twin(3))
	x.run(nil)
	x.delivered(1, 2, 3, 10)
	if want := []string{"twin/0 done", "twin/1 done", "twin/2 done", "uid10/0 done"}; !slices.Equal(x.states(), want) {
		t.Errorf("records %q", x.states())
	}
	x.run(nil)
	x.delivered(1, 2, 3, 10)

	x.drop.set(newMail(10), twin(2), twin(3)) // their places change
	x.run(nil)
	x.delivered(1, 2, 3, 10)

	x.drop.set(newMail(10), twin(2), twin(4), twin(3)) // message 4 takes the place of message 1
	x.run(nil)
	x.delivered(1, 2, 3, 4, 10)
	x.run(nil)
	x.delivered(1, 2, 3, 4, 10)

	x.drop.set(newMail(10), twin(5)) // only one is left, and it is new
	x.run(nil)
	x.delivered(1, 2, 3, 4, 5, 10)

	x.Policy.Delete = true
	if report := x.run(nil); report.Deleted != 2 {
		t.Errorf("%+v", report)
	}
	x.left()
}

// TestIdenticalTwins fetches identical messages with the same unique-id, as a server may give them that makes unique-ids of headers.
func TestIdenticalTwins(t *testing.T) {
	x := newFixture(t, newMail(1), newMail(1), newMail(1))
	x.drop.hook = func(session int, line string) *response {
		if session == 1 && line == "RETR 2" {
			return negative("not now")
		}
		return nil
	}
	x.run(ErrIncomplete)
	x.delivered(1, 1)
	x.run(nil)
	x.delivered(1, 1, 1)
	x.drop.set(newMail(1), newMail(1), newMail(1), newMail(1))
	x.Policy.Delete = true
	x.run(nil)
	x.delivered(1, 1, 1, 1)
	x.left()
}

// TestTwinsPartlyDelivered deletes messages that share a unique-id, of which one fits in the first run, where the response to QUIT is
// lost. The other must not be taken for it.
func TestTwinsPartlyDelivered(t *testing.T) {
	for _, uidl := range []bool{true, false} {
		header := "Subject: cron\r\n\r\n"
		twins := []mail{{uid: "twin", text: header + "disk 1\r\n"}, {uid: "twin", text: header + "disk 2\r\n"}}
		x := newFixture(t, twins...)
		hook := func(session int, line string) *response {
			if session == 1 && line == "QUIT" {
				return &response{text: "\r\n", hangUp: true, after: func() {
					if len(x.drop.sent("DELE")) > 0 {
						x.drop.set(twins[1])
					}
				}}
			}
			return nil
		}
		if x.drop.hook = hook; !uidl {
			x.drop.withoutUIDL(hook)
		}
		x.Policy = Policy{Delete: true, MaxMessages: 1}
		for range 2 {
			x.run(nil)
		}
		if texts := x.sink.texts(); len(texts) != 2 {
			t.Errorf("delivered %q", texts)
		}
		x.left()
	}
}

func TestOrderChanges(t *testing.T) {
	x := newFixture(t, mails(30)...)
	x.run(nil)
	list := mails(30)
	slices.Reverse(list)
	x.drop.set(append(list, newMail(31))...)
	x.run(nil)
	x.delivered(upTo(31)...)
}

// TestVanished has messages vanish from the listing and come back.
func TestVanished(t *testing.T) {
	x := newFixture(t, mails(30)...)
	x.run(nil)
	x.drop.set()
	x.run(nil)
	if r := x.record("uid7"); !r.Gone.Equal(x.now) {
		t.Errorf("gone since %v", r.Gone)
	}
	x.now = x.now.Add(29 * 24 * time.Hour)
	x.run(nil)
	x.drop.set(mails(20)...)
	x.run(nil)
	x.delivered(upTo(30)...)
	if r := x.record("uid7"); !r.Gone.IsZero() {
		t.Errorf("it is back, but gone since %v", r.Gone)
	}
	x.now = x.now.Add(2 * 24 * time.Hour)
	x.run(nil)
	if n := len(x.states()); n != 20 {
		t.Errorf("%d records after 31 days, want 20", n)
	}
	x.now = x.now.Add(300 * 24 * time.Hour)
	x.run(nil)
	if n := len(x.states()); n != 20 {
		t.Errorf("%d records after a year, want 20", n)
	}
	x.delivered(upTo(30)...)
}

// TestClockSetBack has the clock jump to and fro. Nothing is fetched twice, or forgotten or deleted before its time.
func TestClockSetBack(t *testing.T) {
	const day = 24 * time.Hour
	x := newFixture(t, mails(3)...)
	x.Policy.DeleteAfter = 14 * day
	begin := x.now
	x.now = begin.Add(3650 * day) // the clock is wrong
	x.run(nil)
	x.now = begin
	x.run(nil)
	x.now = begin.Add(13 * day)
	x.run(nil)
	x.left(1, 2, 3)
	x.now = begin.Add(14 * day)
	x.run(nil)
	x.left()
	x.delivered(1, 2, 3)

	x = newFixture(t, mails(3)...)
	x.run(nil)
	x.drop.set()
	x.now = begin.Add(3650 * day)
	x.run(nil) // gone since then
	x.now = begin
	x.run(nil) // gone since now
	x.now = begin.Add(31 * day)
	x.run(nil)
	if states := x.states(); len(states) > 0 {
		t.Errorf("records %q", states)
	}
}

// TestImportedRecords has records without sizes and digests, as other programs leave them.
func TestImportedRecords(t *testing.T) {
	x := newFixture(t, mails(3)...)
	for n := 1; n <= 2; n++ {
		x.store.Put(t.Context(), Record{Key: Key{UID: newMail(n).uid}, State: Done, Size: -1, Time: x.now})
	}
	x.run(nil)
	x.delivered(3)
	if r := x.record("uid2"); r.Size != int64(len(newMail(2).text)) {
		t.Errorf("recorded size %d", r.Size)
	}
	x.Policy.Delete = true
	if report := x.run(ErrIncomplete); report.Deleted != 1 || report.Undone != 2 {
		t.Errorf("%+v", report)
	}
	x.left(1, 2)
	x.Policy.DeleteUnproven = true
	if report := x.run(nil); report.Deleted != 2 {
		t.Errorf("%+v", report)
	}
	x.delivered(3)
}

// TestImportedRecordsWithoutTime counts the age of messages from the first run that sees them.
func TestImportedRecordsWithoutTime(t *testing.T) {
	x := newFixture(t, mails(1)...)
	x.Policy = Policy{DeleteAfter: 14 * day, DeleteUnproven: true}
	x.store.Put(t.Context(), Record{Key: Key{UID: "uid1"}, State: Done, Size: -1})
	x.run(nil)
	x.now = x.now.Add(13 * day)
	x.run(nil)
	x.left(1)
	x.now = x.now.Add(day)
	x.run(nil)
	x.left()
}

// TestManyVanished limits the number of records that one session changes in the Store.
func TestManyVanished(t *testing.T) {
	x := newFixture(t)
	for n := range 25000 {
		x.store.Put(t.Context(), Record{Key: Key{UID: fmt.Sprint(n)}, State: Done, Size: 10, Time: x.now})
	}
	gone := func() (n int) {
		for r := range x.store.Load(t.Context()) {
			if !r.Gone.IsZero() {
				n++
			}
		}
		return n
	}
	for _, want := range []int{10000, 10000, 10000} {
		x.run(nil)
		if n := gone(); n < want || n > 25000 {
			t.Errorf("%d records changed", n)
		}
	}
}

func TestAllNew(t *testing.T) {
	renamed := mails(30)
	for i := range renamed {
		renamed[i].uid = fmt.Sprint("other", i)
	}
	resized := slices.Clone(renamed)
	for i := range resized {
		resized[i].text = "Received: " + strings.Repeat("x", 1000) + "\r\n" + resized[i].text
	}
	onlyResized := mails(30)
	for i := range onlyResized {
		onlyResized[i].size = fmt.Sprint(1000 + i)
	}
	for _, test := range []struct {
		name  string
		mails []mail
		want  error
	}{
		{"other unique-ids", renamed, ErrAllNew},
		{"three of them", renamed[:3], ErrAllNew},
		{"two of them", renamed[:2], nil},
		{"other sizes too", resized, ErrAllNew},
		{"other sizes too, fewer", resized[:10], nil},
		{"other sizes only", onlyResized, ErrAllNew},
		{"other messages of the same sizes", otherSubjects(30)[:19], nil},
		{"one is known", append(renamed[1:], newMail(1)), nil},
		{"none", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newFixture(t, mails(30)...)
			x.run(nil)
			before := x.states()
			x.drop.set(test.mails...)
			x.run(test.want)
			if test.want == nil {
				return
			}
			x.delivered(upTo(30)...)
			if !slices.Equal(before, x.states()) || !x.record("uid1").Gone.IsZero() {
				t.Errorf("the records have changed")
			}
			x.Policy.AllNew = AllNewFetch
			if report := x.run(nil); report.Fetched != len(test.mails) {
				t.Errorf("%+v", report)
			}
			x.Policy.AllNew = AllNewStop
			x.run(nil)
		})
	}
}

// otherSubjects returns other messages of the same sizes, with other unique-ids.
func otherSubjects(n int) []mail {
	list := mails(n)
	for i := range list {
		list[i].uid = fmt.Sprint("other", i)
		list[i].text = strings.Replace(list[i].text, "Subject", "Comment", 1)
	}
	return list
}

// TestAllNewWithoutHeaders has records without digests, or a server without TOP: only the sizes are left to compare.
func TestAllNewWithoutHeaders(t *testing.T) {
	same := mails(10)
	for i := range same {
		same[i].text = newMail(1).text
	}
	for _, list := range [][]mail{otherSubjects(10), same} {
		x := newFixture(t)
		for n := 1; n <= 10; n++ {
			size := int64(len(newMail(n).text))
			if len(list[0].text) == len(list[1].text) {
				size = int64(len(list[0].text))
			}
			x.store.Put(t.Context(), Record{Key: Key{UID: fmt.Sprint("old", n)}, State: Done, Size: size, Header: Digest{byte(n)}})
		}
		x.drop.set(list...)
		x.drop.hook = func(_ int, line string) *response {
			if strings.HasPrefix(line, "TOP") {
				return negative("unknown command")
			}
			return nil
		}
		if len(list[0].text) != len(list[1].text) {
			x.run(ErrAllNew)
		} else { // all of one size, which says nothing
			x.run(nil)
		}
	}
}

// TestDeletedAndQuitUnanswered has as many new messages after a QUIT that was not answered as were deleted by it.
func TestDeletedAndQuitUnanswered(t *testing.T) {
	x := newFixture(t, mails(30)...)
	x.Policy.Delete = true
	x.Retry.Attempts = -1
	x.drop.hook = func(session int, line string) *response {
		if session == 1 && line == "QUIT" {
			return &response{hangUp: true, after: func() { x.drop.set(otherSubjects(30)...) }}
		}
		return nil
	}
	x.run(ErrServer)
	if report := x.run(nil); report.Fetched != 30 || report.Deleted != 30 {
		t.Errorf("%+v", report)
	}
}

// TestAllNewMatch finds the known messages of a migrated server by their headers.
func TestAllNewMatch(t *testing.T) {
	x := newFixture(t, mails(30)...)
	x.run(nil)
	renamed := mails(40)
	for i := range renamed {
		renamed[i].uid = fmt.Sprint("other", i)
		renamed[i].size = fmt.Sprint(1000 + i)
	}
	x.drop.set(renamed...)
	x.run(ErrAllNew)
	x.Policy.AllNew = AllNewMatch
	if report := x.run(nil); report.Fetched != 10 {
		t.Errorf("%+v", report)
	}
	x.delivered(upTo(40)...)
	if n := len(x.states()); n != 40 {
		t.Errorf("%d records", n)
	}
	x.Policy = Policy{Delete: true}
	if report := x.run(nil); report.Deleted != 40 || report.Fetched != 0 {
		t.Errorf("%+v", report)
	}
}

// TestAllNewMatchSizes finds messages whose sizes alone have changed.
// TestAllNewMatchRefused matches messages with the same header. The one that was refused must not pass for the delivered one.
func TestAllNewMatchRefused(t *testing.T) {
	header := "Subject: cron\r\n\r\n"
	refused, delivered := mail{uid: "a", text: header + "short\r\n"}, mail{uid: "b", text: header + "longer\r\n"}
	for range 10 { // the Store has no order
		x := newFixture(t, refused, delivered, newMail(1))
		x.sink.stage = func(m Message) error {
			if m.Key.UID == "a" {
				return Never(errors.New("no"))
			}
			return nil
		}
		x.run(ErrIncomplete)
		refused.uid, delivered.uid = "c", "d"
		x.drop.set(delivered, refused, mail{uid: "e", text: newMail(1).text})
		x.Policy = Policy{Delete: true, AllNew: AllNewMatch}
		x.run(nil)
		if left := x.drop.left(); !slices.Equal(left, []string{"c"}) {
			t.Fatalf("on the server: %q", left)
		}
		refused.uid, delivered.uid = "a", "b"
	}
}

func TestAllNewMatchSizes(t *testing.T) {
	x := newFixture(t, mails(30)...)
	x.run(nil)
	list := mails(30)
	for i := range list {
		list[i].size = fmt.Sprint(1000 + i)
	}
	x.drop.set(list...)
	x.Policy.AllNew = AllNewMatch
	x.run(nil)
	x.Policy.AllNew = AllNewStop
	x.run(nil)
	x.delivered(upTo(30)...)
}
