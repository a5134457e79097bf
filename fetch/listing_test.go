package fetch

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestMalformedListings fetches all messages whose lines can be understood.
func TestMalformedListings(t *testing.T) {
	good := "2 uid2\r\n3 uid3\r\n"
	size := func(n int) string { return fmt.Sprintf("%d %d\r\n", n, len(newMail(n).text)) }
	rest := size(2) + size(3)
	tooLarge := "too large"
	if strconv.IntSize == 32 {
		tooLarge = "malformed line" // it is no int
	}
	for _, test := range []struct {
		name  string
		uidl  string
		list  string
		want  []int
		error error
		log   string
	}{
		{name: "no unique-id", uidl: "1\r\n" + good, want: []int{2, 3}, error: ErrIncomplete, log: "malformed line"},
		{name: "no number", uidl: "x uid1\r\n" + good, want: []int{2, 3}, error: ErrIncomplete, log: "malformed line"},
		{name: "number 0", uidl: "0 uid1\r\n" + good, want: []int{2, 3}, error: ErrIncomplete, log: "malformed line"},
		{name: "negative number", uidl: "-1 uid1\r\n" + good, want: []int{2, 3}, error: ErrIncomplete, log: "malformed line"},
		{name: "huge number", uidl: "99999999999 uid1\r\n" + good, want: []int{2, 3}, error: ErrIncomplete, log: tooLarge},
		{name: "number past int64", uidl: "99999999999999999999 uid1\r\n" + good, want: []int{2, 3}, error: ErrIncomplete, log: "malformed line"},
		{name: "control character", uidl: "1 u\x01\r\n" + good, want: []int{2, 3}, error: ErrIncomplete, log: "malformed line"},
		{name: "empty line", uidl: "1 uid1\r\n\r\n" + good, want: []int{1, 2, 3}},
		{name: "the last line", uidl: "1 uid1\r\n2 uid2\r\n3\r\n", want: []int{1, 2}, error: ErrIncomplete, log: "malformed line"},
		{name: "number listed twice", uidl: "1 uid1\r\n1 other\r\n" + good, want: []int{1, 2, 3}, log: "listed twice"},
		{name: "descending", uidl: "3 uid3\r\n2 uid2\r\n1 uid1\r\n", want: []int{1, 2, 3}},
		{name: "descending, number listed twice", uidl: "3 uid3\r\n2 uid2\r\n1 uid1\r\n3 uid3\r\n", want: []int{1, 2, 3}, log: "listed twice"},
		{name: "not in UIDL", uidl: "1 uid1\r\n3 uid3\r\n", want: []int{1, 3}, error: ErrIncomplete},
		{name: "no size", list: "1\r\n" + rest, want: []int{1, 2, 3}, log: "malformed line"},
		{name: "negative size", list: "1 -5\r\n" + rest, want: []int{1, 2, 3}, log: "malformed line"},
		{name: "size past int64", list: "1 99999999999999999999\r\n" + rest, want: []int{1, 2, 3}, log: "malformed line"},
		{name: "size listed twice", list: size(1) + "1 11\r\n" + rest, want: []int{1, 2, 3}, log: "two sizes"},
		{name: "not in LIST", list: size(1) + size(3), want: []int{1, 2, 3}},
		{name: "more in LIST", list: size(1) + rest + "4 40\r\n", want: []int{1, 2, 3}, error: ErrIncomplete},
		{name: "empty LIST", list: "", want: []int{1, 2, 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newFixture(t, mails(3)...)
			x.drop.hook = func(_ int, line string) *response {
				switch {
				case line == "UIDL" && test.uidl != "":
					return &response{text: "+OK\r\n" + test.uidl + ".\r\n"}
				case line == "LIST" && (test.list != "" || test.name == "empty LIST"):
					return &response{text: "+OK\r\n" + test.list + ".\r\n"}
				case strings.HasPrefix(line, "STAT"):
					return &response{text: "+OK many messages\r\n"}
				}
				return nil
			}
			x.run(test.error)
			x.delivered(test.want...)
			if test.log != "" {
				x.logged(test.log)
			}
			for range 2 { // also if the listing is good then
				x.run(test.error)
				x.delivered(test.want...)
				if test.uidl != "" {
					break
				}
				x.drop.hook = nil
				test.error = nil
			}
		})
	}
}

func TestListRefused(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.drop.hook = on("LIST", negative("not today"))
	x.run(nil)
	x.delivered(1, 2, 3)
	x.drop.hook = nil
	x.run(nil)
	x.delivered(1, 2, 3)
	if r := x.record("uid1"); r.Size != int64(len(newMail(1).text)) {
		t.Errorf("size %d was not recorded later", r.Size)
	}
}

// TestOddUniqueIDs fetches messages whose unique-ids RFC 1939 does not permit, and others that it does.
func TestOddUniqueIDs(t *testing.T) {
	list := mails(8)
	for i, uid := range []string{"a b  c", "\xe9\xff", strings.Repeat("x", 2000), `/../"*?[]{}$'<>\`, "%41", ".", "UID", "uid"} {
		list[i].uid = uid
	}
	for _, deletes := range []bool{false, true} {
		x := newFixture(t, list...)
		x.Policy.Delete = deletes
		for range 2 {
			x.run(nil)
			x.delivered(upTo(8)...)
		}
		if deletes && len(x.drop.left()) > 0 {
			t.Errorf("left %q", x.drop.left())
		}
	}
}

func TestEndlessLineInListing(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.drop.hook = on("UIDL", &response{text: "+OK\r\n1\r\n2 " + strings.Repeat("x", 40000) + "\r\n3 uid3\r\n.\r\n"})
	x.run(ErrIncomplete)
	x.delivered(3)
}

func TestCutListings(t *testing.T) {
	for _, verb := range []string{"UIDL", "LIST"} {
		x := newFixture(t, mails(3)...)
		x.drop.hook = func(session int, line string) *response {
			if session == 1 && line == verb {
				return &response{text: "+OK\r\n1 1\r\n2 2", hangUp: true}
			}
			return nil
		}
		if report := x.run(nil); report.Sessions != 2 {
			t.Errorf("%s: %+v", verb, report)
		}
		x.delivered(1, 2, 3)
		x.left(1, 2, 3)
	}
}

func TestTable(t *testing.T) {
	for name, uid := range map[string]func(i int) string{
		"unsorted": func(i int) string { return fmt.Sprint("uid", i) },
		"sorted":   func(i int) string { return fmt.Sprintf("uid%09d", i) },
	} {
		t.Run(name, func(t *testing.T) { testTable(t, uid) })
	}
}

func testTable(t *testing.T, uid func(i int) string) {
	const n = 3*chunkSize + 5
	table, twins := newTable(), 3
	for i := 1; i <= n; i++ {
		if !table.add(2*i, uid(i)) {
			t.Fatalf("add %d", i)
		}
	}
	if sorted := uid(9) < uid(10); table.sorted != sorted {
		t.Errorf("sorted is %v", table.sorted)
	} else if sorted {
		twins = 0
	} else {
		for i := 1; i <= twins; i++ {
			table.add(2*(n+i), uid(i))
		}
	}
	table.indexUIDs()
	for i := 1; i <= n; i++ {
		if at, ok := table.find(2 * i); !ok || at != i-1 {
			t.Fatalf("find %d: %d, %v", 2*i, at, ok)
		}
		if _, ok := table.find(2*i - 1); ok {
			t.Fatalf("found %d", 2*i-1)
		}
	}
	for i := n; i > 0; i-- {
		if at, ok := table.find(2 * i); !ok || at != i-1 {
			t.Fatalf("find %d backwards: %d, %v", 2*i, at, ok)
		}
	}
	for _, step := range []int{1, 7, n - 1} { // in order, and not
		for k := range n {
			i := 1 + k*step%n
			if at := table.withUID(uid(i)); at != i-1 {
				t.Fatalf("unique-id %d at %d", i, at)
			}
		}
	}
	for _, other := range []string{"", "uid", "uid5x", "v"} {
		if at := table.withUID(other); at != -1 {
			t.Errorf("%q at %d", other, at)
		}
	}
	if len(table.twins) != twins || twins > 0 && table.at(n).nth != 1 {
		t.Errorf("twins %v", table.twins)
	}
}
