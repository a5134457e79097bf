package connect

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// join copies in both directions until one ends.
func join(a, b net.Conn) {
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			io.Copy(pair[0], pair[1])
			pair[0].Close()
			pair[1].Close()
		})
	}
	both.Wait()
}

// httpProxy serves CONNECT to a user with a password. The greeting of the server may come with the response.
func httpProxy(t *testing.T, secure bool) string {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != "Basic am9lOmEgYjpj" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		server, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		first := []byte("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
		if !secure { // the greeting of a server that speaks first
			buf := make([]byte, 512)
			server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			n, _ := server.Read(buf)
			server.SetReadDeadline(time.Time{})
			first = append(first, buf[:n]...)
		}
		client.Write(first)
		join(client, server)
	})
	proxy := httptest.NewUnstartedServer(handler)
	scheme := "http"
	if secure {
		cert, _, _ := certificate(t, "localhost")
		proxy.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		proxy.StartTLS()
		scheme = "https"
	} else {
		proxy.Start()
	}
	t.Cleanup(proxy.Close)
	return scheme + "://joe:a%20b:c@" + proxy.Listener.Addr().String()
}

// socksProxy5 is a SOCKS5 proxy (RFC 1928) that knows one user (RFC 1929).
func socksProxy5(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if err := serveSOCKS(conn); err != nil {
					t.Log(err)
				}
			}()
		}
	}()
	return "socks5://joe:pw@" + listener.Addr().String()
}

func serveSOCKS(conn net.Conn) error {
	r := bufio.NewReader(conn)
	read := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(r, b)
		return b
	}
	read(int(read(2)[1])) // the methods
	conn.Write([]byte{5, 2})
	user := string(read(int(read(2)[1])))
	password := string(read(int(read(1)[0])))
	if user != "joe" || password != "pw" {
		conn.Write([]byte{1, 1})
		return errors.New("wrong user")
	}
	conn.Write([]byte{1, 0})
	var host string
	switch read(4)[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	}
	server, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(binary.BigEndian.Uint16(read(2)))))
	if err != nil {
		conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	join(conn, server)
	return nil
}

func TestProxies(t *testing.T) {
	for name, proxy := range map[string]string{"http": httpProxy(t, false), "https": httpProxy(t, true), "socks5": socksProxy5(t)} {
		for _, implicit := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %v", name, implicit), func(t *testing.T) {
				_, a := serve(t, implicit, func(s *pop3test.Server) { s.STLS = true })
				a.Proxy = proxy
				c := connector(a)
				if name == "https" {
					c.TLS.InsecureSkipVerify = true
				}
				if err := dial(t, c); err != nil {
					t.Fatal(err)
				}
				a.Proxy = strings.Replace(proxy, "joe", "jim", 1)
				if err := dial(t, c); err == nil || !strings.Contains(err.Error(), "proxy 127.0.0.1:") || strings.Contains(err.Error(), "pw") {
					t.Errorf("a wrong user of the proxy: %v", err)
				}
			})
		}
	}
}

// An encrypted connection to the proxy does not pass for one to the server.
func TestProxySecureOnly(t *testing.T) {
	srv, a := serve(t, false, func(s *pop3test.Server) { s.STLS = false })
	a.Proxy = httpProxy(t, true)
	c := connector(a)
	c.TLS.InsecureSkipVerify = true
	if err := dial(t, c); !errors.Is(err, pop3.ErrTLSNotSupported) {
		t.Errorf("error %v after %q", err, srv.Commands())
	}
}

// The proxy reports that the server is not reachable.
func TestProxyCannotConnect(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	for _, proxy := range []string{httpProxy(t, false), socksProxy5(t)} {
		a := accountOf(t, listener.Addr().String(), true)
		a.Proxy = proxy
		if err := dial(t, connector(a)); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("error %v", err)
		}
	}
}

// script serves one response to one connection.
func script(t *testing.T, serve func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		http.ReadRequest(bufio.NewReader(conn))
		serve(conn)
	}()
	return listener.Addr().String()
}

func TestBadProxy(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"closes":          {func(net.Conn) {}, "EOF"},
		"is no proxy":     {func(c net.Conn) { io.WriteString(c, "+OK POP3\r\n") }, "malformed"},
		"endless header":  {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nA: "); io.Copy(c, zeros{}) }, "too large"},
		"never responds":  {func(c net.Conn) { io.Copy(io.Discard, c) }, "timed out"},
		"stops half-way":  {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nA"); io.Copy(io.Discard, c) }, "timed out"},
		"wants a payment": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 402 Pay\r\nContent-Length: 9\r\n\r\n") }, "402 Pay"},
	} {
		t.Run(name, func(t *testing.T) {
			a := accountOf(t, "127.0.0.1:1", true)
			a.Timeout = 2 * time.Second
			if test.want == "timed out" {
				a.Timeout = 50 * time.Millisecond
			}
			a.Proxy = "http://" + script(t, test.serve)
			if err := dial(t, connector(a)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// zeros is an endless run of the digit 0.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func TestProxyCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a := accountOf(t, "127.0.0.1:1", true)
	a.Proxy = "http://" + script(t, func(c net.Conn) { cancel(); io.Copy(io.Discard, c) })
	if _, err := connector(a).Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
