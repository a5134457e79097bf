// Bench compares this package with its alternatives: mpop, fetchmail, curl, Twisted and Python's poplib, each as a
// process, one after the other, on one server. On Debian, as root:
//
//	go run -C bench . -install
//
// It writes RESULTS.md and results.svg. With -fetchers it compares this project's command with other fetchers of mail,
// and writes FETCHERS.md and fetchers.svg. Of times only ratios are written, since they are similar on other machines.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	if how := os.Getenv(launchMode); how != "" {
		if err := runLauncher(how, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if mode := os.Getenv(clientMode); mode != "" {
		if err := runOurs(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	b := bench{clients: clients, limit: 3 * time.Minute}
	flag.BoolVar(&b.fetch, "fetchers", false, "compare fetchers, which remember what they have fetched")
	install := flag.Bool("install", false, "install the clients that are missing, through apt-get")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each client is run, unless one run takes long")
	flag.IntVar(&b.size, "size", 256, "MiB in the large message")
	flag.IntVar(&b.count, "count", 500, "number of small messages; with -fetchers, up to 600 times as many")
	flag.StringVar(&b.dir, "dir", os.TempDir(), "directory for deliveries; use a RAM disk to exclude the disk")
	flag.Parse()
	if b.fetch {
		b.clients, b.limit = fetchers, 90*time.Second
	}
	b.command = strings.Join(append([]string{"go run -C bench ."}, os.Args[1:]...), " ")
	err := b.pick(*install)
	if err == nil {
		err = b.run(func(c column) { fmt.Fprintln(os.Stderr, c.name) })
	}
	if err == nil {
		err = b.write(".")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A bench is one comparison.
type bench struct {
	rounds, size, count int
	fetch               bool          // of fetchers
	limit               time.Duration // for one run of a client
	dir, command        string
	pop3                string // the file of this project's command, or ""
	clients             []client
	skipped             []string
	large, small        []column
	mailboxes           []column             // for fetchers
	floor               float64              // MiB, the least that a client's memory can be
	results             map[string][]outcome // by the name of the column, in the order of clients
}

// pick keeps the clients that are installed, after installing them if requested.
func (b *bench) pick(install bool) error {
	var missing []string
	for _, c := range b.clients {
		if !c.installed() {
			missing = append(missing, strings.Fields(c.pkg)...)
		}
	}
	if install && len(missing) > 0 {
		for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, missing...)} {
			cmd := exec.Command("apt-get", args...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("apt-get %s: %w", args[0], err)
			}
		}
	}
	all := b.clients
	b.clients = nil
	for _, c := range all {
		if c.installed() {
			b.clients = append(b.clients, c)
			continue
		}
		b.skipped = append(b.skipped, c.name)
		fmt.Fprintf(os.Stderr, "%s is skipped: apt-get install %s, or -install\n", c.name, c.pkg)
	}
	return nil
}

var shapes = []struct{ name, unit string }{
	{"base64", strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn", 2)[:76] + "\r\n"},
	{"prose", "The minutes of the last meeting were read. They were approved, with one change.\r\nNobody asked why; it was late.\r\n"},
	{"dot leaders", "Chapter 1 ........................................................... 17\r\n"},
	{"every line a dot", ".\r\n"},
}

func (b *bench) run(progress func(column)) error {
	dir, err := os.MkdirTemp(b.dir, "pop3-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	if b.fetch {
		b.mailboxes = b.cases()
		if b.pop3, err = buildCommand(dir); err != nil {
			return err
		}
		if b.floor, err = leastMemory(dir); err != nil {
			return err
		}
	} else {
		for _, s := range shapes {
			b.large = append(b.large, column{name: s.name, unit: s.unit, count: 1, size: b.size << 20, large: true})
		}
		b.large = append(b.large, column{name: "base64, TLS", unit: shapes[0].unit, count: 1, size: b.size << 20, large: true, tls: true})
		for _, ms := range []int{0, 1, 20} {
			b.small = append(b.small, column{name: fmt.Sprint(ms, " ms"), unit: shapes[0].unit, count: b.count, size: 4 << 10,
				latency: time.Duration(ms) * time.Millisecond})
		}
	}
	b.results = make(map[string][]outcome)
	for _, c := range slices.Concat(b.large, b.small, b.mailboxes) {
		progress(c)
		if b.results[c.name], err = b.measure(c, dir); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) write(dir string) error {
	table, text, plot, svg := "RESULTS.md", b.markdown, "results.svg", b.svg
	if b.fetch {
		table, text, plot, svg = "FETCHERS.md", b.fetchersMarkdown, "fetchers.svg", b.fetchersSVG
	}
	if err := os.WriteFile(filepath.Join(dir, table), []byte(text()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, plot), []byte(svg()), 0o644)
}
