package pop3_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A proxy is a pop3.Dialer that connects through an HTTP proxy with CONNECT.
type proxy struct{ addr string }

func (p proxy) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, p.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	tunneled, err := connect(conn, addr)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return tunneled, nil
}

// connect has the proxy at the other end of conn open a tunnel to addr.
func connect(conn net.Conn, addr string) (net.Conn, error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("proxy: %s", response.Status)
	}
	if r.Buffered() == 0 {
		return conn, nil
	}
	return bufferedConn{conn, r}, nil // the greeting has arrived with the response
}

// A bufferedConn reads buffered data first.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Connect through a proxy. For SOCKS, use the dialer of golang.org/x/net/proxy.
func ExampleDialer() {
	srv := pop3test.NewTLSServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
	defer srv.Close()
	tunnel := httptest.NewServer(http.HandlerFunc(serveConnect))
	defer tunnel.Close()

	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{
		TLSConfig: srv.TLSConfig(),
		Dialer:    proxy{tunnel.Listener.Addr().String()},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Login(ctx, "user", "secret"))

	// Output:
	// <nil>
}

// serveConnect is a proxy for tests.
func serveConnect(w http.ResponseWriter, r *http.Request) {
	server, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	go func() {
		io.Copy(server, buffered)
		server.Close()
	}()
	io.Copy(client, server)
}
