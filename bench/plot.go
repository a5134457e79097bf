package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

var colours = []string{"#4c566a", "#0b6e4f", "#1f9e77", "#d95f02", "#7570b3", "#e7298a", "#a6761d", "#66a61e", "#377eb8", "#999999"}

// The panels of a drawing lie side by side, each half as wide.
const width, height, top, bottom = 1060, 420, 60.0, 360.0

// A drawing is an SVG.
type drawing struct{ strings.Builder }

func newDrawing() *drawing {
	d := new(drawing)
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(d, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	return d
}

func (d *drawing) text(x, y float64, anchor, colour, words string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, words)
}

func (d *drawing) line(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

func (d *drawing) dot(x, y float64, colour string) {
	fmt.Fprintf(d, `<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s" fill-opacity=".8"/>`+"\n", x, y, colour)
}

// legend names colours at the bottom of the panel that begins at x.
func (d *drawing) legend(x float64, names, colours []string) {
	for i, name := range names {
		d.dot(x, height-20, colours[i])
		d.text(x+8, height-16, "start", "#000", name)
		x += 26 + 6.2*float64(len(name))
	}
}

// dots draws the panel that begins at x: rows with a dot for each positive value, on a logarithmic scale from least to
// most. The dots of a row lie apart, each so much lower than the one before.
func (d *drawing) dots(x float64, title string, rows, colours []string, least, most, apart float64, value func(row, i int) float64) {
	d.text(x+20, 24, "start", "#000", title)
	left, right := x+150, x+500
	at := func(v float64) float64 {
		return left + (right-left)*math.Log(max(v, least)/least)/math.Log(most/least)
	}
	for e := math.Ceil(math.Log10(least)); math.Pow(10, e) <= most; e++ {
		tick := math.Pow(10, e)
		d.line(at(tick), top-8, at(tick), bottom, "#ddd")
		d.text(at(tick), bottom+16, "middle", "#555", fmt.Sprintf("%.12g", tick))
	}
	step := (bottom - top) / float64(len(rows))
	for r, name := range rows {
		y := top + step*(float64(r)+.5)
		d.text(left-8, y+4, "end", "#000", name)
		for i, colour := range colours {
			if v := value(r, i); v > 0 {
				d.dot(at(v), y+apart*(float64(i)-float64(len(colours)-1)/2), colour)
			}
		}
	}
}

func (c *client) label() string {
	if c.maildir {
		return c.name + " → Maildir"
	}
	return c.name
}

func names(columns []column) (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// svg draws two panels: the ratios to the raw socket, and time against round trip.
func (b *bench) svg() string {
	d := newDrawing()
	var clients []string
	for _, c := range b.clients {
		clients = append(clients, c.label())
	}
	shades := colours[2 : 2+len(b.large)]
	d.dots(0, fmt.Sprintf("RETR of %d MiB: speed relative to the raw socket", b.size), clients, shades, .0005, 2, 0, func(k, i int) float64 {
		return b.ratio(b.large[i], k)
	})
	d.legend(20, names(b.large), shades)

	d.text(560, 24, "start", "#000", fmt.Sprintf("%d messages of 4 KiB: time (RetrAll at 0 ms = 1) against round trip", b.count))
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
		d.line(600, height0(tick), 860, height0(tick), "#ddd")
		d.text(594, height0(tick)+4, "end", "#555", fmt.Sprint(tick))
	}
	across := func(c column) float64 { return 600 + 250*math.Sqrt(float64(c.latency)/float64(20*time.Millisecond)) }
	for _, c := range b.small {
		d.text(across(c), bottom+16, "middle", "#555", c.name)
	}
	type end struct {
		y      float64
		colour string
		words  string
	}
	var ends []end
	for k := range b.clients {
		var points []string
		var e end
		for _, c := range b.small {
			if v := b.relative(c, k); v > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", across(c), height0(v)))
				e = end{height0(v), colours[k%len(colours)], clients[k]}
			}
		}
		if len(points) > 0 {
			fmt.Fprintf(d, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), e.colour)
			ends = append(ends, e)
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return int(math.Copysign(1, a.y-b.y)) })
	y := 0.0
	for _, e := range ends {
		y = max(y+15, e.y) // names must not overlap
		d.line(852, e.y, 872, y, e.colour)
		d.text(876, y+4, "start", e.colour, e.words)
	}
	return d.String() + "</svg>\n"
}
