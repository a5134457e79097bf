package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"github.com/seed-5b1d5243/pop3/fetch"
)

func testBar(name string) *bar {
	b := newBar(name)
	b.event(fetch.Event{Kind: fetch.EventConnecting})
	b.event(fetch.Event{Kind: fetch.EventConnected})
	b.event(fetch.Event{Kind: fetch.EventPlanned, Total: 340, TotalOctets: 1_000_000})
	b.event(fetch.Event{Kind: fetch.EventData, Octets: 420_000})
	b.event(fetch.Event{Kind: fetch.EventFetched})
	return b
}

func TestBarLine(t *testing.T) {
	b := testBar("work")
	for width, want := range map[int]string{
		79: "work  42% [============                 ] 1/340 420.0 kB",
		39: "work  42% [========          ] 1/340",
		19: "work  42% [==     ]",
		10: "work  42%",
		3:  "wor",
		0:  "",
	} {
		got := b.line(width, 4)
		if width == 79 { // rate and time left depend on the clock
			if i := strings.Index(got, " kB"); i < 0 || !strings.HasPrefix(got, "work  42% [=") || uniseg.StringWidth(got) != 79 || !strings.Contains(got, "/s ") {
				t.Errorf("%q", got)
			}
			continue
		}
		if width == 39 {
			if uniseg.StringWidth(got) > 39 || !strings.HasPrefix(got, "work  42% [") || !strings.Contains(got, "] 1/340") {
				t.Errorf("%q", got)
			}
			continue
		}
		if got != want {
			t.Errorf("width %d: %q, want %q", width, got, want)
		}
	}
	for _, name := range []string{"", "a", "a-very-long-name@pop.example.org:1100", "日本語のアカウント名はとても長いです", "e\u0301\u0301\u0301x"} {
		for _, b := range []*bar{newBar(name), testBar(name)} {
			for width := range 200 {
				if got := b.line(width, 30); uniseg.StringWidth(got) > width || strings.ContainsAny(got, "\r\n\x1b") {
					t.Errorf("width %d: %q has %d columns", width, got, uniseg.StringWidth(got))
				}
			}
		}
	}
}

func TestBarPhases(t *testing.T) {
	b := newBar("a")
	line := func() string { return b.line(60, 1) }
	if line() != "a connecting" {
		t.Errorf("%q", line())
	}
	b.event(fetch.Event{Kind: fetch.EventConnected})
	if line() != "a listing" {
		t.Errorf("%q", line())
	}
	b.event(fetch.Event{Kind: fetch.EventPlanned})
	if line() != "a nothing new" {
		t.Errorf("%q", line())
	}
	b = testBar("a")
	b.event(fetch.Event{Kind: fetch.EventRetry, Delay: 90 * time.Second, Err: errors.New("lost")})
	if line() != "a waiting 1m30s" {
		t.Errorf("%q", line())
	}
	// Another session fetches the remaining messages, which have become larger.
	b.event(fetch.Event{Kind: fetch.EventPlanned, Total: 339, TotalOctets: 580_000})
	b.event(fetch.Event{Kind: fetch.EventData, Octets: 10_000_000})
	if got := line(); !strings.Contains(got, "a 100% [=") {
		t.Errorf("%q", got)
	}
}

// A screen is a terminal that knows the sequences that bars use.
type screen struct {
	lines  []string
	row    int
	column int
	t      *testing.T
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		for len(s.lines) <= s.row {
			s.lines = append(s.lines, "")
		}
		var up int
		switch {
		case text[0] == '\n':
			s.row++
			s.column = 0
			text = text[1:]
		case text[0] == '\r':
			s.column = 0
			text = text[1:]
		case strings.HasPrefix(text, "\x1b[K"):
			s.lines[s.row] = s.lines[s.row][:min(s.column, len(s.lines[s.row]))]
			text = text[3:]
		case strings.HasPrefix(text, "\x1b[J"):
			s.lines = s.lines[:s.row+1]
			s.lines[s.row] = s.lines[s.row][:min(s.column, len(s.lines[s.row]))]
			text = text[3:]
		case text[0] == '\x1b':
			if _, err := fmt.Sscanf(text, "\x1b[%dA", &up); err != nil || up > s.row {
				s.t.Errorf("sequence %.10q in row %d", text, s.row)
			}
			s.row -= up
			text = text[strings.Index(text, "A")+1:]
		default:
			line := []byte(s.lines[s.row])
			for len(line) <= s.column {
				line = append(line, ' ')
			}
			line[s.column] = text[0]
			s.lines[s.row] = string(line)
			s.column++
			text = text[1:]
		}
	}
	return len(p), nil
}

func (s *screen) String() string {
	return strings.TrimRight(strings.Join(s.lines, "\n"), "\n")
}

func TestBarsDraw(t *testing.T) {
	s := &screen{t: t}
	rows := 24
	b := &bars{w: s, size: func() (int, int) { return 20, rows }, done: make(chan struct{})}
	draw := func(want string) {
		t.Helper()
		b.mu.Lock()
		b.draw()
		b.mu.Unlock()
		if got := s.String(); got != want {
			t.Errorf("screen\n%s\nwant\n%s", got, want)
		}
	}
	draw("")
	one, two := b.add("one", 1), b.add("two", 2)
	draw("one connecting\ntwo connecting")
	one.event(fetch.Event{Kind: fetch.EventConnected})
	draw("one listing\ntwo connecting")

	v := &view{verb: "fetch", out: s, err: s, bars: b}
	v.problem("", "a \x1bproblem")
	draw("pop3 fetch: a \\x1bproblem\none listing\ntwo connecting")
	b.remove(one)
	draw("pop3 fetch: a \\x1bproblem\ntwo connecting")
	three := b.add("three", 0)
	draw("pop3 fetch: a \\x1bproblem\nthree connecting\ntwo   connecting")
	rows = 2
	draw("pop3 fetch: a \\x1bproblem\nthree connecting")
	b.remove(two)
	b.remove(three)
	draw("pop3 fetch: a \\x1bproblem")
	v.info("", "end")
	draw("pop3 fetch: a \\x1bproblem\nend")
}

func TestTimeLeft(t *testing.T) {
	for seconds, want := range map[float64]string{-1: "0:00", 0: "0:00", 61: "1:01", 3599: "59:59", 3661: "1:01:01", 1e300: "99:59:59"} {
		if got := timeLeft(seconds); got != want {
			t.Errorf("%v: %q, want %q", seconds, got, want)
		}
	}
}
