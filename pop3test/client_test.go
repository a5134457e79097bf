package pop3test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A client is the other side of a transcript: it sends the lines C: and expects the lines S:, or for S- only the
// beginning. C* sends its text without CRLF, and !close expects the server to close the connection.
type client struct {
	net.Conn
	t    *testing.T
	r    *bufio.Reader
	conf *tls.Config
}

func newClient(t *testing.T, conn net.Conn) *client {
	t.Cleanup(func() { conn.Close() })
	conf := TLSConfig()
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(1) // asks for tickets
	return &client{conn, t, bufio.NewReader(conn), conf}
}

// dial connects to a started server.
func dial(t *testing.T, s *Server) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn)
}

// pipe opens a session on a server that need not be started.
func pipe(t *testing.T, s *Server) *client { return newClient(t, s.Pipe()) }

func (c *client) talk(transcript string) {
	c.t.Helper()
	s, err := ParseScript(transcript)
	if err != nil {
		c.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	for _, st := range s.steps {
		switch st.do {
		case receive:
			_, err = io.WriteString(c, st.text+"\r\n")
		case receivePrefix:
			_, err = io.WriteString(c, st.text)
		case handshake:
			conn := tls.Client(c.Conn, c.conf)
			err = conn.Handshake()
			c.Conn = conn
			c.r.Reset(conn)
		case send:
			var got string
			got, err = c.r.ReadString('\n')
			exact := strings.HasSuffix(st.text, "\r\n")
			if err == nil && (exact && got != st.text || !strings.HasPrefix(got, st.text)) {
				c.t.Fatalf("line %d: the server sent %q, want %q", st.line, got, st.text)
			}
		case closeConn:
			if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
				c.t.Fatalf("line %d: the server sent %q, %v; and should have hung up", st.line, rest, err)
			}
		default:
			c.t.Fatalf("line %d: not for a client", st.line)
		}
		if err != nil {
			c.t.Fatalf("line %d: %v, want %q", st.line, err, st.text)
		}
	}
}

const login = `
	S: +OK pop3test ready
	C: USER user
	S: +OK send PASS
	C: PASS secret
	S: +OK logged in
`

const quit = `
	C: QUIT
	S: +OK bye
	!close
`

// three are the messages of most tests.
func three() Maildrop {
	return Messages(
		"Subject: one\r\n\r\nfirst\r\n",
		"Subject: two\r\n\r\n.\r\n..\r\n.x\r\nlast\r\n",
		"Subject: three\r\n\r\nno end",
	)
}
