package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
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
	t.WriteString(b.table(b.large, "", b.ratio, nil))

	fmt.Fprintf(&t, "\n## %d messages of 4 KiB\n\n", b.count)
	t.WriteString("Time at three round trips, relative to RetrAll to stdout without any. Lower is better. Start and login are part of it.\n\n")
	last := b.small[len(b.small)-1]
	t.WriteString(b.table(b.small, "round trips at "+last.name, b.relative, func(k int) float64 {
		return b.results[last.name][k].seconds / last.latency.Seconds()
	}))
	return t.String()
}

// table returns a row for each client: its name, where it delivers to, the values in the columns, one more figure unless
// extra is "", and the verdict.
func (b *bench) table(columns []column, extra string, value func(column, int) float64, more func(int) float64) string {
	head := []string{"client", "delivers to"}
	for _, c := range columns {
		head = append(head, c.name)
	}
	align := "ll" + strings.Repeat("r", len(columns))
	if extra != "" {
		head, align = append(head, extra), align+"r"
	}
	var rows [][]string
	for k, client := range b.clients {
		row := []string{client.name, client.target()}
		for _, c := range columns {
			row = append(row, figure(value(c, k)))
		}
		if extra != "" {
			row = append(row, figure(more(k)))
		}
		rows = append(rows, append(row, b.verdict(columns, k)))
	}
	return grid(align+"l", append(head, "delivered"), rows)
}

// grid returns a table whose columns are aligned to the left or the right, for each l or r of align.
func grid(align string, head []string, rows [][]string) string {
	var t strings.Builder
	line := func(cells []string) { t.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(head)
	t.WriteString("|" + strings.NewReplacer("l", "---|", "r", "---:|").Replace(align) + "\n")
	for _, row := range rows {
		line(row)
	}
	return t.String()
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
