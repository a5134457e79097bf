package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ratio returns the speed of client k for the large message, relative to the raw socket in the same column, or 0 if
// unknown.
func (b *bench) ratio(c column, k int) float64 {
	o := b.results[c.name]
	limit := slices.IndexFunc(b.clients, func(c client) bool { return c.limit })
	if limit < 0 || o[k].perOctet == 0 {
		return 0
	}
	return o[limit].perOctet / o[k].perOctet
}

// relative returns the time of client k for the small messages, relative to RetrAll to stdout without latency, or 0 if
// unknown.
func (b *bench) relative(c column, k int) float64 {
	unit := slices.IndexFunc(b.clients, func(c client) bool { return c.name == "pop3 RetrAll" && !c.maildir })
	if unit < 0 || b.results[b.small[0].name][unit].seconds == 0 {
		return 0
	}
	return b.results[c.name][k].seconds / b.results[b.small[0].name][unit].seconds
}

func (b *bench) markdown() string {
	var t strings.Builder
	fmt.Fprintf(&t, "# pop3 beside others\n\nMade by `%s` on a machine with %d CPUs; the server ran on it too.\n", b.command, runtime.NumCPU())
	fmt.Fprintf(&t, "Each client was a separate process, and the clients ran one after the other. Medians of %d rounds; a client that took more than %v was run once.\n",
		b.rounds, longRun)
	t.WriteString("The deliveries were compared by SHA-256 with the server's messages. A dash means that the client was not run.\n\n![results](results.svg)\n\n")
	if len(b.skipped) > 0 {
		fmt.Fprintf(&t, "Not installed, and skipped: %s.\n\n", strings.Join(b.skipped, ", "))
	}

	fmt.Fprintf(&t, "## RETR of one message of %d MiB\n\n", b.size)
	t.WriteString("Bytes per second, relative to a program that reads the same socket with a buffer of 64 KiB and discards the data\n" +
		"(over TLS: through crypto/tls). Higher is better. The time of the same client for a message of one line was subtracted from each time.\n")
	fmt.Fprintf(&t, "poplib, Twisted and fetchmail got a message of %d MiB, as they would take minutes. Delivery to a Maildir includes LF line ends and an fsync, for mpop and for this package.\n\n",
		b.size/slowShare)
	b.table(&t, b.large, "", b.ratio, nil)

	fmt.Fprintf(&t, "\n## %d messages of 4 KiB\n\n", b.count)
	t.WriteString("Time at three round trips, relative to RetrAll to stdout without any. Lower is better. Start and login are part of it.\n\n")
	last := b.small[len(b.small)-1]
	b.table(&t, b.small, "round trips at "+last.name, b.relative, func(k int) float64 {
		return b.results[last.name][k].seconds / last.latency.Seconds()
	})
	return t.String()
}

func (b *bench) table(t *strings.Builder, columns []column, extra string, value func(column, int) float64, more func(int) float64) {
	t.WriteString("| client | delivers to |")
	rule := "|---|---|"
	for _, c := range columns {
		t.WriteString(" " + c.name + " |")
		rule += "---:|"
	}
	if more != nil {
		t.WriteString(" " + extra + " |")
		rule += "---:|"
	}
	t.WriteString(" delivered |\n" + rule + "---|\n")
	for k, client := range b.clients {
		fmt.Fprintf(t, "| %s | %s |", client.name, client.target())
		for _, c := range columns {
			t.WriteString(" " + figure(value(c, k)) + " |")
		}
		if more != nil {
			t.WriteString(" " + figure(more(k)) + " |")
		}
		t.WriteString(" " + b.verdict(columns, k) + " |\n")
	}
}

// verdict returns the verdicts on the deliveries of client k, with the columns if they differ.
func (b *bench) verdict(columns []column, k int) string {
	var verdicts []string
	where := make(map[string][]string)
	for _, c := range columns {
		v := b.results[c.name][k].verdict
		if v == "" {
			continue
		}
		if where[v] == nil {
			verdicts = append(verdicts, v)
		}
		where[v] = append(where[v], c.name)
	}
	if len(verdicts) > 1 {
		for i, v := range verdicts {
			verdicts[i] = v + ": " + strings.Join(where[v], ", ")
		}
	}
	if len(verdicts) == 0 {
		return "–"
	}
	return strings.Join(verdicts, "; ")
}

// figure formats x with two significant digits, or as an integer.
func figure(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v >= 10:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.*f", max(1, 1-int(math.Floor(math.Log10(v)))), v)
}

var colours = []string{"#4c566a", "#0b6e4f", "#1f9e77", "#d95f02", "#7570b3", "#e7298a", "#a6761d", "#66a61e", "#377eb8", "#999999"}

// svg draws two panels: the ratios to the raw socket, and time against round trip.
func (b *bench) svg() string {
	var s strings.Builder
	const width, height, top, bottom = 1060, 420, 60, 360
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text := func(x, y float64, anchor, colour, words string) {
		fmt.Fprintf(&s, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, words)
	}
	line := func(x1, y1, x2, y2 float64, colour string) {
		fmt.Fprintf(&s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
	}
	label := func(c client) string {
		if c.maildir {
			return c.name + " → Maildir"
		}
		return c.name
	}

	text(20, 24, "start", "#000", fmt.Sprintf("RETR of %d MiB: speed relative to the raw socket", b.size))
	const left, right, least = 150.0, 500.0, .0005
	at := func(ratio float64) float64 {
		return left + (right-left)*math.Log(max(ratio, least)/least)/math.Log(2/least)
	}
	for _, tick := range []float64{.001, .01, .1, 1} {
		line(at(tick), top-8, at(tick), bottom, "#ddd")
		text(at(tick), bottom+16, "middle", "#555", fmt.Sprint(tick))
	}
	row := (bottom - top) / float64(len(b.clients))
	for k, client := range b.clients {
		y := top + row*(float64(k)+.5)
		text(left-8, y+4, "end", "#000", label(client))
		for i, c := range b.large {
			if r := b.ratio(c, k); r > 0 {
				fmt.Fprintf(&s, `<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s" fill-opacity=".8"/>`+"\n", at(r), y, colours[i+2])
			}
		}
	}
	x := 20.0
	for i, c := range b.large {
		fmt.Fprintf(&s, `<circle cx="%.1f" cy="%d" r="4.5" fill="%s"/>`+"\n", x, height-20, colours[i+2])
		text(x+8, height-16, "start", "#000", c.name)
		x += 30 + 7*float64(len(c.name))
	}

	text(560, 24, "start", "#000", fmt.Sprintf("%d messages of 4 KiB: time (RetrAll at 0 ms = 1) against round trip", b.count))
	most := 10.0
	for _, c := range b.small {
		for k := range b.clients {
			most = max(most, b.relative(c, k))
		}
	}
	height0 := func(v float64) float64 {
		return bottom - (bottom-top)*math.Log(max(v, .5)/.5)/math.Log(most/.5)
	}
	for tick := 1.0; tick <= most; tick *= 10 {
		line(600, height0(tick), 860, height0(tick), "#ddd")
		text(594, height0(tick)+4, "end", "#555", fmt.Sprint(tick))
	}
	across := func(c column) float64 { return 600 + 250*math.Sqrt(float64(c.latency)/float64(20*time.Millisecond)) }
	for _, c := range b.small {
		text(across(c), bottom+16, "middle", "#555", c.name)
	}
	type end struct {
		y      float64
		colour string
		words  string
	}
	var ends []end
	for k, client := range b.clients {
		var points []string
		var e end
		for _, c := range b.small {
			if v := b.relative(c, k); v > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", across(c), height0(v)))
				e = end{height0(v), colours[k%len(colours)], label(client)}
			}
		}
		if len(points) > 0 {
			fmt.Fprintf(&s, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), e.colour)
			ends = append(ends, e)
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return int(math.Copysign(1, a.y-b.y)) })
	y := 0.0
	for _, e := range ends {
		y = max(y+15, e.y) // names must not overlap
		line(852, e.y, 872, y, e.colour)
		text(876, y+4, "start", e.colour, e.words)
	}
	return s.String() + "</svg>\n"
}
