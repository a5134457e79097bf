package pop3

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/dotstuff"
)

// corpus has the shapes of text that matter to un-stuffing. Each unit is repeated to the size of the message to be
// retrieved.
var corpus = []struct {
	name, unit string
	size       int
	stuffed    bool // short lines, many of which begin with a dot
}{
	{"base64", strings.Repeat(strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn", 2)[:76]+"\r\n", 13), 8 << 20, false},
	{"prose", "The minutes of the last meeting were read. They were approved, with one change.\r\nNobody asked why; it was late, and the room was cold.\r\n", 8 << 20, false},
	{"letter", randomLines(76, .02), 8 << 20, false},
	{"leaders", "Chapter 1 ........................................................... 17\r\n", 8 << 20, false},
	{"short", "abc\r\n", 8 << 20, false},
	{"oneline", strings.Repeat("x", 1<<20), 100 << 20, false},
	{"dots", ".\r\n", 8 << 20, true},
	{"twodots", "..\r\n", 8 << 20, true},
	{"inturn", "..\r\n..a\r\n", 8 << 20, true},
	{"mixed", randomLines(12, .5), 8 << 20, true},
}

// randomLines returns lines of one byte to longest, at random, of which the given part begins with a dot. There are
// more of them than a processor can learn by heart.
func randomLines(longest int, dots float64) string {
	r := rand.New(rand.NewPCG(1939, 3))
	text := strings.Repeat("x", longest)
	var b strings.Builder
	for b.Len() < 1<<19 {
		first := text[:1]
		if r.Float64() < dots {
			first = "."
		}
		b.WriteString(first + text[:r.IntN(longest)] + "\r\n")
	}
	return b.String()
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

// unstuffing un-stuffs one of several chunks each time, which together are most of a unit of random lines.
func unstuffing(unit string) []contender {
	var wires [8][]byte
	const size = bufferSize - 100
	text := corpusText(unit, len(wires)*size)
	octets, next := 0, 0
	for i := range wires {
		wires[i] = stuffed(text[i*size : (i+1)*size])
		octets += len(wires[i]) / len(wires)
	}
	buf := make([]byte, 2*bufferSize)
	copied := func() []byte {
		next++
		return buf[:copy(buf, wires[next%len(wires)])]
	}
	return []contender{
		{"copy", octets, func() error { copied(); return nil }},
		{"unstuff", octets, func() error {
			var u dotstuff.Unstuffer
			if _, _, end := u.Next(copied()); !end {
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

// BenchmarkRetr streams one message from a loopback socket: the socket alone, ours by Read and by WriteTo,
// net/textproto.
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
