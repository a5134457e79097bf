package pop3

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

func TestGreeting(t *testing.T) {
	for _, test := range []struct {
		name, transcript string
		check            func(t *testing.T, err error)
	}{
		{"-ERR", "S: -ERR [IN-USE] too many", func(t *testing.T, err error) {
			refusedWith("greeting", "too many")(t, err)
			if refused := new(ServerError); !errors.As(err, &refused) || refused.Code != CodeInUse {
				t.Errorf("error %v", err)
			}
		}},
		{"nothing", "!close", failsWith(io.ErrUnexpectedEOF)},
		{"cut", "S- +OK rea\n!close", failsWith(io.ErrUnexpectedEOF)},
		{"cut before LF", `S- +OK ready\r` + "\n!close", failsWith(io.ErrUnexpectedEOF)},
		{"another protocol", "S: 220 mail.example.org ESMTP\n!expect-close", nil},
		{"IMAP", "S: * OK IMAP4rev1\n!expect-close", nil},
		{"+OKAY", "S: +OKAY\n!expect-close", nil},
		{"lower case", "S: +ok ready\n!expect-close", nil},
		{"a challenge", "S: + YQ==\n!expect-close", nil},
		{"blank before", "S:  +OK\n!expect-close", nil},
		{"empty line", "S: \n!expect-close", nil},
		{"bare LF", `S- +OK ready\n` + "\n!expect-close", nil},
		{"a TLS alert", `S- \x15\x03\x01\0\x02\x02\n` + "\n!expect-close", nil},
		{"a line too long", "S: +OK " + strings.Repeat("x", 16384-3) + "\n!expect-close", failsWith(ErrLineTooLong)},
		{"a line without end", "S- " + strings.Repeat("x", 20000) + "\n!expect-close", failsWith(ErrLineTooLong)},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := pop3test.Play(t, test.transcript)
			c, err := NewClient(background, conn, nil)
			if c != nil || err == nil {
				t.Fatalf("NewClient = %v, %v", c, err)
			}
			if test.check != nil {
				test.check(t, err)
			} else {
				wantProtocolError(t, err)
			}
			if _, err := conn.Write([]byte("x")); err == nil {
				t.Error("the connection is still open")
			}
		})
	}
	for line, text := range map[string]string{
		`+OK`:                               "",
		`+OK `:                              "",
		`+OK\tready`:                        "ready",
		`+OK   ready `:                      "ready ",
		`+OK \xff\0`:                        "\xff\x00",
		"+OK " + strings.Repeat("x", 16380): strings.Repeat("x", 16380),
	} {
		conn := pop3test.Play(t, "S: "+line)
		if c := connect(t, nil, conn); c.Greeting() != text {
			t.Errorf("greeting %q, want %q", c.Greeting(), text)
		}
	}
}

// TestStatusLines checks that a line that is neither +OK nor -ERR closes the session, since the position in the
// protocol is unknown.
func TestStatusLines(t *testing.T) {
	for _, test := range []struct{ name, line, shown string }{
		{"+OKAY", "S: +OKAY", "+OKAY"},
		{"lower case", "S: +ok", "+ok"},
		{"mixed case", "S: -Err", "-Err"},
		{"-ERROR", "S: -ERROR", "-ERROR"},
		{"no word", "S: ", ""},
		{"blank before", "S:  +OK", " +OK"},
		{"a listing line", "S: 1 120", "1 120"},
		{"the terminator", "S: .", "."},
		{"a challenge", "S: + PDFAMj4=", "+ PDFAMj4="},
		{"bare LF", `S- +OK\n`, "+OK"},
		{"bare LF, more", `S- +OK\n+OK\r\n`, "+OK"},
		{"bare CR", `S: +OK\r+OK`, "+OK\r+OK"},
		{"NUL", `S: +OK\0`, "+OK\x00"},
		{"HTTP", "S: HTTP/1.1 400 Bad Request", "HTTP/1.1 400 Bad Request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialogue(t, nil, "\nC: DELE 1\n"+test.line+"\n!expect-close")
			err := c.Dele(background, 1)
			protocol := wantProtocolError(t, err)
			if protocol.Command != "DELE 1" || protocol.Line != test.shown || protocol.Reason == "" {
				t.Errorf("error %#v, want one of DELE 1 with the line %q", protocol, test.shown)
			}
			err = c.Noop(background)
			wantError(t, err, ErrClosed, net.ErrClosed)
			wantProtocolError(t, err)
		})
	}
}

// TestMalformedText checks that a +OK whose text is malformed is a ProtocolError, and that the session stays in sync.
func TestMalformedText(t *testing.T) {
	stat := func(c *Client) (any, error) {
		n, size, err := c.Stat(background)
		return [2]int64{int64(n), size}, err
	}
	size := func(c *Client) (any, error) { return c.Size(background, 2) }
	uid := func(c *Client) (any, error) { return c.UID(background, 2) }
	for _, test := range []struct {
		command string
		do      func(c *Client) (any, error)
		text    string
		want    any // if nil, a ProtocolError
	}{
		{"STAT", stat, "2 320", [2]int64{2, 320}},
		{"STAT", stat, "0 0", [2]int64{0, 0}},
		{"STAT", stat, "2  320 ", [2]int64{2, 320}},
		{"STAT", stat, "2 320 octets", [2]int64{2, 320}},
		{"STAT", stat, "2\\t320\\t7", [2]int64{2, 320}},
		{"STAT", stat, "0002 00320", [2]int64{2, 320}},
		{"STAT", stat, "2 9223372036854775807", [2]int64{2, 1<<63 - 1}},
		{"STAT", stat, "", nil},
		{"STAT", stat, "2", nil},
		{"STAT", stat, "2 ", nil},
		{"STAT", stat, "two 320", nil},
		{"STAT", stat, "2 many", nil},
		{"STAT", stat, "2 320octets", nil},
		{"STAT", stat, "-2 320", nil},
		{"STAT", stat, "2 -320", nil},
		{"STAT", stat, "+2 320", nil},
		{"STAT", stat, "2 3e2", nil},
		{"STAT", stat, "0x2 320", nil},
		{"STAT", stat, "2 9223372036854775808", nil},
		{"STAT", stat, "9223372036854775808 1", nil},
		{"STAT", stat, "18446744073709551618 1", nil},
		{"STAT", stat, "2,320", nil},
		{"STAT", stat, "\\xd9\\xa2 320", nil},
		{"STAT", stat, "2 320\\0", nil},

		{"LIST 2", size, "2 200", int64(200)},
		{"LIST 2", size, "2 200 more", int64(200)},
		{"LIST 2", size, "2 0", int64(0)},
		{"LIST 2", size, "2\\t  1099511627776", int64(1 << 40)},
		{"LIST 2", size, "  2 200 ", int64(200)},
		{"LIST 2", size, "", nil},
		{"LIST 2", size, "2", nil},
		{"LIST 2", size, "200", nil},
		{"LIST 2", size, "1 200", nil},
		{"LIST 2", size, "20 200", nil},
		{"LIST 2", size, "0 200", nil},
		{"LIST 2", size, "2 -1", nil},
		{"LIST 2", size, "2 x", nil},
		{"LIST 2", size, "2 9223372036854775808", nil},
		{"LIST 2", size, "2 200 \\x07", nil},

		{"UIDL 2", uid, "2 QhdPYR:00WBw1Ph7x7", "QhdPYR:00WBw1Ph7x7"},
		{"UIDL 2", uid, "2 two words", "two words"},
		{"UIDL 2", uid, "2   x", "x"},
		{"UIDL 2", uid, "2 2", "2"},
		{"UIDL 2", uid, "2 x ", "x"},
		{"UIDL 2", uid, "2 x\\t", "x"},
		{"UIDL 2", uid, "2 two words \\t ", "two words"},
		{"UIDL 2", uid, "\\t2 x", "x"},
		{"UIDL 2", uid, "2 \\t", nil},
		{"UIDL 2", uid, "2 x\\ty", nil},
		{"UIDL 2", uid, "", nil},
		{"UIDL 2", uid, "2", nil},
		{"UIDL 2", uid, "2 ", nil},
		{"UIDL 2", uid, "QhdPYR:00WBw1Ph7x7", nil},
		{"UIDL 2", uid, "1 x", nil},
		{"UIDL 2", uid, "-2 x", nil},
		{"UIDL 2", uid, "2 x\\x01y", nil},
	} {
		t.Run(test.command+"/"+test.text, func(t *testing.T) {
			c := dialogue(t, nil, "\nC: "+test.command+"\nS: +OK "+test.text+"\nC: NOOP\nS: +OK")
			got, err := test.do(c)
			switch {
			case test.want != nil && (got != test.want || err != nil):
				t.Errorf("%v, %v; want %v", got, err, test.want)
			case test.want == nil:
				if protocol := wantProtocolError(t, err); protocol.Command != test.command {
					t.Errorf("error %#v, want one of %s", protocol, test.command)
				}
				if got != any(int64(0)) && got != any("") && got != any([2]int64{}) {
					t.Errorf("%v with an error", got)
				}
			}
			must(t, c.Noop(background))
		})
	}
}

// TestArguments checks that invalid arguments are refused before anything is sent.
func TestArguments(t *testing.T) {
	for name, do := range map[string]func(c *Client) error{
		"User CRLF":      func(c *Client) error { return c.User(background, "u\r\nDELE 1") },
		"User NUL":       func(c *Client) error { return c.User(background, "u\x00") },
		"Pass LF":        func(c *Client) error { return c.Pass(background, "p\n") },
		"Pass CR":        func(c *Client) error { return c.Pass(background, "p\r") },
		"Login user":     func(c *Client) error { return c.Login(background, "u\nX", "p") },
		"Login password": func(c *Client) error { return c.Login(background, "u", "p\x00q") },
		"APOP user":      func(c *Client) error { return c.APOP(background, "u\r", "p") },
		"APOP secret":    func(c *Client) error { return c.APOP(background, "u", "p\n") },
		"Auth":           func(c *Client) error { return c.Auth(background, &mechanism{name: "X\r\nQUIT"}) },
		"Size 0":         func(c *Client) error { _, err := c.Size(background, 0); return err },
		"Size -1":        func(c *Client) error { _, err := c.Size(background, -1); return err },
		"UID 0":          func(c *Client) error { _, err := c.UID(background, 0); return err },
		"Retr 0":         func(c *Client) error { _, err := c.Retr(background, 0); return err },
		"Top 0":          func(c *Client) error { _, err := c.Top(background, 0, 1); return err },
		"Top lines":      func(c *Client) error { _, err := c.Top(background, 1, -1); return err },
		"Dele 0":         func(c *Client) error { return c.Dele(background, 0) },
		"Dele -7":        func(c *Client) error { return c.Dele(background, -7) },
		"DeleAll":        func(c *Client) error { return c.DeleAll(background, []int{1, 0}) },
		"RetrAll": func(c *Client) (err error) {
			for _, err = range c.RetrAll(background, []int{1, 2, -3}) {
			}
			return err
		},
		"TopAll": func(c *Client) (err error) {
			for _, err = range c.TopAll(background, []int{1}, -1) {
			}
			return err
		},
		"Lang empty":            func(c *Client) error { return c.Lang(background, "") },
		"Lang CRLF":             func(c *Client) error { return c.Lang(background, "en\r\nX") },
		"Cmd empty":             func(c *Client) error { _, err := c.Cmd(background, ""); return err },
		"Cmd blank":             func(c *Client) error { _, err := c.Cmd(background, "DELE 1"); return err },
		"Cmd CRLF":              func(c *Client) error { _, err := c.Cmd(background, "X\r\nY"); return err },
		"Cmd argument":          func(c *Client) error { _, err := c.Cmd(background, "X", "a", "b\nc"); return err },
		"Cmd STLS":              func(c *Client) error { _, err := c.Cmd(background, "stls"); return err },
		"Cmd AUTH":              func(c *Client) error { _, err := c.Cmd(background, "Auth", "PLAIN"); return err },
		"CmdMultiline empty":    func(c *Client) error { _, err := c.CmdMultiline(background, ""); return err },
		"CmdMultiline argument": func(c *Client) error { _, err := c.CmdMultiline(background, "X", "\x00"); return err },
		"CmdMultiline STLS":     func(c *Client) error { _, err := c.CmdMultiline(background, "STLS"); return err },
		"CmdMultiline AUTH":     func(c *Client) error { _, err := c.CmdMultiline(background, "auth", "PLAIN"); return err },
		"CmdMultiline PASS":     func(c *Client) error { _, err := c.CmdMultiline(background, "pass", "p"); return err },
		"ctx":                   func(c *Client) error { return c.Noop(doneContext()) },
		"ctx of Login":          func(c *Client) error { return c.Login(doneContext(), "u", "p") },
		"ctx of Cmd PASS":       func(c *Client) error { _, err := c.Cmd(doneContext(), "PASS", "p"); return err },
		"ctx of Retr":           func(c *Client) error { _, err := c.Retr(doneContext(), 1); return err },
		"ctx of List":           func(c *Client) error { _, err := c.List(doneContext()); return err },
		"ctx of CAPA":           func(c *Client) error { _, err := c.Capabilities(doneContext()); return err },
		"ctx of StartTLS":       func(c *Client) error { return c.StartTLS(doneContext(), nil) },
		"ctx of Quit":           func(c *Client) error { return c.Quit(doneContext()) },
	} {
		t.Run(name, func(t *testing.T) {
			c := script(t, Options{AllowInsecureLogin: true}, `
				S: +OK <1@2>
				C: NOOP
				S: +OK`)
			err := do(c)
			if err == nil || isServerError(err) || !strings.HasPrefix(err.Error(), "pop3: ") || strings.Count(err.Error(), "pop3:") != 1 {
				t.Errorf("error %v", err)
			}
			wantError(t, err, ErrNotSent)
			if strings.HasPrefix(name, "ctx") {
				wantError(t, err, context.Canceled)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Errorf("error %q", err)
			}
			must(t, c.Noop(background))
		})
	}
}

// TestArgumentTexts checks the reasons of refused arguments.
func TestArgumentTexts(t *testing.T) {
	one := func(seq iter.Seq2[*Message, error]) (err error) {
		for _, err = range seq {
		}
		return err
	}
	for want, do := range map[string]func(c *Client) error{
		"RETR 0: invalid message number 0":            func(c *Client) error { _, err := c.Retr(background, 0); return err },
		"DELE -7: invalid message number -7":          func(c *Client) error { return c.Dele(background, -7) },
		"TOP 1 -1: negative line count -1":            func(c *Client) error { _, err := c.Top(background, 1, -1); return err },
		"TOP: negative line count -1":                 func(c *Client) error { return one(c.TopAll(background, []int{1}, -1)) },
		"TOP: invalid message number 0":               func(c *Client) error { return one(c.TopAll(background, []int{1, 0}, 1)) },
		"RETR: invalid message number -3":             func(c *Client) error { return one(c.RetrAll(background, []int{-3})) },
		"DELE: invalid message number 0":              func(c *Client) error { return c.DeleAll(background, []int{0}) },
		"LANG: empty language tag":                    func(c *Client) error { return c.Lang(background, "") },
		"USER: CR, LF or NUL in an argument":          func(c *Client) error { return c.User(background, "\r") },
		"PASS: not sent: connection is not encrypted": func(c *Client) error { return c.Pass(background, "p") },
		"AUTH X: not sent: context canceled":          func(c *Client) error { return c.Auth(doneContext(), &mechanism{name: "X"}) },
		"AUTH PLAIN: not sent: connection is not encrypted": func(c *Client) error {
			return c.Auth(background, &mechanism{name: "PLAIN"})
		},
		"AUTH: not sent: the mechanism has had enough": func(c *Client) error { return c.Auth(background, &mechanism{start: errMechanism}) },
		`AUTH: invalid mechanism name "X Y"`:           func(c *Client) error { return c.Auth(background, &mechanism{name: "X Y"}) },
		"APOP: no challenge in the greeting":           func(c *Client) error { return c.APOP(background, "u", "p") },
		"STLS: use StartTLS":                           func(c *Client) error { _, err := c.Cmd(background, "stls"); return err },
		"AUTH: use Auth":                               func(c *Client) error { _, err := c.Cmd(background, "auth", "X"); return err },
		"STLS: no multi-line response":                 func(c *Client) error { _, err := c.CmdMultiline(background, "stls"); return err },
		"command must be a single word":                func(c *Client) error { _, err := c.Cmd(background, "a b"); return err },
		"NOOP: not sent: context canceled":             func(c *Client) error { return c.Noop(doneContext()) },
	} {
		c := dialogue(t, nil, "")
		if err := do(c); err == nil || err.Error() != "pop3: "+want {
			t.Errorf("error %q, want %q", err, "pop3: "+want)
		}
	}
}

func doneContext() context.Context {
	ctx, cancel := context.WithCancel(background)
	cancel()
	return ctx
}

// The largest limit has an effect, and a negative one selects the default.
func TestExtremeLimits(t *testing.T) {
	const transcript = `
		C: LIST
		S: +OK\r\n1 120\r\n2 200\r\n.
		!expect-close`
	for _, n := range []int{math.MaxInt, -1, math.MinInt} {
		c := dialogue(t, &Options{MaxLineLength: n, MaxEntries: n}, transcript)
		l, err := c.List(background)
		must(t, err)
		if got, err := collect(l, false); len(got) != 2 || err != nil {
			t.Errorf("with limits of %d: %v, %v", n, got, err)
		}
	}
}

func TestCmd(t *testing.T) {
	c := dialogue(t, nil, `
		C: XTND  a  b
		S: +OK  done 
		C: xlong 1
		S: +OK here
		S: ..x
		S: .
		C: X
		S: -ERR [SYS/TEMP] no
		C: Y
		S: -ERR`)
	text, err := c.Cmd(background, "XTND", "", "a", " b")
	if text != "done " || err != nil {
		t.Errorf("Cmd = %q, %v", text, err)
	}
	m, err := c.CmdMultiline(background, "xlong", "1")
	readAll(t, m, err, ".x\r\n")
	if m.Number != 0 || m.Status != "here" {
		t.Errorf("message %d, %q", m.Number, m.Status)
	}
	_, err = c.Cmd(background, "X")
	refusedWith("X", "no")(t, err)
	_, err = c.CmdMultiline(background, "Y")
	refusedWith("Y", "")(t, err)
}

// Servers without CAPA list their mechanisms in response to AUTH.
func TestCmdMultilineAuth(t *testing.T) {
	c := dialogue(t, nil, `
		C: AUTH
		S: +OK
		S: CRAM-MD5
		S: PLAIN
		S: .
		C: auth
		S: -ERR no
		C: NOOP
		S: +OK`)
	m, err := c.CmdMultiline(background, "AUTH")
	readAll(t, m, err, "CRAM-MD5\r\nPLAIN\r\n")
	_, err = c.CmdMultiline(background, "auth")
	refusedWith("auth", "no")(t, err)
	must(t, c.Noop(background))
}
