package fetch

import (
	"bytes"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

var mboxTime = time.Date(2026, 11, 6, 1, 22, 38, 0, time.FixedZone("", 3600))

// writeMbox writes a message in chunks.
func writeMbox(t testing.TB, message string, size int) string {
	t.Helper()
	var out bytes.Buffer
	w := newMboxWriter(&out, mboxTime)
	for rest := message; rest != ""; {
		chunk := rest[:min(size, len(rest))]
		rest = rest[len(chunk):]
		if n, err := w.Write([]byte(chunk)); n != len(chunk) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var fromLine = regexp.MustCompile(`(?m)^(>*From )`)

// referenceMbox is the same, simply.
func referenceMbox(message, sender string) string {
	message = strings.ReplaceAll(message, "\r\n", "\n")
	if !strings.HasSuffix(message, "\n") {
		message += "\n"
	}
	return "From " + sender + " Fri Nov  6 00:22:38 2026\n" + fromLine.ReplaceAllString(message, ">$1") + "\n"
}

func TestMboxWriter(t *testing.T) {
	const daemon = "MAILER-DAEMON"
	long := strings.Repeat("a", 2*maxMboxHeader)
	for _, test := range []struct{ message, sender string }{
		{"", daemon},
		{"\r\n", daemon},
		{"body", daemon},
		{"Subject: x\r\n\r\nbody\r\n", daemon},
		{"Return-Path: <joe@example.org>\r\nSubject: x\r\n\r\nbody\r\n", "joe@example.org"},
		{"return-path:joe@example.org\r\n\r\n", "joe@example.org"},
		{"Subject: x\r\nReturn-Path:\r\n\t<joe@example.org>\r\n\r\n", "joe@example.org"},
		{"Return-Path: <first@example.org>\r\nReturn-Path: <second@example.org>\r\n\r\n", "first@example.org"},
		{"Return-Path: <joe@example.org>", "joe@example.org"},
		{"Return-Path: <>\r\n\r\n", daemon},
		{"Return-Path: <joe smith@example.org>\r\n\r\n", daemon},
		{"Return-Path: <j\xf6e@example.org>\r\n\r\n", daemon},
		{"Return-Path: <a\rb@example.org>\r\n\r\n", daemon},
		{"Return-Path: <" + strings.Repeat("x", 400) + ">\r\n\r\n", daemon},
		{"Subject: x\r\n\r\nReturn-Path: <body@example.org>\r\n", daemon},
		{"\r\nReturn-Path: <body@example.org>\r\n", daemon},
		{"X: " + long + "\r\nReturn-Path: <late@example.org>\r\n\r\nbody\r\n", daemon},
		{long, daemon},
		{"From joe\r\nFrom: joe\r\n\r\nFrom joe\r\n>From joe\r\n>>From joe\r\n> From joe\r\nFrom\r\nFrom\tjoe\r\nfrom joe\r\n From joe\r\n", daemon},
		{"\r\nFrom ", daemon},
		{"\r\nFrom", daemon},
		{"\r\nFro\r\nFrom x\r\nF\r\n>\r\n>F\r\n>>>", daemon},
		{"\r\n\nFrom bare\nFrom bare\rFrom not\r\n", daemon},
		{"\r\nFFrom x\r\nF>From x\r\nFFrFroFrom x\r\n", daemon},
		{"\r\n" + strings.Repeat(">", 100_000) + "From x\r\n", daemon},
		{"\x00\r\n\x00From \xff\r\n\r\r\n\r", daemon},
	} {
		want := referenceMbox(test.message, test.sender)
		for _, size := range []int{1, 2, 3, 5, 7, 1000, 1 << 20} {
			if len(test.message) > 1000 && size < 1000 {
				continue
			}
			if got := writeMbox(t, test.message, size); got != want {
				t.Errorf("%.200q in chunks of %d:\n%.200q, want\n%.200q", test.message, size, got, want)
				break
			}
		}
	}
}

// TestMboxWriterMemory checks that neither a long line nor an endless header is buffered.
func TestMboxWriterMemory(t *testing.T) {
	for _, line := range []string{"From joe\r\n", ">", "x", "\r\n", "F"} {
		chunk := []byte(strings.Repeat(line, 32<<10/len(line)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := newMboxWriter(io.Discard, mboxTime)
		for range 1000 {
			w.Write(chunk)
		}
		w.Close()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%q: %d bytes allocated for 32 MB", line, n)
		}
	}
}

func FuzzMboxWriter(f *testing.F) {
	for _, m := range crashMessages() {
		f.Add(m, 3)
	}
	f.Add("\r\nF>From x\r\nFroFrom x\r", 1)
	f.Fuzz(func(t *testing.T, message string, size int) {
		got := writeMbox(t, message, 1+size&15)
		sender, _, _ := strings.Cut(strings.TrimPrefix(got, "From "), " ")
		if want := referenceMbox(message, sender); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
		if messages := parseMbox(t, got+got); len(messages) != 2 || messages[0] != mboxWants(message) || messages[1] != messages[0] {
			t.Errorf("%q comes back as %q", message, messages)
		}
	})
}
