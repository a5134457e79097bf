package main

import (
	"fmt"
	"math"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// toFirst returns a measure of client k relative to the first client in the same column, or 0 if unknown.
func (b *bench) toFirst(c column, k int, measure func(outcome) float64) float64 {
	o := b.results[c.name]
	if measure(o[0]) == 0 {
		return 0
	}
	return measure(o[k]) / measure(o[0])
}

func (b *bench) slowdown(c column, k int) float64 {
	return b.toFirst(c, k, func(o outcome) float64 { return o.seconds })
}

func (b *bench) work(c column, k int) float64 {
	return b.toFirst(c, k, func(o outcome) float64 { return o.cpu })
}

func (b *bench) memory(c column, k int) float64 { return b.results[c.name][k].memory }

func (b *bench) fetchersMarkdown() string {
	var t strings.Builder
	fmt.Fprintf(&t, "# pop3 fetch beside other fetchers\n\nMade by `%s` on a machine with %d CPUs; the server ran on it too.\n", b.command, runtime.NumCPU())
	fmt.Fprintf(&t, "Each fetcher was a separate process, with a state of its own, and the fetchers ran one after the other. Medians of %d rounds; a fetcher that took more than %v was run once.\n",
		b.rounds, longRun)
	fmt.Fprintf(&t, "Messages have 4 KiB, except in one column, and stay on the server. Each fetcher delivers to a Maildir: fetchmail by procmail, the others by themselves. Old messages are those that the state\n"+
		"says have been fetched: nothing is to be done but to find that out. The last client only reads the two listings from the socket, and discards them.\n\n![results](fetchers.svg)\n\n")
	if v := b.versions(); v != "" {
		fmt.Fprintf(&t, "Packages: %s.\n\n", v)
	}
	if len(b.skipped) > 0 {
		fmt.Fprintf(&t, "Not installed, and skipped: %s.\n\n", strings.Join(b.skipped, ", "))
	}
	notes := new(footnotes)
	fmt.Fprintf(&t, "## Time\n\nRelative to %s in the same column. Lower is better. The files were compared by SHA-256 with the server's messages, without the header fields that a fetcher had added: unless the last column says otherwise,\n"+
		"each message was there, and once.\n\n%s\n", b.clients[0].name, b.fetcherTable(b.slowdown, notes, true))
	if k := slices.IndexFunc(b.clients, func(c client) bool { return c.lists }); k >= 0 {
		for _, c := range b.mailboxes {
			if v := b.slowdown(c, k); v > 0 {
				fmt.Fprintf(&t, "%s, %s: %s times as long as the %s.\n", b.clients[0].name, c.name, figure(1/v), b.clients[k].name)
			}
		}
		t.WriteString("\n")
	}
	fmt.Fprintf(&t, "## CPU time\n\nOf the fetcher and its children, relative to %s in the same column.\n\n%s\n", b.clients[0].name, b.fetcherTable(b.work, notes, false))
	fmt.Fprintf(&t, "## Memory\n\nMiB, the peak of the largest process of the fetcher, as the kernel gives it for a child that has ended. It is at least that of the program\n"+
		"that starts the fetchers, %s MiB here.\n\n%s", figure(b.floor), b.fetcherTable(b.memory, notes, false))
	return t.String() + notes.String()
}

// fetcherTable returns a row for each client with its values, a dash and a note where it failed, and the verdict if
// requested.
func (b *bench) fetcherTable(value func(column, int) float64, notes *footnotes, verdict bool) string {
	head, align := append([]string{"client"}, names(b.mailboxes)...), "l"+strings.Repeat("r", len(b.mailboxes))
	if verdict {
		head, align = append(head, "delivered"), align+"l"
	}
	var rows [][]string
	for k, client := range b.clients {
		row := []string{client.name}
		for _, c := range b.mailboxes {
			row = append(row, figure(value(c, k))+notes.mark(b.results[c.name][k].reason))
		}
		if verdict {
			row = append(row, b.verdict(b.mailboxes, k))
		}
		rows = append(rows, row)
	}
	return grid(align, head, rows)
}

// footnotes are the different reasons for missing figures.
type footnotes []string

// mark returns the mark of a note, which is added if it is new, or "" without one.
func (f *footnotes) mark(note string) string {
	if note == "" {
		return ""
	}
	i := slices.Index(*f, note)
	if i < 0 {
		i = len(*f)
		*f = append(*f, note)
	}
	return fmt.Sprintf("<sup>%c</sup>", 'a'+i)
}

func (f *footnotes) String() string {
	var t strings.Builder
	for _, note := range *f {
		fmt.Fprintf(&t, "\n%s %s.\n", f.mark(note), note)
	}
	return t.String()
}

// versions returns the Debian packages of the clients with their versions, or "" if they are unknown.
func (b *bench) versions() string {
	args := []string{"-W", "-f", "${Package} ${Version}\n"}
	for _, c := range b.clients {
		args = append(args, strings.Fields(c.pkg)...)
	}
	out, err := exec.Command("dpkg-query", args...).Output()
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ", ")
}

// fetchersSVG draws two panels: time relative to the first fetcher, and memory.
func (b *bench) fetchersSVG() string {
	d := newDrawing()
	var clients []string
	for _, c := range b.clients {
		clients = append(clients, c.name)
	}
	var shades []string
	for k := range b.clients {
		shades = append(shades, colours[[]int{1, 3, 4, 8, 5, 0}[k]])
	}
	panel := func(x float64, title string, value func(column, int) float64) {
		least, most := math.Inf(1), 0.0
		for _, c := range b.mailboxes {
			for k := range b.clients {
				if v := value(c, k); v > 0 {
					least, most = min(least, v), max(most, v)
				}
			}
		}
		d.dots(x, title, names(b.mailboxes), shades, least*.8, most*1.25, 6, func(row, k int) float64 { return value(b.mailboxes[row], k) })
	}
	panel(0, "Time relative to "+b.clients[0].name, b.slowdown)
	panel(width/2, "Peak memory in MiB", b.memory)
	d.legend(20, clients, shades)
	d.legend(width/2+20, clients, shades)
	return d.String() + "</svg>\n"
}
