package pop3

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/socket"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// tcpPair connects two ends over the loopback interface.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	must(t, err)
	server, err = l.Accept()
	must(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// say writes text. It may be called from any goroutine that ends before the test does.
func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
	}
}

// greet writes a greeting while NewClient waits for it. NewClient reports errors.
func greet(conn net.Conn) { go io.WriteString(conn, "+OK ready\r\n") }

// answerOne reads a line and sends a response.
func answerOne(conn net.Conn, answer string) {
	b := make([]byte, 1)
	for b[0] != '\n' {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
	io.WriteString(conn, answer)
}

// serverTLS is a server's TLS configuration, with a certificate that no client trusts.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// overTLS puts TLS over two connected ends.
func overTLS(t *testing.T, client, server net.Conn) (*tls.Conn, *tls.Conn) {
	t.Helper()
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	s := tls.Server(server, serverTLS(t))
	shaken := make(chan error)
	go func() { shaken <- s.Handshake() }()
	must(t, c.Handshake())
	must(t, <-shaken)
	return c, s
}

// transports connect two ends, for each implementation of probing.
var transports = map[string]func(t *testing.T) (client, server net.Conn){
	"TCP": tcpPair,
	"TLS": func(t *testing.T) (client, server net.Conn) {
		client, server = tcpPair(t)
		return overTLS(t, client, server)
	},
}

// TestConnUnsolicited has data arrive while no command is in flight. It is not taken for a response, and is reported.
func TestConnUnsolicited(t *testing.T) {
	for name, pair := range transports {
		for _, test := range []struct{ name, unsolicited, last string }{
			{"a line", "-ERR autologout\r\n", `"-ERR autologout"`},
			{"two lines", "-ERR one\r\n-ERR two\r\n", `"-ERR two"`},
			{"a false response", "+OK 7 7\r\n", `"+OK 7 7"`},
			{"no line", "\x1b[2J", `\x1b[2J`},
			{"a secret", "-ERR bye tanstaaf\r\n", `"-ERR bye ****"`},
		} {
			t.Run(name+"/"+test.name, func(t *testing.T) {
				client, server := pair(t)
				greet(server)
				var log bytes.Buffer
				c := connect(t, &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, client)
				c.s.conn.keepSecret("tanstaaf")
				say(t, server, test.unsolicited)
				if t, ok := client.(*tls.Conn); ok {
					client = t.NetConn()
				}
				awaitData(t, client)
				c.s.conn.idle = time.Time{} // as if some time had passed
				go answerOne(server, "+OK 2 320\r\n")
				if n, size, err := c.Stat(background); n != 2 || size != 320 || err != nil {
					t.Errorf("Stat = %d, %d, %v", n, size, err)
				}
				if !strings.Contains(log.String(), test.last) {
					t.Errorf("log: %s", log.String())
				}
			})
		}
	}
	t.Run("pipe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			go func() {
				io.WriteString(server, "+OK ready\r\n")
				io.WriteString(server, "-ERR unsolicited\r\n")
				answerOne(server, "+OK 2 320\r\n")
			}()
			c := connect(t, nil, client)
			time.Sleep(time.Second)
			if n, size, err := c.Stat(background); n != 2 || size != 320 || err != nil {
				t.Errorf("Stat = %d, %d, %v", n, size, err)
			}
		})
	})
}

// TestUnsolicitedDataInOneWrite has the data arrive together with the previous response.
func TestUnsolicitedDataInOneWrite(t *testing.T) {
	var log bytes.Buffer
	c := dialogue(t, &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, `
		C: NOOP
		S: +OK\r\n+OK 7 7\r\n-ERR going
		C: STAT
		S: +OK 2 320`)
	must(t, c.Noop(background))
	if n, size, err := c.Stat(background); n != 2 || size != 320 || err != nil {
		t.Errorf("Stat = %d, %d, %v", n, size, err)
	}
	if !strings.Contains(log.String(), `"-ERR going"`) {
		t.Errorf("log: %s", log.String())
	}
}

func TestUnsolicitedDataWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where a probe misses nothing, however busy the machine is
		c := connOn(strings.Repeat("+OK\r\n", 1<<19))
		err := c.discardUnsolicited()
		if protocol := new(ProtocolError); !errors.As(err, &protocol) {
			t.Errorf("error %v, want a ProtocolError", err)
		}
	})
}

func TestConnUnsolicitedLineReported(t *testing.T) {
	for name, pair := range transports {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			greet(server)
			c := connect(t, nil, client)
			say(t, server, "-ERR [SYS/TEMP] going down\x07\r\n")
			server.Close()
			c.s.conn.idle = time.Time{}
			for range 2 {
				err := c.Noop(background)
				wantError(t, err, ErrClosed, net.ErrClosed)
				if err == nil || !strings.Contains(err.Error(), `"-ERR [SYS/TEMP] going down\a"`) {
					t.Errorf("error %q lacks the last line", err)
				}
			}
		})
	}
}

// TestConnHangsUpUnderTLS checks that closing does not wait for a peer that does not read, as the Close of a tls.Conn
// would.
func TestConnHangsUpUnderTLS(t *testing.T) {
	client, server := net.Pipe()
	secure, end := overTLS(t, client, server)
	greet(end)
	c := connect(t, nil, secure)
	start := time.Now()
	must(t, c.Close())
	if d := time.Since(start); d > 3*time.Second { // crypto/tls waits five
		t.Errorf("Close took %v", d)
	}
	if _, err := io.Copy(io.Discard, server); err != nil {
		t.Errorf("the connection below: %v", err)
	}
}

// TestReadWhileWriterBlocked has crypto/tls send an alert from within Read, which waits until the writer of a batch is
// done.
func TestReadWhileWriterBlocked(t *testing.T) {
	client, server := net.Pipe()
	secure, end := overTLS(t, client, server)
	go func() {
		buf := make([]byte, 100)
		io.WriteString(end, "+OK\r\n")
		end.Read(buf) // CAPA
		io.WriteString(end, "+OK\r\nPIPELINING\r\n.\r\n")
		server.Read(buf[:1]) // from here on the writer waits for the rest of its record to be read
		io.WriteString(server, "\x17\x03\x03\x00\x20no record of this connection's !!")
	}()
	c := connect(t, nil, secure)
	_, err := c.Capabilities(background)
	must(t, err)
	c.s.conn.sock = socket.New(secure, 50*time.Millisecond) // set after the login, which may take as long on a busy machine
	wantError(t, c.DeleAll(background, []int{1, 2}), os.ErrDeadlineExceeded)
}

// trickle delivers ten bytes per second.
type trickle struct{ net.Conn }

func (c trickle) Read(p []byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	return c.Conn.Read(p[:1])
}

// TestSlowTLSRecord checks that a record that arrives slowly does not time out, though a batch gets no data of it
// before its last byte.
func TestSlowTLSRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("line\r\n", 20)
		srv := pop3test.NewUnstartedServer(pop3test.Messages(text, text))
		defer srv.Close()
		c, err := DialTLS(background, "localhost", &Options{
			Dialer:    &dialer{conn: trickle{srv.PipeTLS()}},
			TLSConfig: pop3test.TLSConfig(),
			Timeout:   time.Second,
		})
		must(t, err)
		defer c.Close()
		must(t, c.Login(background, "user", "secret"))
		for m, err := range c.RetrAll(background, []int{1, 2}) {
			readAll(t, m, err, text)
		}
		c.Close()
		time.Sleep(time.Second) // for a Read that is still asleep
	})
}

// TestConnRefusedUnderTLS checks that NewClient does not wait for the peer either if the greeting is refused.
func TestConnRefusedUnderTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		secure, _ := overTLS(t, client, server)
		start := time.Now()
		_, err := NewClient(doneContext(), secure, nil)
		wantError(t, err, context.Canceled)
		if took := time.Since(start); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}

// timeless is a connection without deadlines.
type timeless struct{ net.Conn }

func (timeless) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (timeless) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (timeless) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// TestNoDeadlines has a connection that does not support deadlines. The timeout applies, and a probe does not wait for
// data.
func TestNoDeadlines(t *testing.T) {
	const timeout = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, &Options{Timeout: timeout}, timeless{pop3test.Play(t, `
			S: +OK
			C: NOOP
			!wait 29s
			S: +OK
			C: NOOP
			!stall`)})
		time.Sleep(time.Minute)
		must(t, c.Noop(background))
		time.Sleep(time.Minute)
		start := time.Now()
		wantError(t, c.Noop(background), os.ErrDeadlineExceeded)
		lasted(t, time.Since(start), timeout)

		client, _ := net.Pipe()
		start = time.Now()
		_, err := socket.New(timeless{client}, timeout).Write([]byte("NOOP\r\n"))
		wantError(t, err, os.ErrDeadlineExceeded)
		lasted(t, time.Since(start), timeout)
	})
	t.Run("below TLS", func(t *testing.T) { // the Close of TLS would wait for a peer that does not read
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			secure, end := overTLS(t, timeless{client}, server)
			greet(end)
			c := connect(t, &Options{Timeout: timeout}, secure)
			go end.Read(make([]byte, 100)) // the command, and nothing more
			wantError(t, c.Noop(background), os.ErrDeadlineExceeded)
		})
	})
}

// embedding has the methods of a *net.TCPConn, but reads something else.
type embedding struct {
	*net.TCPConn
	inner net.Conn
}

func (e embedding) Read(p []byte) (int, error)         { return e.inner.Read(p) }
func (e embedding) Write(p []byte) (int, error)        { return e.inner.Write(p) }
func (e embedding) SetReadDeadline(at time.Time) error { return e.inner.SetReadDeadline(at) }

// TestProbeThroughRead checks that a probe uses the connection's Read, and not a socket below it.
func TestProbeThroughRead(t *testing.T) {
	outer, peer := tcpPair(t)
	inner, server := net.Pipe()
	go answerOne(server, "+OK\r\n")
	say(t, peer, "not for us\r\n")
	c := connOn()
	c.sock = socket.New(embedding{outer.(*net.TCPConn), inner}, time.Minute)
	must(t, c.discardUnsolicited())
	must(t, c.send("NOOP", "NOOP"))
	if word, _, err := c.status(); word != "+OK" || err != nil || c.lastLine != "" {
		t.Errorf("%q, %v, %q", word, err, c.lastLine)
	}
}

// drip is a connection on which unsolicited data arrives all the time.
type drip struct{ net.Conn }

func (drip) SetDeadline(time.Time) error     { return nil }
func (drip) SetReadDeadline(time.Time) error { return nil }

func (drip) Read(p []byte) (int, error) {
	time.Sleep(probeWait * 9 / 10)
	p[0] = '*'
	return 1, nil
}

// TestProbeBounded checks that a probe ends though data keeps arriving.
func TestProbeBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connOn()
		c.sock = socket.New(drip{}, time.Minute)
		start := time.Now()
		err := c.discardUnsolicited()
		if took := time.Since(start); !isProtocolError(err) || took > maxUnsolicitedTime+probeWait {
			t.Errorf("probed for %v, %v", took, err)
		}
	})
}

// TestConnTimeoutBetweenCommands checks that the timeout does not apply while no command is in flight.
func TestConnTimeoutBetweenCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{Timeout: time.Second}, `
			C: NOOP
			S: +OK
			C: NOOP
			S: +OK`)
		must(t, c.Noop(background))
		time.Sleep(time.Hour)
		must(t, c.Noop(background))
	})
}
