package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestProbe probes a connection whose last deadline has passed.
func TestProbe(t *testing.T) {
	client, server := tcpPair(t)
	c := New(client, time.Minute)
	c.Probe(true)
	pass := func() {
		c.readBy = time.Unix(1, 0)
		must(t, client.SetReadDeadline(c.readBy))
	}
	pass()
	b := make([]byte, 8)
	if n, err := c.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no data: %d, %v", n, err)
	}
	_, err := io.WriteString(server, "x")
	must(t, err)
	pass()
	if n, err := c.Read(b); n != 1 || err != nil {
		t.Errorf("one byte: %d, %v", n, err)
	}
	server.Close()
	if n, err := c.Read(b); n != 0 || err != io.EOF {
		t.Errorf("closed: %d, %v", n, err)
	}
}

// TestWriteTimeout has a deadline that was set for an earlier write, and must not make a later one fail early.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := New(client, time.Minute)
		go server.Read(make([]byte, 10))
		_, err := c.Write([]byte("NOOP\r\n"))
		must(t, err)
		time.Sleep(20 * time.Second)
		start := time.Now()
		_, err = c.Write([]byte("NOOP\r\n"))
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Minute {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// ignoresDeadlines is a connection whose deadlines have no effect.
type ignoresDeadlines struct{ net.Conn }

func (ignoresDeadlines) SetDeadline(time.Time) error      { return nil }
func (ignoresDeadlines) SetReadDeadline(time.Time) error  { return nil }
func (ignoresDeadlines) SetWriteDeadline(time.Time) error { return nil }

// TestIgnoredDeadlines checks that neither a probe nor a Read nor a Write blocks forever.
func TestIgnoredDeadlines(t *testing.T) {
	for name, do := range map[string]func(c *Conn) error{
		"read":         func(c *Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"write":        func(c *Conn) error { _, err := c.Write([]byte("x")); return err },
		"probed, read": func(c *Conn) error { probeOnce(c); _, err := c.Read(make([]byte, 1)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := net.Pipe()
				c := New(ignoresDeadlines{client}, time.Minute)
				start := time.Now()
				err := do(c)
				if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took > 2*time.Minute {
					t.Errorf("%v after %v", err, took)
				}
				must(t, c.Close())
			})
		})
	}
}

func probeOnce(c *Conn) (int, error) {
	c.Probe(true)
	defer c.Probe(false)
	return c.Read(make([]byte, 1))
}

// TestProbeKeepsData checks that data that arrives after a probe has timed out is read by the next Read, in order.
func TestProbeKeepsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := New(client, time.Minute)
		defer c.Close()
		for range 3 {
			if n, err := probeOnce(c); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("no data: %d, %v", n, err)
			}
		}
		go io.WriteString(server, "+OK\r\n")
		b := make([]byte, 2)
		got := ""
		for len(got) < 5 {
			n, err := c.Read(b)
			must(t, err)
			got += string(b[:n])
		}
		if got != "+OK\r\n" {
			t.Errorf("got %q", got)
		}
		server.Close()
		if _, err := c.Read(b); err != io.EOF {
			t.Errorf("%v, want io.EOF", err)
		}
	})
}

// TestCloseEndsAProbe: a Read that a probe has started is not waited for after Close, even if it goes on.
func TestCloseEndsAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		client, _ := net.Pipe()
		c := New(deaf{client, never}, -1)
		probeOnce(c)
		start := time.Now()
		time.AfterFunc(time.Second, func() { c.Close() })
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// deaf is a connection whose Close does not end its Read.
type deaf struct {
	net.Conn
	never chan struct{}
}

func (d deaf) Read([]byte) (int, error) {
	<-d.never
	return 0, io.EOF
}

// TestCloseThatPanics: Close may be called where no caller could recover.
func TestCloseThatPanics(t *testing.T) {
	if err := New(panics{Conn: timelessPipe{}}, -1).Close(); err == nil {
		t.Error("no error")
	}
}

type timelessPipe struct{ net.Conn }

func (timelessPipe) SetDeadline(time.Time) error { return errors.ErrUnsupported }
func (timelessPipe) Close() error                { panic("Close") }

// TestProbeOfPanickingConn checks that a panic of a Read in a goroutine of the package does not end the program.
func TestProbeOfPanickingConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := net.Pipe()
		c := New(panics{client}, time.Minute)
		if _, err := probeOnce(c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

type panics struct{ net.Conn }

func (panics) Read([]byte) (int, error) { panic("Read") }

// TestKeptWriteTimeout checks that no deadline fires early on a connection that keeps a write timeout forever, as
// crypto/tls does.
func TestKeptWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := New(&keepsTimeout{Conn: client}, time.Minute)
		defer c.Close()
		go io.Copy(io.Discard, server)
		for range 5 {
			_, err := c.Write([]byte("NOOP\r\n"))
			must(t, err)
			time.Sleep(33 * time.Second)
		}
		server.Close()
	})
}

// keepsTimeout fails once its write deadline has passed since the last Write.
type keepsTimeout struct {
	net.Conn
	by time.Time
}

func (k *keepsTimeout) SetWriteDeadline(t time.Time) error { k.by = t; return nil }

func (k *keepsTimeout) Write(p []byte) (int, error) {
	if !k.by.IsZero() && time.Now().After(k.by) {
		return 0, os.ErrDeadlineExceeded
	}
	return k.Conn.Write(p)
}

// TestDeadlinesCleared checks that New clears the caller's deadlines.
func TestDeadlinesCleared(t *testing.T) {
	client, server := tcpPair(t)
	must(t, client.SetDeadline(time.Unix(1, 0)))
	c := New(client, -1)
	_, err := c.Write([]byte("x"))
	must(t, err)
	_, err = server.Write([]byte("x"))
	must(t, err)
	_, err = c.Read(make([]byte, 1))
	must(t, err)
}

// TestBlockingMode has a socket whose descriptor was put into blocking mode: probing, reading and writing end with Close.
func TestBlockingMode(t *testing.T) {
	for name, do := range map[string]func(c *Conn) error{
		"probe": func(c *Conn) error { _, err := probeOnce(c); return err },
		"read":  func(c *Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"write": func(c *Conn) error { _, err := c.Write(make([]byte, 64<<20)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := tcpPair(t)
			f, err := client.(*net.TCPConn).File()
			must(t, err)
			defer f.Close()
			f.Fd()
			c := New(client, -1)
			if c.raw == nil {
				t.Skip("no system calls that do not block")
			}
			ended := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { ended <- do(c); cancel() }()
			if name != "probe" {
				time.AfterFunc(20*time.Millisecond, cancel)
			}
			<-ctx.Done()
			must(t, c.Close())
			if err := <-ended; err == nil {
				t.Error("no error")
			}
		})
	}
}
