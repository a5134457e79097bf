package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A call is a method of Client that sends one command.
type call struct {
	line string // the command
	do   func(ctx context.Context, c *Client) error
}

// calls has a call for each method that sends a command, and refuses the response if the server does.
var calls = map[string]call{
	"Noop":     {"NOOP", func(ctx context.Context, c *Client) error { return c.Noop(ctx) }},
	"Stat":     {"STAT", func(ctx context.Context, c *Client) error { _, _, err := c.Stat(ctx); return err }},
	"List":     {"LIST", func(ctx context.Context, c *Client) error { l, err := c.List(ctx); return sliced(l, err) }},
	"UIDL":     {"UIDL", func(ctx context.Context, c *Client) error { l, err := c.UIDL(ctx); return sliced(l, err) }},
	"Size":     {"LIST 1", func(ctx context.Context, c *Client) error { _, err := c.Size(ctx, 1); return err }},
	"UID":      {"UIDL 1", func(ctx context.Context, c *Client) error { _, err := c.UID(ctx, 1); return err }},
	"Retr":     {"RETR 1", func(ctx context.Context, c *Client) error { m, err := c.Retr(ctx, 1); return discarded(m, err) }},
	"Top":      {"TOP 1 0", func(ctx context.Context, c *Client) error { m, err := c.Top(ctx, 1, 0); return discarded(m, err) }},
	"Dele":     {"DELE 1", func(ctx context.Context, c *Client) error { return c.Dele(ctx, 1) }},
	"Rset":     {"RSET", func(ctx context.Context, c *Client) error { return c.Rset(ctx) }},
	"User":     {"USER joe", func(ctx context.Context, c *Client) error { return c.User(ctx, "joe") }},
	"Pass":     {"PASS wrong", func(ctx context.Context, c *Client) error { return c.Pass(ctx, "wrong") }},
	"APOP":     {"APOP mrose " + rfcDigest, func(ctx context.Context, c *Client) error { return c.APOP(ctx, "mrose", "tanstaaf") }},
	"Auth":     {"AUTH PLAIN AGpvZQAyMDI2MTI=", func(ctx context.Context, c *Client) error { return c.Auth(ctx, plain) }},
	"UTF8":     {"UTF8", func(ctx context.Context, c *Client) error { return c.UTF8(ctx) }},
	"Lang":     {"LANG de", func(ctx context.Context, c *Client) error { return c.Lang(ctx, "de") }},
	"Langs":    {"LANG", func(ctx context.Context, c *Client) error { _, err := c.Langs(ctx); return err }},
	"Cmd":      {"XSENDER 1", func(ctx context.Context, c *Client) error { _, err := c.Cmd(ctx, "XSENDER", "1"); return err }},
	"Cmd pass": {"pass wrong", func(ctx context.Context, c *Client) error { _, err := c.Cmd(ctx, "pass", "wrong"); return err }},
	"Cmd apop": {"apop joe 2026", func(ctx context.Context, c *Client) error { _, err := c.Cmd(ctx, "apop", "joe", "2026"); return err }},
	"Cmd quit": {"quit", func(ctx context.Context, c *Client) error { _, err := c.Cmd(ctx, "quit"); return err }},
	"Multiline": {"XTND", func(ctx context.Context, c *Client) error {
		m, err := c.CmdMultiline(ctx, "XTND")
		return discarded(m, err)
	}},
	"CAPA":       {"CAPA", func(ctx context.Context, c *Client) error { return refusedCAPA(ctx, c) }},
	"RetrAll":    {"RETR 1", func(ctx context.Context, c *Client) error { return retrieved(c.RetrAll(ctx, []int{1})) }},
	"TopAll":     {"TOP 1 0", func(ctx context.Context, c *Client) error { return retrieved(c.TopAll(ctx, []int{1}, 0)) }},
	"DeleAll":    {"DELE 1", func(ctx context.Context, c *Client) error { return c.DeleAll(ctx, []int{1}) }},
	"Quit":       {"QUIT", func(ctx context.Context, c *Client) error { return c.Quit(ctx) }},
	"Login APOP": {"APOP mrose " + rfcDigest, func(ctx context.Context, c *Client) error { return c.Login(ctx, "mrose", "tanstaaf") }},
}

var plain = &mechanism{name: "PLAIN", initial: []byte("\x00joe\x00202612")}

func sliced[T Entry | UID](l *Listing[T], err error) error {
	if err == nil {
		_, err = l.Slice()
	}
	return err
}

func discarded(m *Message, err error) error {
	if err == nil {
		_, err = io.Copy(io.Discard, m)
	}
	return err
}

func retrieved(messages func(yield func(*Message, error) bool)) (err error) {
	for m, e := range messages {
		err = errors.Join(err, discarded(m, e))
	}
	return err
}

// refusedCAPA returns the refusal, which RefreshCapabilities does not return as an error.
func refusedCAPA(ctx context.Context, c *Client) error {
	if _, err := c.RefreshCapabilities(ctx); err != nil {
		return err
	}
	return c.refusedCapabilities()
}

// alwaysProbes lists the calls that probe for unsolicited data however short the pause was.
var alwaysProbes = []string{"Pass", "APOP", "Auth", "Cmd pass", "Cmd apop", "Cmd quit", "Quit"}

// onScript connects a client to a transcript whose greeting has a challenge. Nothing is pipelined.
func onScript(t *testing.T, transcript string) *Client {
	return script(t, Options{AllowInsecureLogin: true, NoPipelining: true}, "S: +OK ready "+rfcChallenge+transcript)
}

// wantRefusal checks for the response that was sent after the command, not the one before.
func wantRefusal(t *testing.T, err error) {
	t.Helper()
	if refused := new(ServerError); !errors.As(err, &refused) || refused.Text != "this one" {
		t.Errorf("error %v, want the server's response to the command", err)
	}
}

// TestUnsolicitedBeforeACommand has each command find unsolicited data at each place where none is in flight.
func TestUnsolicitedBeforeACommand(t *testing.T) {
	test := func(name, before string, pause time.Duration) {
		call := calls[name]
		capa := ""
		if name == "Login APOP" {
			capa = "C: CAPA\nS: -ERR\nS: +OK noise\n"
		}
		t.Run(name+"/"+before, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *Client
				if before == "" {
					c = onScript(t, "\nS: +OK 1 noise\n"+capa+"C: "+call.line+"\nS: -ERR this one")
				} else {
					c = onScript(t, "\nC: "+before+"\nS: +OK\nS: +OK 1 noise\n"+capa+"C: "+call.line+"\nS: -ERR this one")
					_, err := c.Cmd(background, before)
					must(t, err)
				}
				time.Sleep(pause)
				wantRefusal(t, call.do(background, c))
			})
		})
	}
	for name := range calls {
		test(name, "", 0) // the second line of a greeting
		test(name, "NOOP", probeAfter)
	}
	for _, name := range alwaysProbes {
		test(name, "USER", 0)
	}
}

// TestUnsolicitedAfterSTLS has a server greet once more over TLS.
func TestUnsolicitedAfterSTLS(t *testing.T) {
	for name, call := range calls {
		if name == "APOP" || name == "Login APOP" { // the challenge has been discarded
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := onScript(t, listSTLS+"S: +OK\n!tls\nS: +OK ready again\nC: "+call.line+"\nS: -ERR this one")
				must(t, c.StartTLS(background, nil))
				wantRefusal(t, call.do(background, c))
			})
		})
	}
}

// TestUnsolicitedBetweenDeletions: a batch probes before each command also if no user code runs in between.
func TestUnsolicitedBetweenDeletions(t *testing.T) {
	for mode, m := range batchModes {
		if mode == "pipelined" {
			continue
		}
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				capa := "\nC: CAPA\nS- " + strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(m.capa)
				if mode == "NoPipelining" {
					capa = ""
				}
				c := dialogue(t, &m.opts, capa+`
					C: DELE 1
					S: +OK
					S: +OK deleted
					C: DELE 2
					S: -ERR this one
					S: +OK deleted
					C: DELE 3
					S: +OK
					S: -ERR noise
					C: NOOP
					S: +OK`)
				err := c.DeleAll(background, []int{1, 2, 3})
				wantRefusal(t, err)
				if want := "pop3: DELE 2: -ERR this one"; err == nil || err.Error() != want {
					t.Errorf("error %q, want %q", err, want)
				}
				time.Sleep(probeAfter)
				must(t, c.Noop(background))
			})
		})
	}
}

// TestUnsolicitedLastLine checks that the server's last line before a command is not taken for a refusal.
func TestUnsolicitedLastLine(t *testing.T) {
	for name, call := range calls {
		for _, words := range []string{`S: -ERR Disconnected for inactivity`, `S- -ERR Disconnected for inactivity`} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := onScript(t, "\nC: NOOP\nS: +OK\n"+words+"\n!close")
					must(t, c.Noop(background))
					time.Sleep(time.Hour)
					err := call.do(background, c)
					wantError(t, err, ErrClosed, ErrNotSent, io.ErrUnexpectedEOF)
					if isServerError(err) || !strings.Contains(err.Error(), "Disconnected for inactivity") {
						t.Errorf("error %v", err)
					}
				})
			})
		}
	}
}

// links connect a client to a transcript in each way that needs no socket; it begins after the greeting.
var links = map[string]func(t *testing.T, transcript string) *Client{
	"pipe": onScript,
	"wrapped": func(t *testing.T, transcript string) *Client {
		conn := pop3test.Play(t, "S: +OK"+transcript)
		return connect(t, &Options{AllowInsecureLogin: true, NoPipelining: true}, struct{ net.Conn }{conn})
	},
	"no deadlines": func(t *testing.T, transcript string) *Client {
		conn := pop3test.Play(t, "S: +OK"+transcript)
		return connect(t, &Options{AllowInsecureLogin: true, NoPipelining: true}, timeless{conn})
	},
	"own TLS": func(t *testing.T, transcript string) *Client {
		conn := pop3test.Play(t, "!tls\nS: +OK"+transcript)
		return connect(t, &Options{NoPipelining: true}, tls.Client(conn, pop3test.TLSConfig()))
	},
	"DialTLS": func(t *testing.T, transcript string) *Client {
		conn := pop3test.Play(t, "!tls\nS: +OK"+transcript)
		opts := &Options{Dialer: &dialer{conn: conn}, TLSConfig: pop3test.TLSConfig(), NoPipelining: true}
		c, err := DialTLS(background, "localhost", opts)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	},
	"STLS": func(t *testing.T, transcript string) *Client {
		c := script(t, Options{NoPipelining: true}, "S: +OK"+listSTLS+"S: +OK\n!tls\n"+transcript)
		must(t, c.StartTLS(background, nil))
		return c
	},
}

// TestUnsolicitedOverEachLink has a success arrive before a wrong password is sent.
func TestUnsolicitedOverEachLink(t *testing.T) {
	for name, link := range links {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := link(t, "\nC: USER joe\nS: +OK\nS: +OK 1 noise\nC: PASS wrong\nS: -ERR this one")
				must(t, c.User(background, "joe"))
				wantRefusal(t, c.Pass(background, "wrong"))
			})
		})
	}
}

// TestUnsolicitedOverASocket does the same over sockets, on which a probe is a system call.
func TestUnsolicitedOverASocket(t *testing.T) {
	greeting := func(server net.Conn) { io.WriteString(server, "+OK ready\r\n") }
	for name, tt := range map[string]struct {
		dial  func(ctx context.Context, addr string, opts *Options) (*Client, error)
		greet func(server net.Conn) // before TLS
		tls   bool
	}{
		"TCP": {Dial, greeting, false},
		"TLS": {DialTLS, func(net.Conn) {}, true},
		"STLS": {DialStartTLS, func(server net.Conn) {
			greeting(server)
			answerOne(server, "+OK\r\nSTLS\r\n.\r\n")
			answerOne(server, "+OK\r\n")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := tcpPair(t)
			above := make(chan net.Conn, 1)
			go func() {
				tt.greet(server)
				if tt.tls {
					s := tls.Server(server, serverTLS(t))
					s.Handshake()
					if name == "TLS" {
						greeting(s)
					}
					above <- s
				} else {
					above <- server
				}
			}()
			c, err := tt.dial(background, "localhost:1", &Options{
				AllowInsecureLogin: true,
				Dialer:             &dialer{conn: client},
				TLSConfig:          &tls.Config{InsecureSkipVerify: true},
			})
			must(t, err)
			defer c.Close()
			end := <-above
			go answerOne(end, "+OK\r\n")
			must(t, c.User(background, "joe"))
			say(t, end, "+OK 1 noise\r\n")
			awaitData(t, client)
			go answerOne(end, "-ERR this one\r\n")
			wantRefusal(t, c.Pass(background, "wrong"))
		})
	}
}

// TestUnsolicitedRecord: unsolicited data may have been read together with the last response, as a TLS record that follows it.
func TestUnsolicitedRecord(t *testing.T) {
	for name, link := range tlsLinks {
		t.Run(name, func(t *testing.T) {
			client, server := tcpPair(t)
			together := &coalescing{Conn: server}
			l := link(t, client, together)
			for range 3 {
				go func() {
					together.hold()
					answerOne(l.server, "+OK\r\n")
					io.WriteString(l.server, "+OK 1 noise\r\n")
					together.flush()
				}()
				must(t, l.c.Noop(background))
				l.c.s.conn.idle = time.Time{} // so that it probes
				go answerOne(l.server, "-ERR this one\r\n")
				wantRefusal(t, l.c.Noop(background))
			}
		})
	}
}

// coalescing is a connection that writes in one piece.
type coalescing struct {
	net.Conn
	mu   sync.Mutex
	held *[]byte // nil if writes are not held back
}

func (c *coalescing) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return c.Conn.Write(p)
	}
	*c.held = append(*c.held, p...)
	return len(p), nil
}

func (c *coalescing) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = new([]byte)
}

func (c *coalescing) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Conn.Write(*c.held)
	c.held = nil
}

// TestUnsolicitedWithinAuth has a slow mechanism. A success that arrives before its response does not count.
func TestUnsolicitedWithinAuth(t *testing.T) {
	for name, tt := range map[string]struct {
		transcript string
		check      func(t *testing.T, err error)
	}{
		"+OK": {"S: +OK still there?\nC: aGVsbG8=\nS: -ERR this one", wantRefusal},
		"-ERR, FIN": {"S: -ERR Disconnected for inactivity\n!close", func(t *testing.T, err error) {
			wantError(t, err, io.ErrUnexpectedEOF)
			if isServerError(err) || !strings.Contains(err.Error(), "Disconnected for inactivity") {
				t.Errorf("error %v", err)
			}
		}},
	} {
		for _, pause := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprint(name, " after ", pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := onScript(t, "\nC: AUTH X\nS: + \n"+tt.transcript)
					tt.check(t, c.Auth(background, asking(func() { time.Sleep(pause) })))
				})
			})
		}
	}
}

// asking is a mechanism that calls a function before its only response.
type asking func()

func (asking) Start() (string, []byte, error) { return "X", nil, nil }

func (a asking) Next([]byte) ([]byte, error) {
	a()
	return []byte("hello"), nil
}

// TestUnsolicitedAfterASlowCaller has a response arrive long before its last byte is read and the next command is sent.
func TestUnsolicitedAfterASlowCaller(t *testing.T) {
	pause := func() { time.Sleep(time.Hour) }
	for name, tt := range map[string]struct {
		response string
		take     func(c *Client) error
	}{
		"Read": {"C: RETR 1\nS: +OK\\r\\none\\r\\n.", func(c *Client) error {
			m, err := c.Retr(background, 1)
			must(t, err)
			m.Read(make([]byte, 1))
			pause()
			return discarded(m, nil)
		}},
		"WriteTo": {"C: RETR 1\nS: +OK\\r\\none\\r\\n.", func(c *Client) error {
			m, err := c.Retr(background, 1)
			must(t, err)
			_, err = m.WriteTo(&slowWriter{pause})
			return err
		}},
		"Close": {"C: RETR 1\nS: +OK\\r\\none\\r\\n.", func(c *Client) error {
			m, err := c.Retr(background, 1)
			must(t, err)
			pause()
			return m.Close()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := onScript(t, "\n"+tt.response+"\nS: +OK noise\nC: NOOP\nS: -ERR this one")
				must(t, tt.take(c))
				wantRefusal(t, c.Noop(background))
			})
		})
	}
}

// slowWriter pauses in each Write.
type slowWriter struct{ pause func() }

func (w *slowWriter) Write(p []byte) (int, error) {
	w.pause()
	return len(p), nil
}
