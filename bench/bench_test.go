package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(clientMode) != "" || os.Getenv(launchMode) != "" {
		main()
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each client sleeps for a second at its end
	os.Exit(m.Run())
}

// A small run with this program's own clients, which need no installation.
func TestBench(t *testing.T) {
	b := bench{rounds: 1, size: 1, count: 3, limit: time.Minute, dir: t.TempDir(), command: "go test"}
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
			if !c.maildir && (column == "1 ms" || column == "20 ms") {
				want = ""
			}
			if o.verdict != want {
				t.Errorf("%s to %s, %s: %q, want %q", c.name, c.target(), column, o.verdict, want)
			}
		}
	}
	b.checkFiles(t, "RESULTS.md", "results.svg")
}

// A small run with this project's command, and with the other fetchers that are installed.
func TestFetchers(t *testing.T) {
	b := bench{fetch: true, rounds: 1, size: 1, count: 1, limit: time.Minute, dir: os.TempDir(), command: "go test"} // other users cannot enter a t.TempDir
	b.clients = fetchers
	if err := b.pick(false); err != nil {
		t.Fatal(err)
	}
	if err := b.run(func(column) {}); err != nil {
		t.Fatal(err)
	}
	for _, column := range b.mailboxes {
		for k, o := range b.results[column.name] {
			c := b.clients[k]
			if c.lists && !column.old {
				continue
			}
			if o.reason != "" || o.seconds <= 0 || o.cpu <= 0 || o.memory <= 0 {
				t.Errorf("%s, %s: %+v", c.name, column.name, o)
			}
			if (o.verdict == lf || o.verdict == header) == column.old {
				t.Errorf("%s, %s: verdict %q", c.name, column.name, o.verdict)
			}
		}
	}
	b.checkFiles(t, "FETCHERS.md", "fetchers.svg")
}

// checkFiles writes the results, and checks that the plot is XML.
func (b *bench) checkFiles(t *testing.T, table, plot string) {
	t.Helper()
	dir := t.TempDir()
	if err := b.write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, table))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	svg, err := os.Open(filepath.Join(dir, plot))
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

func TestJudgeMaildir(t *testing.T) {
	expected := digestsOf([]string{"Subject: 1\r\n\r\na\r\n\r\nb\r\n", "Subject: 2\r\n\r\nb\r\n"})
	for _, test := range []struct {
		files []string
		want  string
	}{
		{[]string{"Subject: 2\r\n\r\nb\r\n", "Subject: 1\r\n\r\na\r\n\r\nb\r\n"}, same},
		{[]string{"Subject: 2\n\nb\n", "Subject: 1\r\n\r\na\r\n\r\nb\r\n"}, lf},
		{[]string{"Received: x;\n\ty\nSubject: 2\nX: x\n\nb\n", "Subject: 1\n\na\n\nb\n"}, header},
		{[]string{"Subject: 2\n\nb\n"}, "**of 2 messages 1 missing, 0 doubled, 0 changed**"},
		{[]string{"Subject: 2\n\nb\n", "Subject: 1\n\na\n\nb\n", "X: x\nSubject: 2\n\nb\n"}, "**of 2 messages 0 missing, 1 doubled, 0 changed**"},
		{[]string{"Subject: 2\n\nb\n", "Subject: 1\n\na\nb\n"}, "**of 2 messages 1 missing, 0 doubled, 1 changed**"},
		{[]string{"Subject: 2\n\nb\n", "Subject: 1\n\na\n\nb\n", ""}, "**of 2 messages 0 missing, 0 doubled, 1 changed**"},
		{nil, "**of 2 messages 2 missing, 0 doubled, 0 changed**"},
	} {
		j := job{dir: filepath.Join(t.TempDir(), "job")}
		if err := new(client).settle(j); err != nil {
			t.Fatal(err)
		}
		for i, text := range test.files {
			if _, err := j.write(fmt.Sprint("mail/new/", i), text); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := expected.judge(j.mail()); got != test.want || err != nil {
			t.Errorf("%q: %q, %v, want %q", test.files, got, err, test.want)
		}
	}
}

func TestFoundNothing(t *testing.T) {
	j := job{dir: filepath.Join(t.TempDir(), "job")}
	if err := new(client).settle(j); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		commands string
		ok       bool
	}{
		{"USER user,PASS secret,UIDL,LIST,QUIT", true},
		{"USER user,PASS secret,QUIT", false},
		{"USER user,PASS secret,UIDL", false},
		{"USER user,PASS secret,UIDL,TOP 1 0,QUIT", false},
		{"USER user,PASS secret,UIDL,RETR 1,QUIT", false},
	} {
		if err := foundNothing(j.mail(), strings.Split(test.commands, ",")); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.commands, err)
		}
	}
	if _, err := j.write("mail/new/1", "Subject: 1\n\n"); err != nil {
		t.Fatal(err)
	}
	if err := foundNothing(j.mail(), []string{"UIDL"}); err == nil {
		t.Error("no error for a message that was delivered")
	}
}

// A client that takes too long is killed with its children.
func TestLimit(t *testing.T) {
	slow := client{command: func(job) (*exec.Cmd, error) { return exec.Command("sh", "-c", "sleep 100 & wait"), nil }}
	if _, err := slow.run(job{dir: t.TempDir()}, 50*time.Millisecond, nil); !errors.Is(err, errLate) {
		t.Errorf("run returned %v", err)
	}
}

// The memory of this process must not count as that of a client.
func TestMemory(t *testing.T) {
	held := bytes.Repeat([]byte("x"), 256<<20)
	least, err := leastMemory(t.TempDir())
	if err != nil || least <= 0 || least > 128 {
		t.Errorf("a client takes %.1f MiB, %v", least, err)
	}
	runtime.KeepAlive(held)
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
