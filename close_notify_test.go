package pop3

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A tlsLink connects a client over TLS to a server that is part of the test.
type tlsLink struct {
	c      *Client
	server *tls.Conn
	below  net.Conn // the server's end below TLS
}

// tlsLinks are the ways to TLS, given two connected ends.
var tlsLinks = map[string]func(t *testing.T, client, server net.Conn) tlsLink{
	"own TLS": func(t *testing.T, client, server net.Conn) tlsLink {
		s := tls.Server(server, serverTLS(t))
		go io.WriteString(s, "+OK ready\r\n")
		return tlsLink{connect(t, nil, tls.Client(client, &tls.Config{InsecureSkipVerify: true})), s, server}
	},
	"DialTLS": func(t *testing.T, client, server net.Conn) tlsLink {
		s := tls.Server(server, serverTLS(t))
		go io.WriteString(s, "+OK ready\r\n")
		c, err := DialTLS(background, "localhost", &Options{Dialer: &dialer{conn: client}, TLSConfig: &tls.Config{InsecureSkipVerify: true}})
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return tlsLink{c, s, server}
	},
	"STLS": func(t *testing.T, client, server net.Conn) tlsLink {
		s := tls.Server(server, serverTLS(t))
		shaken := make(chan error, 1)
		go func() {
			io.WriteString(server, "+OK ready\r\n")
			answerOne(server, "+OK\r\nSTLS\r\n.\r\n")
			answerOne(server, "+OK\r\n")
			shaken <- s.Handshake()
		}()
		c, err := DialStartTLS(background, "localhost", &Options{Dialer: &dialer{conn: client}, TLSConfig: &tls.Config{InsecureSkipVerify: true}})
		must(t, err)
		t.Cleanup(func() { c.Close() })
		must(t, <-shaken)
		return tlsLink{c, s, server}
	},
}

// eachTLSLink calls test for each way to TLS, over pipes and over sockets.
func eachTLSLink(t *testing.T, test func(t *testing.T, l tlsLink)) {
	for name, link := range tlsLinks {
		t.Run(name+"/pipe", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				test(t, link(t, client, server))
			})
		})
		t.Run(name+"/TCP", func(t *testing.T) {
			client, server := tcpPair(t)
			test(t, link(t, client, server))
		})
	}
}

// records reads to the end, and names the records by their sizes, since TLS 1.3 reveals nothing else. (crypto/tls takes
// a connection cut between two records for its end.)
func records(below net.Conn) (names string) {
	data, _ := io.ReadAll(below) // a reset ends it too
	const (
		header = 5
		alert  = 2 + 1 + 16 // with the type and the tag of the encryption
	)
	for len(data) > header {
		n := int(data[3])<<8 | int(data[4])
		if data[0] == 23 && n == alert && len(data) >= header+n {
			names += "alert"
		} else {
			names += fmt.Sprintf("%q", data)
		}
		data = data[min(header+n, len(data)):]
	}
	return names
}

// TestQuitSendsCloseNotify checks that the server can distinguish the end of the session from a cut, whatever its
// response.
func TestQuitSendsCloseNotify(t *testing.T) {
	for _, answer := range []string{"+OK bye\r\n", "-ERR some messages were not removed\r\n", "nonsense\r\n"} {
		t.Run(answer[:3], func(t *testing.T) {
			eachTLSLink(t, func(t *testing.T, l tlsLink) {
				end := make(chan string, 1)
				go func() {
					answerOne(l.server, answer)
					end <- records(l.below)
				}()
				err := l.c.Quit(background)
				if (err == nil) != (answer[0] == '+') || isServerError(err) != (answer[0] == '-') {
					t.Errorf("Quit: %v", err)
				}
				if got := <-end; got != "alert" && answer[0] != 'n' || answer[0] == 'n' && got != "" { // a malformed response closes the session at once
					t.Errorf("the server reads %q", got)
				}
			})
		})
	}
}

// TestCloseSendsNoCloseNotify checks that Close closes at once.
func TestCloseSendsNoCloseNotify(t *testing.T) {
	eachTLSLink(t, func(t *testing.T, l tlsLink) {
		end := make(chan string, 1)
		go func() { end <- records(l.below) }()
		must(t, l.c.Close())
		if got := <-end; got != "" {
			t.Errorf("the server reads %q", got)
		}
	})
}

// TestQuitFromAPeerThatDoesNotRead checks that neither Quit nor Close waits long for a server that has stopped reading.
func TestQuitFromAPeerThatDoesNotRead(t *testing.T) {
	for name, link := range tlsLinks {
		for _, answer := range []string{"+OK bye\r\n", "-ERR no\r\n"} {
			t.Run(name+"/"+answer[:3], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					client, server := net.Pipe()
					defer server.Close()
					l := link(t, client, server)
					answered := make(chan struct{})
					go func() {
						answerOne(l.server, answer)
						close(answered)
					}()
					start := time.Now()
					l.c.Quit(background)
					if took := time.Since(start); took > time.Second {
						t.Errorf("Quit took %v", took)
					}
					<-answered
					wantError(t, l.c.Noop(background), ErrClosed)
				})
			})
		}
		t.Run(name+"/Close", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				l := link(t, client, server)
				start := time.Now()
				must(t, l.c.Close())
				lasted(t, time.Since(start), 0)
			})
		})
	}
}

// TestCloseDuringQuit checks that Close ends the wait of Quit, for the response and for a peer that does not read.
func TestCloseDuringQuit(t *testing.T) {
	for _, answer := range []string{"", "+OK\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			defer server.Close()
			l := tlsLinks["own TLS"](t, client, server)
			quit := make(chan error, 1)
			start := time.Now()
			go func() { quit <- l.c.Quit(background) }()
			go answerOne(l.server, answer)
			time.Sleep(10 * time.Millisecond)
			must(t, l.c.Close())
			if err := <-quit; answer == "" {
				wantError(t, err, ErrClosed)
			} else {
				must(t, err)
			}
			lasted(t, time.Since(start), 10*time.Millisecond)
		})
	}
}
