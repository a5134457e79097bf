package pop3

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/dotstuff"
)

// corpus are the shapes of text that matter to un-stuffing, each repeated to a given size, in its unstuffed form.
var corpus = []struct {
	name, unit string
	size       int // of the message to be retrieved
}{
	{"base64", strings.Repeat(strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn", 2)[:76]+"\r\n", 13), 32 << 20},
	{"prose", "The minutes of the last meeting were read. They were approved, with one change.\r\nNobody asked why; it was late, and the room was cold.\r\n", 32 << 20},
	{"dots", ".\r\n", 32 << 20},
	{"twodots", "..\r\n", 32 << 20},
	{"leaders", "Chapter 1 ........................................................... 17\r\n", 32 << 20},
	{"short", "abc\r\n", 32 << 20},
	{"oneline", strings.Repeat("x", 1<<20), 100 << 20},
}

func corpusText(unit string, size int) []byte {
	b := bytes.Repeat([]byte(unit), size/len(unit)+1)
	return append(b[:size], "\r\n"...)
}

// stuffed returns text as it is sent, including the terminator.
func stuffed(text []byte) []byte {
	var b bytes.Buffer
	w := textproto.NewWriter(bufio.NewWriter(&b)).DotWriter()
	w.Write(text)
	w.Close()
	return b.Bytes()
}

// BenchmarkUnstuff measures the un-stuffing alone, in memory, relative to a copy.
func BenchmarkUnstuff(b *testing.B) {
	for _, c := range corpus {
		b.Run(c.name, func(b *testing.B) {
			each(b, unstuffing(c.unit))
		})
	}
}

func unstuffing(unit string) []contender {
	wire := stuffed(corpusText(unit, bufferSize-100))
	buf := make([]byte, len(wire))
	return []contender{
		{"copy", len(wire), func() error { copy(buf, wire); return nil }},
		{"unstuff", len(wire), func() error {
			copy(buf, wire)
			var u dotstuff.Unstuffer
			if _, _, end := u.Next(buf); !end {
				return io.ErrUnexpectedEOF
			}
			return nil
		}},
	}
}

// blast serves one response for each command on a loopback port, over TLS if there is a configuration.
func blast(b *testing.B, answer []byte, config *tls.Config) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if config != nil {
				conn = tls.Server(conn, config)
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, "+OK\r\n")
				r := bufio.NewReader(conn)
				for {
					if _, err := r.ReadSlice('\n'); err != nil {
						return
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// BenchmarkRetr streams one message from a loopback socket: the socket alone, ours by Read and by WriteTo, net/textproto.
func BenchmarkRetr(b *testing.B) {
	for _, c := range corpus {
		b.Run(c.name, func(b *testing.B) {
			each(b, retrieving(b, c.unit, c.size, false))
		})
	}
}

// BenchmarkRetrTLS is BenchmarkRetr over TLS, where crypto/tls is the limit.
func BenchmarkRetrTLS(b *testing.B) {
	each(b, retrieving(b, corpus[0].unit, corpus[0].size, true))
}

// BenchmarkRetrSmall is 4 KiB in lock step.
func BenchmarkRetrSmall(b *testing.B) {
	each(b, retrieving(b, corpus[0].unit, 4<<10, false))
}

func retrieving(b *testing.B, unit string, size int, overTLS bool) []contender {
	wire := append([]byte("+OK\r\n"), stuffed(corpusText(unit, size))...)
	var server, client *tls.Config
	if overTLS {
		s := httptest.NewTLSServer(nil) // for its certificate
		b.Cleanup(s.Close)
		server, client = s.TLS, s.Client().Transport.(*http.Transport).TLSClientConfig
		server.NextProtos = nil
	}
	addr := blast(b, wire, server)
	buf := make([]byte, bufferSize)
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		if overTLS {
			config := client.Clone()
			config.ServerName = "127.0.0.1"
			conn = tls.Client(conn, config)
		}
		return conn
	}
	dial := Dial
	if overTLS {
		dial = DialTLS
	}
	c, err := dial(background, addr, &Options{TLSConfig: client})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })

	socket, text := connect(), textproto.NewConn(connect())
	io.ReadFull(socket, buf[:5])
	text.ReadLine()
	return []contender{
		{"socket", len(wire), func() error {
			io.WriteString(socket, "RETR 1\r\n")
			for n := 0; n < len(wire); {
				k, err := socket.Read(buf)
				if n += k; err != nil {
					return err
				}
			}
			return nil
		}},
		{"Read", len(wire), func() error {
			m, err := c.Retr(background, 1)
			for err == nil {
				_, err = m.Read(buf)
			}
			if err == io.EOF {
				err = nil
			}
			return err
		}},
		{"WriteTo", len(wire), func() error {
			m, err := c.Retr(background, 1)
			if err == nil {
				_, err = m.WriteTo(io.Discard)
			}
			return err
		}},
		{"textproto", len(wire), func() error {
			text.PrintfLine("RETR 1")
			text.ReadLine()
			_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{text.DotReader()}, buf)
			return err
		}},
	}
}
