package connect

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
)

type contextDialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// newProxy returns a dialer that connects by the proxy of a URL.
func newProxy(text string, direct contextDialer, base *tls.Config) (contextDialer, error) {
	u, err := config.ParseProxy(text)
	if err != nil {
		return nil, &SetupError{err}
	}
	switch u.Scheme {
	case "http", "https":
		return &connectProxy{u, direct, base}, nil
	}
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", withPort(u, "1080"), auth, forwarder{direct})
	if err != nil {
		return nil, &SetupError{err}
	}
	cd, ok := d.(contextDialer)
	if !ok {
		return nil, setupError("the SOCKS dialer knows no context")
	}
	return socksProxy{cd, u.Host}, nil
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// A forwarder adapts a contextDialer to package proxy.
type forwarder struct{ contextDialer }

func (f forwarder) Dial(network, addr string) (net.Conn, error) {
	return f.DialContext(context.Background(), network, addr)
}

// A socksProxy names the proxy in errors.
type socksProxy struct {
	contextDialer
	host string
}

func (s socksProxy) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := s.contextDialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", s.host, err)
	}
	return conn, nil
}

// A connectProxy is an HTTP proxy with the method CONNECT (RFC 9110, section 9.3.6).
type connectProxy struct {
	url    *url.URL
	direct contextDialer
	base   *tls.Config
}

func (p *connectProxy) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	port := "80"
	if p.url.Scheme == "https" {
		port = "443"
	}
	conn, err := p.direct.DialContext(ctx, network, withPort(p.url, port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", p.url.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	opened, err := p.open(ctx, conn, addr)
	if !stop() && err == nil {
		err = ctx.Err() // the deadline may have been set after the last read
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("proxy %s: %w", p.url.Host, err)
	}
	return opened, nil
}

// maxProxyHeader bounds the response of a proxy.
const maxProxyHeader = 64 << 10

// open asks the proxy for a connection to addr.
func (p *connectProxy) open(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	if p.url.Scheme == "https" {
		t := &tls.Config{}
		if p.base != nil {
			t = p.base.Clone()
		}
		t.ServerName = p.url.Hostname()
		secure := tls.Client(conn, t)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: make(http.Header)}
	if u := p.url.User; u != nil {
		password, _ := u.Password()
		carrier := &http.Request{Header: make(http.Header)}
		carrier.SetBasicAuth(u.Username(), password)
		request.Header.Set("Proxy-Authorization", carrier.Header.Get("Authorization"))
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: maxProxyHeader}
	buffered := bufio.NewReader(limited)
	response, err := http.ReadResponse(buffered, request)
	if err != nil {
		if limited.N == 0 {
			err = errors.New("the response is too large")
		}
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("refused the connection: %s", response.Status)
	}
	if buffered.Buffered() == 0 && p.url.Scheme == "http" {
		return conn, nil
	}
	limited.N = math.MaxInt64
	return &tunnel{conn, buffered}, nil
}

// A tunnel first returns the data that arrived together with the response of the proxy, since a POP3 server sends
// first. It also hides that the connection to the proxy is encrypted, because that to the server is not.
type tunnel struct {
	net.Conn
	r *bufio.Reader
}

func (c *tunnel) Read(p []byte) (int, error) {
	if c.r.Buffered() > 0 {
		return c.r.Read(p)
	}
	return c.Conn.Read(p)
}
