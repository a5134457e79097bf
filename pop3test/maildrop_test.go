package pop3test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
)

// texts contain the special cases at the start and end of a line.
var texts = map[string]string{
	"":                         ".\r\n",
	"\r\n":                     "\r\n.\r\n",
	".":                        "..\r\n.\r\n",
	".\r\n":                    "..\r\n.\r\n",
	"..\r\n.\r\n":              "...\r\n..\r\n.\r\n",
	"a.\r\n.b":                 "a.\r\n..b\r\n.\r\n",
	"a\n.b\n":                  "a\n.b\n\r\n.\r\n",
	"a\r.b\r":                  "a\r.b\r\r\n.\r\n",
	"\r\r\n.\r\n":              "\r\r\n..\r\n.\r\n",
	"\n.\r\n.\r\r\n.":          "\n.\r\n..\r\r\n..\r\n.\r\n",
	"\x00\xff.\r\n.\x00\r\n\n": "\x00\xff.\r\n..\x00\r\n\n\r\n.\r\n",
}

// splits calls f with text cut in two at every place, and byte by byte.
func splits(text string, f func(parts ...string)) {
	for i := range len(text) + 1 {
		f(text[:i], text[i:])
	}
	f(strings.Split(text, "")...)
}

func TestDotWriter(t *testing.T) {
	for text, want := range texts {
		splits(text, func(parts ...string) {
			var buf bytes.Buffer
			w := bufio.NewWriter(&buf)
			opened := 0
			d := &dotWriter{w: w, open: func() { opened++ }}
			for _, part := range parts {
				if n, err := io.WriteString(d, part); n != len(part) || err != nil {
					t.Errorf("%q: %d octets written, %v", part, n, err)
				}
			}
			d.Close()
			w.Flush()
			if got := buf.String(); got != want || opened != 1 {
				t.Errorf("%q: %q, want %q; opened %d times", parts, got, want, opened)
			}
		})
		if got := string(stuffed(text)); got != want {
			t.Errorf("stuffed(%q) is %q, want %q", text, got, want)
		}
	}
}

func FuzzDotWriter(f *testing.F) {
	for text := range texts {
		f.Add([]byte(text), 1)
	}
	dotted := regexp.MustCompile(`(?s)^\.|\r\n\.`)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		want := string(dotted.ReplaceAllFunc(text, func(m []byte) []byte { return append(m, '.') }))
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		want += ".\r\n"
		at = max(0, min(at, len(text)))
		var buf bytes.Buffer
		w := bufio.NewWriterSize(&buf, 16)
		d := &dotWriter{w: w, open: func() {}}
		d.Write(text[:at])
		d.Write(text[at:])
		d.Close()
		w.Flush()
		if got := buf.String(); got != want {
			t.Errorf("%q at %d: %q, want %q", text, at, got, want)
		}
	})
}

func TestTopWriter(t *testing.T) {
	for _, test := range []struct {
		text  string
		lines int
		want  string
	}{
		{"H: 1\r\n\r\na\r\nb\r\nc\r\n", 0, "H: 1\r\n\r\n"},
		{"H: 1\r\n\r\na\r\nb\r\nc\r\n", 2, "H: 1\r\n\r\na\r\nb\r\n"},
		{"H: 1\r\n\r\na\r\nb\r\nc\r\n", 9, "H: 1\r\n\r\na\r\nb\r\nc\r\n"},
		{"H: 1\r\n\r\n\r\n\r\nc\r\n", 1, "H: 1\r\n\r\n\r\n"},
		{"\r\na\r\n", 0, "\r\n"},
		{"H: 1\r\nH: 2\r\n", 0, "H: 1\r\nH: 2\r\n"},
		{"H: 1\n\n\r\n\r\na\r\n", 0, "H: 1\n\n\r\n\r\n"},
		{"H: 1\r\n\n\r\n\r\na\r\n", 0, "H: 1\r\n\n\r\n\r\n"},
		{"\r\r\n\r\na\r\n", 0, "\r\r\n\r\n"},
		{"H\r\n\r\na\nb\r\nc\r\n", 1, "H\r\n\r\na\nb\r\n"},
		{"H\r\n\r\na\rb\r\nc\r\n", 1, "H\r\n\r\na\rb\r\n"},
		{"H\r\n\r\nno end", 1, "H\r\n\r\nno end"},
		{"", 1, ""},
	} {
		splits(test.text, func(parts ...string) {
			var buf strings.Builder
			w := &topWriter{w: &buf, lines: test.lines}
			for _, part := range parts {
				if _, err := io.WriteString(w, part); err != nil && (err != errEnough || !w.full()) {
					t.Fatal(err)
				}
			}
			if got := buf.String(); got != test.want {
				t.Errorf("%d lines of %q: %q, want %q", test.lines, parts, got, test.want)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	texts := []string{"same\r\n", "same\r\n", "no end", "", "bare\n"}
	m, again := Messages(texts...), Messages(texts...)
	if n := m.Count(); n != len(texts) {
		t.Fatalf("%d messages, want %d", n, len(texts))
	}
	wellFormed := regexp.MustCompile(`^[!-~]{1,70}$`)
	seen := make(map[string]bool)
	for i, want := range []string{"same\r\n", "same\r\n", "no end\r\n", "", "bare\n\r\n"} {
		n := i + 1
		var got strings.Builder
		if err := m.WriteMessage(&got, n); err != nil || got.String() != want {
			t.Errorf("message %d is %q, %v; want %q", n, got.String(), err, want)
		}
		if size := m.Size(n); size != int64(len(want)) {
			t.Errorf("message %d has %d octets, want %d", n, size, len(want))
		}
		uid := m.UID(n)
		if !wellFormed.MatchString(uid) || seen[uid] {
			t.Errorf("message %d has the unique-id %q", n, uid)
		}
		seen[uid] = true
		if other := again.UID(n); other != uid {
			t.Errorf("message %d has the unique-id %q, then %q", n, uid, other)
		}
	}
}

func TestGenerated(t *testing.T) {
	made := 0
	g := &Generated{N: 3, Text: func(n int) string {
		made++
		return fmt.Sprintf("Subject: %d\r\n\r\n.\r\n", n)
	}}
	if got := g.Size(3); got != 17 || made != 1 {
		t.Errorf("size %d after %d messages made, want 17 after 1", got, made)
	}
	g.SizeOf = func(n int) int64 { return int64(100 * n) }
	g.UIDOf = func(n int) string { return strings.Repeat("u", n) }
	s := NewUnstartedServer(g)
	defer s.Close()
	pipe(t, s).talk(login + `
		C: STAT
		S: +OK 3 600
		C: LIST
		S: +OK 3 messages
		S: 1 100
		S: 2 200
		S: 3 300
		S: .
		C: UIDL
		S: +OK 3 messages
		S: 1 u
		S: 2 uu
		S: 3 uuu
		S: .
		C: TOP 2 0
		S: +OK message follows
		S: Subject: 2
		S:
		S: .
		C: RETR 3
		S: +OK message follows
		S: Subject: 3
		S:
		S: ..
		S: .
	` + quit)
	if made != 3 {
		t.Errorf("%d messages made, want 3", made)
	}
}

// growing is a Maildrop to which mail comes.
type growing struct {
	Maildrop
	count int
}

func (g *growing) Count() int { return g.count }

func TestNewMail(t *testing.T) {
	g := &growing{three(), 2}
	s := NewUnstartedServer(g)
	defer s.Close()
	c := pipe(t, s)
	c.talk(login)
	g.count = 3
	c.talk("C: STAT\nS: +OK 2 56\nC: RETR 3\nS: -ERR no such message\nC: DELE 1\nS: +OK message deleted" + quit)
	pipe(t, s).talk(login + "C: STAT\nS: +OK 2 59" + quit)
}

// benchmark repeatedly sends command and reads the response.
func benchmark(b *testing.B, m Maildrop, command string) {
	s := NewServer(m)
	defer s.Close()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 256<<10)
	answer := func(command, end string) (size int) {
		io.WriteString(conn, command)
		var tail []byte
		for !bytes.HasSuffix(tail, []byte(end)) {
			n, err := conn.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			size += n
			tail = append(tail, buf[max(0, n-8):n]...)
			tail = tail[max(0, len(tail)-8):]
		}
		return size
	}
	answer("", "\r\n")
	answer("USER user\r\n", "\r\n")
	answer("PASS secret\r\n", "\r\n")
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(answer(command+"\r\n", "\r\n.\r\n")))
	}
}

func BenchmarkList(b *testing.B) {
	benchmark(b, &Generated{N: 1e6, SizeOf: func(n int) int64 { return int64(n) }}, "LIST")
}

func BenchmarkUIDL(b *testing.B) { benchmark(b, &Generated{N: 1e6}, "UIDL") }

func BenchmarkRetr(b *testing.B) {
	base64 := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 64<<20/78)
	dots := strings.Repeat("..\r\n", 64<<20/4)
	for name, m := range map[string]Maildrop{
		"base64":           Messages(base64),
		"base64/generated": Generate(1, func(int) string { return base64 }),
		"dots":             Messages(dots),
		"dots/generated":   Generate(1, func(int) string { return dots }),
		"4KiB":             Messages(base64[:4096]),
	} {
		b.Run(name, func(b *testing.B) { benchmark(b, m, "RETR 1") })
	}
}
