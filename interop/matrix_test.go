package interop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-5b1d5243/pop3/interop/servers"
)

// matrix collects the results of the cases by server.
type matrix struct {
	mu    sync.Mutex
	cells map[[2]string]cell // server, case
}

type cell struct {
	mark  string
	notes []string
}

func (m *matrix) set(server, name string, e *env) {
	c := cell{"yes", e.notes}
	switch {
	case e.Failed():
		c.mark = "**FAILS**"
	case e.missing:
		c.mark = "–"
	case e.Skipped():
		c.mark = "not run"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cells == nil {
		m.cells = make(map[[2]string]cell)
	}
	m.cells[[2]string{server, name}] = c
}

// write makes a Markdown table; the notes go below it, numbered.
func (m *matrix) write(t *testing.T, file string) {
	t.Helper()
	var table strings.Builder
	var notes []string
	table.WriteString("|")
	for _, name := range servers.Names() {
		table.WriteString(" | " + name)
	}
	table.WriteString(" |\n|---" + strings.Repeat("|---", len(servers.Names())) + "|\n")
	for _, tc := range testCases {
		table.WriteString("| " + tc.name)
		for _, name := range servers.Names() {
			c, ok := m.cells[[2]string{name, tc.name}]
			if !ok || c.mark == "not run" {
				t.Fatalf("the matrix needs every server and every case: %s, %s is missing", name, tc.name)
			}
			var refs []string
			for _, note := range c.notes {
				i := slices.Index(notes, note)
				if i < 0 {
					i = len(notes)
					notes = append(notes, note)
				}
				refs = append(refs, fmt.Sprint(i+1))
			}
			table.WriteString(" | " + c.mark)
			if refs != nil {
				table.WriteString(" <sup>" + strings.Join(refs, " ") + "</sup>")
			}
		}
		table.WriteString(" |\n")
	}
	var b strings.Builder
	b.WriteString("# The library against real servers\n\n" +
		"Written by `go test -run TestServers . -update`. “yes”: done by the library at this server, and verified; “–”: the server has no such thing.\n\n" + table.String() + "\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, note)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
