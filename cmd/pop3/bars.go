package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rivo/uniseg"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// bars draws a line for each running account at the bottom of a terminal.
type bars struct {
	w    io.Writer
	size func() (columns, rows int)
	done chan struct{}
	idle sync.WaitGroup

	mu    sync.Mutex
	list  []*bar
	drawn int // lines on the terminal
}

const drawInterval = 100 * time.Millisecond

func newBars(f *os.File) *bars {
	b := &bars{w: f, done: make(chan struct{})}
	b.size = func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns <= 0 || rows <= 0 {
			return 80, 24
		}
		return columns, rows
	}
	b.idle.Go(func() {
		ticker := time.NewTicker(drawInterval)
		defer ticker.Stop()
		for {
			select {
			case <-b.done:
				return
			case <-ticker.C:
				b.mu.Lock()
				b.draw()
				b.mu.Unlock()
			}
		}
	})
	return b
}

// stop takes the lines away for good.
func (b *bars) stop() {
	close(b.done)
	b.idle.Wait()
	b.hide()
}

// add adds a bar. The bars are in the order of place.
func (b *bars) add(account string, place int) *bar {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := newBar(account)
	n.place = place
	i := slices.IndexFunc(b.list, func(other *bar) bool { return other.place > place })
	if i < 0 {
		i = len(b.list)
	}
	b.list = slices.Insert(b.list, i, n)
	return n
}

func (b *bars) remove(old *bar) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = slices.DeleteFunc(b.list, func(n *bar) bool { return n == old })
}

// hide takes the lines away until the function that it returns is called, so that other text can be written.
func (b *bars) hide() (show func()) {
	b.mu.Lock()
	if b.drawn > 0 {
		io.WriteString(b.w, "\r\x1b[J")
		b.drawn = 0
	}
	return b.mu.Unlock
}

// draw draws the lines over the old ones. It leaves the cursor in the first one, so that a ^C echoed by the terminal
// moves nothing.
func (b *bars) draw() {
	columns, rows := b.size()
	columns-- // the last one would wrap
	var out strings.Builder
	list := b.list
	if limit := max(rows-1, 1); len(list) > limit {
		list = list[:limit]
	}
	names := 0
	for _, n := range list {
		names = max(names, uniseg.StringWidth(n.name))
	}
	for i, n := range list {
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(n.line(columns, names) + "\x1b[K")
	}
	if len(list) > 1 {
		fmt.Fprintf(&out, "\x1b[%dA", len(list)-1)
	}
	if len(list) > 0 || b.drawn > 0 {
		clear := ""
		if len(list) < b.drawn {
			clear = "\x1b[J"
		}
		io.WriteString(b.w, "\r"+clear+out.String()+"\r")
	}
	b.drawn = len(list)
}

// A bar is the progress of one account. The package progressbar keeps the rate and the time that is left.
type bar struct {
	name  string
	place int

	mu       sync.Mutex
	phase    string // before there is anything to count
	state    *progressbar.ProgressBar
	messages int // fetched
	total    int
	octets   int64 // of fetched messages, and of the one that is arriving
}

func newBar(name string) *bar {
	return &bar{name: clean(name), phase: "connecting"}
}

// event moves the bar.
func (b *bar) event(e fetch.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Kind {
	case fetch.EventConnecting:
		b.phase = "connecting"
	case fetch.EventConnected:
		b.phase = "listing"
	case fetch.EventPlanned:
		b.phase = ""
		if e.Total == 0 {
			b.phase = "nothing new"
		}
		b.total = b.messages + e.Total
		octets := max(b.octets+e.TotalOctets, 1)
		if b.state == nil {
			b.state = progressbar.NewOptions64(octets, progressbar.OptionSetWriter(io.Discard), progressbar.OptionThrottle(time.Hour))
			b.state.StartWithoutRender()
		}
		b.state.ChangeMax64(octets)
	case fetch.EventData:
		b.octets += e.Octets
		if b.state != nil {
			b.state.Add64(e.Octets)
		}
	case fetch.EventFetched:
		b.messages++
	case fetch.EventRetry:
		b.phase = "waiting " + e.Delay.Round(time.Second).String()
	}
}

// line returns the bar in at most width columns: as much as fits of name, percentage, bar, messages, octets, rate, and
// time left. The names of all bars take up to names columns.
func (b *bar) line(width, names int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names = min(names, max(width/3, min(width, 8)))
	name := cut(b.name, names)
	name += strings.Repeat(" ", max(names-uniseg.StringWidth(name), 0))
	if b.phase != "" || b.state == nil {
		return cut(name+" "+b.phase, width)
	}
	s := b.state.State()
	share := min(max(s.CurrentPercent, 0), 1)
	head := fmt.Sprintf("%s %3.0f%%", name, 100*share)
	const narrowest = 6 // bar, with its brackets
	tail := ""
	rest := width - uniseg.StringWidth(head) - 1
	for _, part := range []string{
		fmt.Sprintf("%d/%d", b.messages, b.total),
		bytesText(b.octets),
		bytesText(int64(s.KBsPerSecond*1024)) + "/s",
		timeLeft(s.SecondsLeft),
	} {
		if rest-len(part)-1 < narrowest+6 {
			break
		}
		tail += " " + part
		rest -= len(part) + 1
	}
	if rest < narrowest {
		return cut(head+tail, width)
	}
	inner := rest - 2
	full := int(share * float64(inner))
	return head + " [" + strings.Repeat("=", full) + strings.Repeat(" ", inner-full) + "]" + tail
}

func timeLeft(seconds float64) string {
	d := time.Duration(min(max(seconds, 0), 359999)) * time.Second
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d:%02d", d/time.Hour, d/time.Minute%60, d/time.Second%60)
	}
	return fmt.Sprintf("%d:%02d", d/time.Minute, d/time.Second%60)
}

// cut shortens a text to width columns.
func cut(s string, width int) string {
	if uniseg.StringWidth(s) <= width {
		return s
	}
	var b strings.Builder
	for state, columns := -1, 0; s != ""; {
		var cluster string
		var w int
		cluster, s, w, state = uniseg.FirstGraphemeClusterInString(s, state)
		if columns += w; columns > max(width, 0) {
			break
		}
		b.WriteString(cluster)
	}
	return b.String()
}
