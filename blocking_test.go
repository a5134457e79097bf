package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// ignoring is a connection whose deadlines return nil and do nothing.
type ignoring struct{ net.Conn }

func (ignoring) SetDeadline(time.Time) error      { return nil }
func (ignoring) SetReadDeadline(time.Time) error  { return nil }
func (ignoring) SetWriteDeadline(time.Time) error { return nil }

// noDeadlines are connections that their deadlines do not end, over another.
var noDeadlines = map[string]func(conn net.Conn) net.Conn{
	"ignored":     func(conn net.Conn) net.Conn { return ignoring{conn} },
	"unsupported": func(conn net.Conn) net.Conn { return timeless{conn} },
	"own TLS, ignored": func(conn net.Conn) net.Conn {
		return tls.Client(ignoring{conn}, pop3test.TLSConfig())
	},
	"own TLS, unsupported": func(conn net.Conn) net.Conn {
		return tls.Client(timeless{conn}, pop3test.TLSConfig())
	},
}

// silences are places at which a server falls silent, after its greeting.
var silences = map[string]struct {
	transcript string
	do         func(ctx context.Context, c *Client) error
}{
	"response": {"C: NOOP\n!stall", calls["Noop"].do},
	"status":   {"C: NOOP\nS- +O\n!stall", calls["Noop"].do},
	"message":  {"C: RETR 1\nS: +OK\nS: one\n!stall", calls["Retr"].do},
	"listing":  {"C: LIST\nS: +OK\nS: 1 1\n!stall", calls["List"].do},
	"feeder": {"C: LIST\nS: +OK\nS: 1 1\n!stall", func(ctx context.Context, c *Client) error {
		l, err := c.List(ctx)
		if err == nil {
			_, err = collect(l, true)
		}
		return err
	}},
	"batch": {"C: CAPA\nS: +OK\nS: PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nS: +OK\nS: one\n!stall", func(ctx context.Context, c *Client) error {
		return retrieved(c.RetrAll(ctx, []int{1, 2}))
	}},
	"batch, not read": {"C: CAPA\nS: +OK\nS: PIPELINING\nS: .\n!wait 24h", func(ctx context.Context, c *Client) error {
		return retrieved(c.RetrAll(ctx, []int{1, 2}))
	}},
	"command, not read": {"!wait 24h", calls["Noop"].do},
	"STLS":              {listSTLS + "!stall", func(ctx context.Context, c *Client) error { return c.StartTLS(ctx, nil) }},
	"handshake":         {listSTLS + "S: +OK\n!stall", func(ctx context.Context, c *Client) error { return c.StartTLS(ctx, nil) }},
	"QUIT":              {"C: QUIT\n!stall", calls["Quit"].do},
}

// TestSilenceWithoutDeadlines: ctx, Close and the timeout end each wait, though the deadlines of the connection do not.
func TestSilenceWithoutDeadlines(t *testing.T) {
	for name, wrap := range noDeadlines {
		for place, tt := range silences {
			_, overTLS := wrap(nil).(*tls.Conn)
			switch place {
			case "STLS", "handshake", "command, not read", "batch, not read": // what a transcript cannot have over TLS
				if overTLS {
					continue
				}
			}
			for how, end := range map[string]struct {
				timeout time.Duration
				want    error
				within  time.Duration
			}{
				"ctx":     {-1, context.DeadlineExceeded, 200 * time.Millisecond},
				"Close":   {-1, ErrClosed, 200 * time.Millisecond},
				"timeout": {time.Second, os.ErrDeadlineExceeded, time.Second + time.Second/4},
			} {
				t.Run(name+"/"+place+"/"+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						transcript := "S: +OK\n" + tt.transcript
						if overTLS {
							transcript = "!tls\n" + transcript
						}
						conn := pop3test.Play(t, transcript)
						c := connect(t, &Options{Timeout: end.timeout, TLSConfig: pop3test.TLSConfig()}, wrap(conn))
						ctx := background
						start := time.Now()
						switch how {
						case "ctx":
							limited, cancel := context.WithTimeout(background, end.within)
							defer cancel()
							ctx = limited
						case "Close":
							time.AfterFunc(end.within, func() { c.Close() })
						}
						wantError(t, tt.do(ctx, c), end.want)
						if took := time.Since(start); took > end.within+50*probeWait {
							t.Errorf("took %v, want %v", took, end.within)
						}
						wantError(t, c.Noop(background), ErrClosed)
						must(t, c.Close())
						time.Sleep(24 * time.Hour) // for the transcript
					})
				})
			}
		}
	}
}

// blockingMode puts the descriptor of a connection into blocking mode, as a caller does that passes it to another process.
func blockingMode(t *testing.T, conn net.Conn) {
	t.Helper()
	f, err := conn.(interface{ File() (*os.File, error) }).File()
	must(t, err)
	f.Fd()
	t.Cleanup(func() { f.Close() })
}

// socketPairs connect two ends over sockets.
var socketPairs = map[string]func(t *testing.T) (client, server net.Conn){
	"TCP": tcpPair,
	"Unix": func(t *testing.T) (client, server net.Conn) {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Skip(err)
		}
		defer l.Close()
		client, err = net.Dial("unix", l.Addr().String())
		must(t, err)
		server, err = l.Accept()
		must(t, err)
		t.Cleanup(func() { client.Close(); server.Close() })
		return client, server
	},
}

// TestBlockingMode: neither a command nor Close is stuck in a system call, however TLS comes to the socket.
func TestBlockingMode(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		t.Skip("descriptors have no such mode")
	}
	for network, pair := range socketPairs {
		for how, end := range map[string]func(c *Client, cancel func()){
			"ctx":   func(_ *Client, cancel func()) { cancel() },
			"Close": func(c *Client, _ func()) { c.Close() },
		} {
			t.Run(network+"/plain/"+how, func(t *testing.T) {
				client, server := pair(t)
				greet(server)
				blockingMode(t, client)
				c, err := NewClient(background, client, &Options{Timeout: -1})
				must(t, err)
				endsWhileSilent(t, c, server, end)
			})
			for name, link := range tlsLinks {
				t.Run(network+"/"+name+"/"+how, func(t *testing.T) {
					client, server := pair(t)
					blockingMode(t, client)
					l := link(t, client, server)
					endsWhileSilent(t, l.c, l.server, end)
				})
			}
		}
	}
}

// endsWhileSilent has one command succeed and the next wait, and wants the end of it at once.
func endsWhileSilent(t *testing.T, c *Client, server net.Conn, end func(c *Client, cancel func())) {
	t.Helper()
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	ended := make(chan error, 1)
	received := make(chan struct{})
	go func() {
		answerOne(server, "+OK\r\n")
		answerOne(server, "") // and is silent
		close(received)
	}()
	go func() {
		if err := c.Noop(ctx); err != nil {
			ended <- fmt.Errorf("the first: %w", err)
			return
		}
		c.s.conn.idle = time.Time{} // so that it probes
		ended <- c.Noop(ctx)
	}()
	<-received
	closed := make(chan struct{})
	go func() {
		end(c, cancel)
		c.Close()
		close(closed)
	}()
	const patience = 20 * time.Second
	deadline := time.After(patience)
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			wantError(t, err, ErrClosed)
		}
	case <-deadline:
		t.Fatal("the command is stuck")
	}
	select {
	case <-closed:
	case <-deadline:
		t.Fatal("Close is stuck")
	}
}

// TestDeadlinesOfBefore: the deadlines that a caller has set end no Read or Write, whatever the timeout is.
func TestDeadlinesOfBefore(t *testing.T) {
	for name, set := range map[string]func(conn net.Conn, at time.Time) error{
		"both":  net.Conn.SetDeadline,
		"read":  net.Conn.SetReadDeadline,
		"write": net.Conn.SetWriteDeadline,
	} {
		for _, timeout := range []time.Duration{-1, time.Minute} {
			for kind, wrap := range map[string]func(conn net.Conn) net.Conn{
				"pipe":    func(conn net.Conn) net.Conn { return conn },
				"wrapped": func(conn net.Conn) net.Conn { return struct{ net.Conn }{conn} },
				"own TLS": func(conn net.Conn) net.Conn { return tls.Client(conn, pop3test.TLSConfig()) },
			} {
				t.Run(fmt.Sprint(name, "/", timeout, "/", kind), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						transcript := "S: +OK\nC: NOOP\nS: +OK\nC: RETR 1\nS: +OK\nS: one\nS: .\nC: QUIT\nS: +OK"
						if kind == "own TLS" {
							transcript = "!tls\n" + transcript
						}
						conn := wrap(pop3test.Play(t, transcript))
						must(t, set(conn, time.Now().Add(5*time.Second)))
						c := connect(t, &Options{Timeout: timeout}, conn)
						time.Sleep(10 * time.Second)
						must(t, c.Noop(background))
						time.Sleep(10 * time.Second)
						m, err := c.Retr(background, 1)
						readAll(t, m, err, "one\r\n")
						must(t, c.Quit(background))
					})
				})
			}
		}
	}
	t.Run("TCP", func(t *testing.T) {
		client, server := tcpPair(t)
		greet(server)
		must(t, client.SetDeadline(time.Now().Add(-time.Second)))
		c := connect(t, &Options{Timeout: -1}, client)
		go answerOne(server, "+OK\r\n")
		must(t, c.Noop(background))
	})
}

// TestTimeoutKeptOverAnIdleSession: a session is not ended by a timeout of an earlier Read or Write, which crypto/tls would keep.
func TestTimeoutKeptOverAnIdleSession(t *testing.T) {
	const timeout = time.Minute
	for name, link := range links {
		for _, pause := range []time.Duration{timeout / 3, 33 * time.Second, timeout - time.Second, timeout, 2 * timeout} {
			t.Run(fmt.Sprint(name, "/", pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					transcript := ""
					for range 8 {
						transcript += "\nC: NOOP\nS: +OK"
					}
					c := link(t, transcript+"\nC: NOOP\n!stall")
					for range 8 {
						must(t, c.Noop(background))
						time.Sleep(pause)
					}
					start := time.Now()
					wantError(t, c.Noop(background), os.ErrDeadlineExceeded)
					if took := time.Since(start); took < 2*timeout || took > 2*timeout+timeout {
						t.Errorf("timed out after %v", took)
					}
				})
			})
		}
	}
}

// TestSlowWriteAfterAnother: a Write may take as long as the timeout, whenever the one before was.
func TestSlowWriteAfterAnother(t *testing.T) {
	const timeout = 2 * time.Minute // by default
	for name, link := range tlsLinks {
		for _, pause := range []time.Duration{0, timeout/2 - 5*time.Second, timeout - 5*time.Second} {
			for _, slow := range []time.Duration{timeout - 5*time.Second, timeout + 5*time.Second} {
				t.Run(fmt.Sprint(name, "/", pause, "/", slow), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						client, server := net.Pipe()
						defer server.Close()
						l := link(t, client, server)
						go answerOne(l.server, "+OK\r\n")
						must(t, l.c.Noop(background))
						time.Sleep(pause)
						go func() {
							time.Sleep(slow)
							answerOne(l.server, "+OK\r\n")
						}()
						start := time.Now()
						err := l.c.Noop(background)
						if slow < timeout {
							must(t, err)
							lasted(t, time.Since(start), slow)
							return
						}
						wantError(t, err, os.ErrDeadlineExceeded)
						lasted(t, time.Since(start), timeout)
						time.Sleep(slow)
					})
				})
			}
		}
	}
}
