package main

import (
	"encoding/xml"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(clientMode) != "" {
		main()
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each client sleeps for a second at its end
	os.Exit(m.Run())
}

// A small run with this program's own clients, which need no installation.
func TestBench(t *testing.T) {
	b := bench{rounds: 1, size: 1, count: 3, dir: t.TempDir(), command: "go test"}
	b.clients = slices.DeleteFunc(slices.Clone(clients), func(c client) bool { return c.pkg != "" })
	if err := b.run(func(column) {}); err != nil {
		t.Fatal(err)
	}
	for column, outcomes := range b.results {
		for k, o := range outcomes {
			c := b.clients[k]
			if o.seconds <= 0 {
				t.Errorf("%s to %s, %s: no time", c.name, c.target(), column)
			}
			want := map[string]string{"nowhere": "", "stdout": same, "Maildir": lf}[c.target()]
			if column == "1 ms" || column == "20 ms" {
				want = ""
			}
			if o.verdict != want {
				t.Errorf("%s to %s, %s: %q, want %q", c.name, c.target(), column, o.verdict, want)
			}
		}
	}
	dir := t.TempDir()
	if err := b.write(dir); err != nil {
		t.Fatal(err)
	}
	svg, err := os.Open(dir + "/results.svg")
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	d := xml.NewDecoder(svg)
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestJudge(t *testing.T) {
	sent := []string{"S: 1\r\n\r\n.\r\na\r\n", "S: 2\r\n\r\nb\r\n"}
	for _, test := range []struct{ got, want string }{
		{sent[0] + sent[1], same},
		{"S: 1\n\n.\na\nS: 2\n\nb\n", lf},
		{"S: 1\nX: x\n\n.\na\nX: x\nS: 2\n\nb\n", header},
		{"S: 1\n\n..\na\nS: 2\n\nb\n", wrong},
		{sent[0], wrong},
		{sent[0] + sent[1] + "b\r\n", wrong},
		{"", wrong},
	} {
		if got := judge([]byte(test.got), sent); got != test.want {
			t.Errorf("judge(%q) = %q, want %q", test.got, got, test.want)
		}
	}
}

func TestLFWriter(t *testing.T) {
	const text = "a\r\n\r\r\nb\rc\nd\r"
	for size := 1; size <= len(text); size++ {
		var b strings.Builder
		w := &lfWriter{w: &b}
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			if _, err := io.WriteString(struct{ io.Writer }{w}, rest[:min(size, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		if got, want := b.String(), "a\n\r\nb\rc\nd\r"; got != want {
			t.Errorf("%d bytes per write: %q, want %q", size, got, want)
		}
	}
}
