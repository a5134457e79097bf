package pop3test

import (
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseScript(t *testing.T) {
	s, err := ParseScript(`
		# a comment
		S: +OK a\tb\\ \r\n\x41\xFF\0 
		S- part
		S:
		C: STAT 
		C* AUTH\x20
		!tls
		!repeat 3 x
		!repeat 100000000 endless
		!wait 1m30s
		!expect-close
	`)
	if err != nil {
		t.Fatal(err)
	}
	want := []step{
		{line: 3, do: send, text: "+OK a\tb\\ \r\nA\xff\x00 \r\n", times: 1},
		{line: 4, do: send, text: "part", times: 1},
		{line: 5, do: send, text: "\r\n", times: 1},
		{line: 6, do: receive, text: "STAT ", times: 1},
		{line: 7, do: receivePrefix, text: "AUTH ", times: 1},
		{line: 8, do: handshake, times: 1},
		{line: 9, do: repeat, text: "x\r\n", times: 3},
		{line: 10, do: repeat, text: "endless\r\n", times: 1e8},
		{line: 11, do: wait, wait: 90 * time.Second, times: 1},
		{line: 12, do: expectClose, times: 1},
	}
	if !reflect.DeepEqual(s.steps, want) {
		t.Errorf("steps %+v, want %+v", s.steps, want)
	}
	if got, want := s.Octets(), 17+4+2+9+9e8; got != int(want) {
		t.Errorf("%d octets, want %d", got, int(want))
	}
	if s.Cut >= 0 {
		t.Errorf("Cut is %d", s.Cut)
	}

	dos, err := ParseScript("S: +OK\r\n\r\nC: QUIT\r\n")
	if err != nil || len(dos.steps) != 2 || dos.steps[0].text != "+OK\r\n" || dos.steps[1].text != "QUIT" {
		t.Errorf("with CRLF: %+v, %v", dos.steps, err)
	}
}

func TestParseScriptErrors(t *testing.T) {
	repeat := func(times int, text string) string { return fmt.Sprintf("!repeat %d %s", times, text) }
	for transcript, want := range map[string]string{
		"S: +OK\nsay what":               `pop3test: transcript:2: not a line of a transcript: "say what"`,
		"S:+OK":                          "not a line",
		"!close now":                     "not a line",
		`S: \q`:                          `unknown escape \q`,
		`C: DOMAIN\user`:                 `unknown escape \u`,
		`S: \`:                           "lone backslash",
		`S: \x4`:                         "without two digits",
		`S: \x4g`:                        "without two digits",
		"!repeat x y":                    "invalid syntax",
		"!repeat -1 y":                   "negative",
		"!repeat 99999999999999999999 x": "value out of range",
		repeat(math.MaxInt/5, "abc"):     "",
		repeat(math.MaxInt/5+1, "abc"):   "too many octets",
		repeat(math.MaxInt, ""):          "too many octets",
		repeat(math.MaxInt/2-3, "") + "\n!repeat 100 x": "too many octets",
		"!wait":               "invalid duration",
		"!close\nS: +OK":      "nothing can follow",
		"!stall\n# still\nC:": "transcript:3: nothing can follow",
		"!expect-close\n!tls": "nothing can follow",
		"!reset\n!close":      "nothing can follow",
	} {
		_, err := ParseScript(transcript)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", transcript, err, want)
		}
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add("S: +OK\\x20\nC: STAT\n!repeat 2 x\n!close")
	f.Fuzz(func(t *testing.T, transcript string) {
		s, err := ParseScript(transcript)
		if err == nil && s.Octets() < 0 {
			t.Errorf("%q sends %d octets", transcript, s.Octets())
		}
	})
}

// A verdict is a testing.TB for a test that may fail.
type verdict struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (v *verdict) Helper()           {}
func (v *verdict) Cleanup(f func())  { v.cleanups = append(v.cleanups, f) }
func (v *verdict) Fatal(args ...any) { v.errors = append(v.errors, fmt.Sprint(args...)) }
func (v *verdict) Errorf(format string, args ...any) {
	v.errors = append(v.errors, fmt.Sprintf(format, args...))
}

// end ends the test and returns its failures.
func (v *verdict) end() string {
	for _, f := range v.cleanups {
		f()
	}
	return strings.Join(v.errors, "\n")
}

// The actions of a client, and the failure that Play reports, or "".
var plays = []struct {
	name, transcript string
	client           func(c *client)
	want             string
}{
	{"all is well", "S: +OK\nC: STAT\nC* RETR\nS: +OK\nS: .\nC: QUIT\nS: +OK",
		func(c *client) {
			c.talk("S: +OK\nC: STAT\nC: RETR 1\nS: +OK\nS: .\nC: QUIT\nS: +OK")
			c.Close()
		}, ""},
	{"the client is left open", "S: +OK", func(c *client) { c.talk("S: +OK") }, ""},
	{"another line", "S: +OK\nC: STAT", func(c *client) { c.talk("S: +OK\nC: LIST\n!close") },
		`transcript:2: the client sent "LIST", want "STAT"`},
	{"too long a line", "C: STAT", func(c *client) { c.talk("C: STAT 1\n!close") },
		`transcript:1: the client sent "STAT 1", want "STAT"`},
	{"another prefix", "C* AUTH", func(c *client) { c.talk("C: auth\n!close") },
		`transcript:1: the client sent "auth", want "AUTH" and more`},
	{"a bare LF", "C: STAT", func(c *client) { c.talk("C* STAT\\n\n!close") },
		`transcript:1: the client sent "STAT\n", which does not end with CRLF`},
	{"an endless line", "C: STAT", func(c *client) { io.WriteString(c, strings.Repeat("x", 1<<20)) },
		`transcript:1: the client sent an endless line, "` + strings.Repeat("x", 60) + `"..., and not "STAT"`},
	{"hung up for a line", "C: STAT", func(c *client) { c.Close() },
		`transcript:1: the client hung up after "", want "STAT"`},
	{"hung up in a line", "C: STAT", func(c *client) { c.talk("C* ST"); c.Close() },
		`transcript:1: the client hung up after "ST", want "STAT"`},
	{"hung up on a line", "S: +OK\nS: more", func(c *client) { c.talk("S: +OK"); c.Close() },
		`transcript:2: the client hung up before it had read "more\r\n"`},
	{"no line", "S: +OK\nC: STAT", func(c *client) { c.talk("S: +OK") },
		`transcript:2: the client has not sent "STAT"`},
	{"not read", "S: +OK", func(c *client) {},
		`transcript:1: the client has not read "+OK\r\n"`},
	{"more than wanted", "S: +OK", func(c *client) { c.talk("S: +OK\nC: STAT") },
		`transcript:1: the client sent "STAT\r\n" after the end`},
	{"close", "S: +OK\n!close", func(c *client) { c.talk("S: +OK\n!close") }, ""},
	{"reset", "S: +OK\n!reset", func(c *client) { c.talk("S: +OK\n!close") }, ""},
	{"stall", "C: STAT\n!stall", func(c *client) { c.talk("C: STAT\nC: QUIT"); c.Close() }, ""},
	{"stall forever", "C: STAT\n!stall", func(c *client) { c.talk("C: STAT") },
		`transcript:2: the client has not hung up`},
	{"expect close", "S: +OK\n!expect-close", func(c *client) { c.talk("S: +OK"); c.Close() }, ""},
	{"expect close in vain", "S: +OK\n!expect-close", func(c *client) { c.talk("S: +OK") },
		`transcript:2: the client has not hung up`},
	{"expect close, and it talks", "S: +OK\n!expect-close", func(c *client) { c.talk("S: +OK\nC: STAT\n!close") },
		`transcript:2: the client sent "STAT\r\n" instead of closing the connection`},
	{"close expected while the server sends", "!repeat 100000000 1 1\nS: .\n!expect-close",
		func(c *client) { c.talk("S: 1 1\nS: 1 1"); c.Close() }, ""},
	{"close not expected while the server sends", "!repeat 100000000 1 1\nC: NOOP\n!expect-close",
		func(c *client) { c.talk("S: 1 1"); c.Close() },
		`transcript:1: the client hung up before it had read "1 1`},
	{"repeat", "!repeat 40000 1 1\n!repeat 0 x\nS: .", func(c *client) { c.talk(strings.Repeat("S: 1 1\n", 40000) + "S: .") }, ""},
	{"wait", "S: +OK\n!wait 10h\nS: late", func(c *client) {
		c.talk("S: +OK")
		start := time.Now()
		c.SetDeadline(time.Time{})
		c.r.ReadString('\n')
		if d := time.Since(start); d != 10*time.Hour {
			c.t.Errorf("waited %v", d)
		}
	}, ""},
	{"the test ends in wait", "!wait 10h", func(c *client) {}, `transcript:1: the test is over`},
	{"TLS", "S: +OK\nC: STLS\nS: +OK\n!tls\nC: STAT\nS: +OK 0 0\n!close", func(c *client) {
		c.talk("S: +OK\nC: STLS\nS: +OK\n!tls\nC: STAT\nS: +OK 0 0\n!close")
	}, ""},
	{"plaintext after STLS", "C: STLS\nS: +OK\n!tls", func(c *client) {
		c.talk("C* STLS\\r\\nNOOP\\r\\n\nS: +OK")
	}, `transcript:3: the client sent "NOOP\r\n" before the handshake`},
	{"TLS, and gone without reading", "!tls\nC: QUIT", func(c *client) { c.talk("!tls\nC: QUIT"); c.Close() }, ""},
	{"no trust", "!tls\nS: +OK\n!expect-close", func(c *client) {
		if err := tls.Client(c.Conn, &tls.Config{ServerName: "localhost"}).Handshake(); err == nil {
			c.t.Error("the certificate is trusted")
		}
		c.Close()
	}, ""},
	{"no trust, not expected", "!tls\nS: +OK", func(c *client) {
		tls.Client(c.Conn, &tls.Config{ServerName: "localhost"}).Handshake()
		c.Close()
	}, `transcript:1: the client hung up in the handshake: `},
}

func TestPlay(t *testing.T) {
	for _, test := range plays {
		for _, dribble := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", test.name, dribble), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, err := ParseScript(test.transcript)
					if err != nil {
						t.Fatal(err)
					}
					s.Dribble = dribble
					v := new(verdict)
					test.client(newClient(t, s.Play(v)))
					if got := v.end(); !strings.HasPrefix(strings.TrimPrefix(got, "pop3test: "), test.want) || test.want == "" && got != "" {
						t.Errorf("verdict %q, want %q", got, test.want)
					}
				})
			})
		}
	}
}

func TestPlayRefusesMalformedTranscript(t *testing.T) {
	v := new(verdict)
	defer func() {
		recover() // Fatal should not have returned
		if got := v.end(); !strings.Contains(got, "not a line of a transcript") {
			t.Errorf("verdict %q", got)
		}
	}()
	Play(v, "nonsense")
}

// The client receives every byte before the cut, and none after it.
func TestCut(t *testing.T) {
	s, err := ParseScript("S: +OK ready\nC: LIST\nS: +OK\n!repeat 3 1 1\nS: .\nC: QUIT\nS: +OK")
	if err != nil {
		t.Fatal(err)
	}
	const all = "+OK ready\r\n+OK\r\n1 1\r\n1 1\r\n1 1\r\n.\r\n+OK\r\n"
	if n := s.Octets(); n != len(all) {
		t.Fatalf("%d octets, want %d", n, len(all))
	}
	for cut := range s.Octets() + 1 {
		for _, dribble := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := *s
				s.Cut, s.Dribble = cut, dribble
				conn := s.Play(t)
				go func() {
					io.WriteString(conn, "LIST\r\n")
					io.WriteString(conn, "QUIT\r\n")
				}()
				if got, err := io.ReadAll(conn); string(got) != all[:cut] || err != nil {
					t.Errorf("cut at %d: %q, %v", cut, got, err)
				}
			})
		}
	}
}

// With a cut at 0 the client need not have sent its first line.
func TestCutAtOnce(t *testing.T) {
	for _, transcript := range []string{"C: STAT\nS: +OK", "!tls\nS: +OK", "!wait 1h\nS: +OK", ""} {
		s, err := ParseScript(transcript)
		if err != nil {
			t.Fatal(err)
		}
		s.Cut = 0
		newClient(t, s.Play(t)).talk("!close")
	}
}

func TestListen(t *testing.T) {
	s, err := ParseScript("S: +OK ready\nC: QUIT\nS: +OK\n!close")
	if err != nil {
		t.Fatal(err)
	}
	var v verdict
	addr := s.Listen(&v)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	// Data after QUIT does not affect the end.
	newClient(t, conn).talk("S: +OK ready\nC* QUIT\\r\\n" + strings.Repeat("x", 1<<20) + "\nS: +OK\n!close")
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("a second connection")
	}
	if got := v.end(); got != "" {
		t.Error(got)
	}
}

func TestListenEnds(t *testing.T) {
	for _, test := range []struct {
		cut   int
		reset bool
		end   string
		wants bool // a reset
	}{
		{-1, false, "!close", false},
		{-1, false, "!reset", true},
		{3, false, "S: +OK", false},
		{3, true, "S: +OK", true},
		{0, true, "S: +OK", true},
	} {
		s, err := ParseScript("S: +OK\n" + test.end)
		if err != nil {
			t.Fatal(err)
		}
		s.Cut, s.Reset = test.cut, test.reset
		conn, err := net.Dial("tcp", s.Listen(t)) // which may already meet the reset
		if err == nil {
			defer conn.Close()
		}
		for err == nil {
			_, err = conn.Read(make([]byte, 100))
		}
		if reset := err != io.EOF; reset != test.wants { // the error of a reset differs between systems
			t.Errorf("cut %d, reset %t, %s: %v, want a reset: %t", test.cut, test.reset, test.end, err, test.wants)
		}
	}
}

func TestListenWithoutConnection(t *testing.T) {
	defer func(d time.Duration) { grace = d }(grace)
	grace = 0
	s, err := ParseScript("S: +OK")
	if err != nil {
		t.Fatal(err)
	}
	var v verdict
	s.Listen(&v)
	if got := v.end(); !strings.Contains(got, "transcript:1: no client") {
		t.Errorf("verdict %q", got)
	}
}

func TestLoadScript(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(file, []byte("S: +OK\nC: QUIT\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var v verdict
	conn := LoadScript(t, file).Play(&v)
	newClient(t, conn).talk("S: +OK\nC: STAT\n!close")
	if got, want := v.end(), "pop3test: "+file+`:2: the client sent "STAT", want "QUIT"`; got != want {
		t.Errorf("verdict %q, want %q", got, want)
	}
}
