package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/socket"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// TestUnfinishedLine has the server close the connection, or stop sending, within a line. The error quotes the line.
func TestUnfinishedLine(t *testing.T) {
	const said = "-ERR Too many connections"
	for name, test := range map[string]struct {
		before string // up to the line; "" for the greeting
		do     func(c *Client) error
	}{
		"greeting":  {},
		"NOOP":      {"\nC: NOOP", func(c *Client) error { return c.Noop(background) }},
		"QUIT":      {"\nC: QUIT", func(c *Client) error { return c.Quit(background) }},
		"CAPA":      {"\nC: CAPA", func(c *Client) error { return c.StartTLS(background, nil) }},
		"CAPA list": {"\nC: CAPA\nS: +OK\nS: TOP", func(c *Client) error { return c.StartTLS(background, nil) }},
		"PASS":      {"\nC: CAPA\nS: -ERR\nC: USER u\nS: +OK\nC: PASS p4ssw0rd", func(c *Client) error { return c.Login(background, "u", "p4ssw0rd") }},
		"AUTH":      {"\nC: AUTH X", func(c *Client) error { return c.Auth(background, &mechanism{name: "X"}) }},
		"RETR":      {"\nC: RETR 1", func(c *Client) error { _, err := c.Retr(background, 1); return err }},
		"LIST": {"\nC: LIST\nS: +OK\nS: 1 120", func(c *Client) error {
			l, err := c.List(background)
			must(t, err)
			_, err = l.Slice()
			return err
		}},
		"DELE 2": {"\nC: CAPA\nS: -ERR\nC: DELE 1\nS: +OK\nC: DELE 2", func(c *Client) error { return c.DeleAll(background, []int{1, 2}) }},
		"DELE 2, pipelined": {"\nC: CAPA\nS: +OK\nS: PIPELINING\nS: .\nC: DELE 1\nC: DELE 2\nS: +OK", func(c *Client) error {
			return c.DeleAll(background, []int{1, 2})
		}},
	} {
		for how, is := range map[string]error{"!close": io.ErrUnexpectedEOF, "!stall": os.ErrDeadlineExceeded} {
			for _, end := range []string{"", `\r`} {
				t.Run(name+how+end, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var err error
						opts := &Options{AllowInsecureLogin: true}
						if test.do == nil {
							_, err = NewClient(background, pop3test.Play(t, "S- "+said+end+"\n"+how), opts)
						} else {
							err = test.do(dialogue(t, opts, test.before+"\nS- "+said+end+"\n"+how))
						}
						wantError(t, err, is)
						if !strings.Contains(err.Error(), ` after "`+said+`"`) {
							t.Errorf("error %q does not quote %q", err, said)
						}
					})
				})
			}
		}
	}
}

// An unfinished challenge may hold a secret in base64, which cannot be recognized in part.
func TestUnfinishedChallenge(t *testing.T) {
	c := dialogue(t, nil, "\nC: AUTH X\nS- + c2VjcmV0LXRva2Vu\n!close")
	err := c.Auth(background, &mechanism{name: "X"})
	wantError(t, err, io.ErrUnexpectedEOF)
	if want := `pop3: AUTH X: connection closed by server after "+ [16 octets]"`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// TestSurplusLine has a server send a surplus line after the last response of a batch.
func TestSurplusLine(t *testing.T) {
	for _, end := range []string{"", "\n!close", `\r\n`, `\r\n` + "\n!close", `\r\n+OK more\r\n`} {
		c := dialogue(t, nil, "\nC: CAPA\nS: +OK\nS: PIPELINING\nS: .\nC: DELE 1\nC: DELE 2\nS- +OK\\r\\n+OK\\r\\n-ERR Disconnected for inactivity"+end)
		protocol := wantProtocolError(t, c.DeleAll(background, []int{1, 2}))
		if protocol.Line != "-ERR Disconnected for inactivity" || protocol.Command != "DELE 2" {
			t.Errorf("%q: error %#v", end, protocol)
		}
	}
}

// If a command cannot be written, the error still quotes the server's last line.
func TestLastLineAfterFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, "\nC: NOOP\nS: +OK")
		must(t, c.Noop(background))
		c.s.conn.sock = socket.New(&brokenPipe{said: "-ERR Autologout"}, time.Minute)
		c.s.conn.idle = time.Now().Add(time.Hour) // no probe before the command
		err := c.Noop(background)
		wantError(t, err, io.ErrUnexpectedEOF, errBrokenPipe)
		if !strings.Contains(err.Error(), `after "-ERR Autologout"`) {
			t.Errorf("error %q", err)
		}
	})
}

// brokenPipe is a connection that the server has closed after a last line.
type brokenPipe struct {
	net.Conn
	said string
}

var errBrokenPipe = errors.New("broken pipe")

func (b *brokenPipe) Write([]byte) (int, error)        { return 0, errBrokenPipe }
func (b *brokenPipe) Close() error                     { return nil }
func (b *brokenPipe) SetDeadline(time.Time) error      { return nil }
func (b *brokenPipe) SetReadDeadline(time.Time) error  { return nil }
func (b *brokenPipe) SetWriteDeadline(time.Time) error { return nil }

func (b *brokenPipe) Read(p []byte) (int, error) {
	if b.said == "" {
		return 0, io.EOF
	}
	n := copy(p, b.said)
	b.said = b.said[n:]
	return n, nil
}

const (
	hintTLS   = "(the port may expect TLS: use DialTLS)"
	hintPlain = "(the port may not expect TLS: use DialStartTLS)"
)

func wantHint(t *testing.T, err error, hint string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, h := range []string{hintTLS, hintPlain} {
		if strings.Contains(err.Error(), h) != (h == hint) {
			t.Errorf("error %q, want the hint %q", err, hint)
		}
	}
	if strings.Count(err.Error(), "pop3:") != 1 {
		t.Errorf("error %q", err)
	}
}

// TestHintThatThePortWantsTLS has a client without TLS meet a server that expects it.
func TestHintThatThePortWantsTLS(t *testing.T) {
	for name, said := range map[string]string{
		"alert":                 `S- \x15\x03\x01\0\x02\x02\x46`,
		"alert and close":       `S- \x15\x03\x03\0\x02\x02\x28` + "\n!close",
		"alert with a LF in it": `S- \x15\x03\x01\0\x02\x02\n` + "\n!expect-close",
		"handshake":             `S- \x16\x03\x03\0\x02\x02\x46`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := NewClient(background, pop3test.Play(t, said), nil)
				wantHint(t, err, hintTLS)
				if protocol := wantProtocolError(t, err); protocol.Command != "greeting" || !strings.HasPrefix(protocol.Line, said[3:3]) {
					t.Errorf("error %#v", protocol)
				}
				if d := time.Since(start); d > 0 {
					t.Errorf("after %v", d)
				}
			})
		})
	}
	for name, test := range map[string]struct {
		addr, said string
		ctx        bool
		is         error
		hint       string
	}{
		"silence on 995":             {"localhost:995", "!stall", false, os.ErrDeadlineExceeded, hintTLS},
		"silence on pop3s":           {"localhost:pop3s", "!stall", false, os.ErrDeadlineExceeded, hintTLS},
		"silence on 995, to the ctx": {"localhost:995", "!stall", true, context.DeadlineExceeded, hintTLS},
		"a close on 995":             {"localhost:995", "!close", false, io.ErrUnexpectedEOF, hintTLS},
		"silence elsewhere":          {"localhost:110", "!stall", false, os.ErrDeadlineExceeded, ""},
		"a refusal on 995":           {"localhost:995", "S: -ERR no", false, nil, ""},
		"last line on 995":           {"localhost:995", "S- -ERR no\n!close", false, io.ErrUnexpectedEOF, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(background)
				if test.ctx {
					ctx, cancel = context.WithTimeout(background, time.Second)
				}
				defer cancel()
				_, err := Dial(ctx, test.addr, &Options{Dialer: &dialer{conn: pop3test.Play(t, test.said)}})
				wantHint(t, err, test.hint)
				if test.is != nil {
					wantError(t, err, test.is)
				}
			})
		})
	}
	t.Run("NewClient on 995", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := NewClient(background, at{pop3test.Play(t, "!stall"), &net.TCPAddr{Port: 995}}, nil)
			wantHint(t, err, hintTLS)
		})
	})
	t.Run("a *tls.Conn on 995", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn := tls.Client(at{pop3test.Play(t, "!tls\n!stall"), &net.TCPAddr{Port: 995}}, pop3test.TLSConfig())
			_, err := NewClient(background, conn, nil)
			wantHint(t, err, "")
		})
	})
}

// at is a connection with an address.
type at struct {
	net.Conn
	addr net.Addr
}

func (a at) RemoteAddr() net.Addr { return a.addr }

// TestHintThatThePortWantsNoTLS has a TLS handshake meet a server without TLS. The error quotes its greeting.
func TestHintThatThePortWantsNoTLS(t *testing.T) {
	for _, test := range []struct{ said, quoted string }{
		{"S: +OK ready", `"+OK ready"`},
		{"S: -ERR Too many connections\n!close", `"-ERR Too many connections"`},
		{"S- -ERR Too many connections\n!close", `"-ERR Too many connections"`},
		{"S: * OK IMAP4rev1 ready", `"* OK IMAP4rev1 ready"`},
		{`S: +OK \x1b[2J` + strings.Repeat("x", 1000), `"+OK \x1b[2Jxxxx`},
	} {
		for _, addr := range []string{"localhost:110", "localhost", "localhost:1995"} {
			t.Run(test.said+addr, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, err := DialTLS(background, addr, &Options{Dialer: &dialer{conn: greets(t, test.said)}})
					wantHint(t, err, hintPlain)
					if header := new(tls.RecordHeaderError); !errors.As(err, header) {
						t.Errorf("error %v is no RecordHeaderError", err)
					}
					if !strings.HasPrefix(err.Error(), "pop3: TLS handshake: ") || !strings.Contains(err.Error(), test.quoted) || len(err.Error()) > 500 {
						t.Errorf("error %q, want one that quotes %s", err, test.quoted)
					}
				})
			})
		}
	}
	t.Run("a handshake that cannot be written", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := DialTLS(background, "localhost:110", &Options{Dialer: &dialer{conn: &brokenPipe{said: "-ERR no\r\n"}}})
			wantHint(t, err, hintPlain)
			if !strings.Contains(err.Error(), `"-ERR no"`) {
				t.Errorf("error %q", err)
			}
		})
	})
	t.Run("a *tls.Conn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := NewClient(background, tls.Client(greets(t, "S: +OK ready"), pop3test.TLSConfig()), nil)
			wantHint(t, err, hintPlain)
			if !strings.Contains(err.Error(), `"+OK r"`) {
				t.Errorf("error %q", err)
			}
		})
	})
	t.Run("silence on 110", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := DialTLS(background, "localhost:110", &Options{Dialer: &dialer{conn: pop3test.Play(t, "!stall")}})
			wantHint(t, err, hintPlain)
			wantError(t, err, os.ErrDeadlineExceeded)
		})
	})
	t.Run("after STLS", func(t *testing.T) { // no port to blame
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				io.WriteString(server, "+OK\r\n")
				for _, answer := range []string{"+OK\r\nSTLS\r\n.\r\n", "+OK\r\n"} {
					server.Read(make([]byte, 100))
					io.WriteString(server, answer)
				}
				server.Read(make([]byte, 1)) // of the handshake
				io.WriteString(server, "-ERR no certificate\r\n")
				io.Copy(io.Discard, server)
			}()
			c := connect(t, &Options{TLSConfig: pop3test.TLSConfig()}, client)
			err := c.StartTLS(background, nil)
			wantHint(t, err, "")
			if !strings.Contains(err.Error(), `"-ERR no certificate"`) {
				t.Errorf("error %q", err)
			}
		})
	})
}

// greets is a server that sends a greeting and reads all input, until it closes.
func greets(t *testing.T, said string) net.Conn {
	client, server := net.Pipe()
	said, closes := strings.CutSuffix(said, "\n!close")
	line, complete := strings.CutPrefix(said, "S: ")
	if complete {
		line += "\r\n"
	}
	line = strings.ReplaceAll(strings.TrimPrefix(line, "S- "), `\x1b`, "\x1b")
	go io.Copy(io.Discard, server)
	go func() {
		io.WriteString(server, line)
		if closes {
			server.Close()
		}
	}()
	t.Cleanup(func() { server.Close() })
	return client
}
