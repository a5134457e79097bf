package pop3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/dotstuff"
	"github.com/seed-5b1d5243/pop3/pop3test"
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

// stuffed is text as it goes over the wire, terminator included.
func stuffed(text []byte) []byte {
	var b bytes.Buffer
	w := textproto.NewWriter(bufio.NewWriter(&b)).DotWriter()
	w.Write(text)
	w.Close()
	return b.Bytes()
}

// A contender does one piece of work, the same as the others, as often as it is told to.
type contender struct {
	name   string
	octets int
	do     func() error
}

// each measures contenders one after the other.
func each(b *testing.B, contenders []contender) {
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(c.octets))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkUnstuff measures the un-stuffing alone, in memory, beside a copy.
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

// blast serves one answer for each command on a loopback port. With a TLS configuration it does so over TLS.
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

// memConn serves from memory: a greeting, then one answer for each write.
type memConn struct {
	net.Conn
	answer, rest []byte
}

func (m *memConn) Write(p []byte) (int, error)     { m.rest = m.answer; return len(p), nil }
func (m *memConn) Close() error                    { return nil }
func (m *memConn) SetReadDeadline(time.Time) error { return nil }
func (m *memConn) SetDeadline(time.Time) error     { return nil }

func (m *memConn) Read(p []byte) (int, error) {
	if len(m.rest) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// BenchmarkListing reads a million entries from memory: a bare loop, All, and C.
func BenchmarkListing(b *testing.B) {
	for _, command := range []string{"LIST", "UIDL"} {
		b.Run(command, func(b *testing.B) {
			each(b, listings(command))
		})
	}
}

const benchEntries = 1_000_000

func listings(command string) []contender {
	wire := []byte("+OK\r\n")
	for n := 1; n <= benchEntries; n++ {
		wire = strconv.AppendInt(wire, int64(n), 10)
		if command == "LIST" {
			wire = fmt.Appendf(wire, " %d\r\n", 1000+n%9000)
		} else {
			wire = fmt.Appendf(wire, " %016x\r\n", n*7919)
		}
	}
	wire = append(wire, ".\r\n"...)
	all, byC := readListing((*Client).List, false), readListing((*Client).List, true)
	if command == "UIDL" {
		all, byC = readListing((*Client).UIDL, false), readListing((*Client).UIDL, true)
	}
	active := func(read func(*memConn) int) func() error {
		return func() error {
			if n := read(&memConn{answer: wire, rest: []byte("+OK\r\n")}); n != benchEntries {
				return fmt.Errorf("%d entries", n)
			}
			return nil
		}
	}
	return []contender{
		{"loop", len(wire), active(func(conn *memConn) int { return bareListing(conn, command == "UIDL") })},
		{"All", len(wire), active(all)},
		{"C", len(wire), active(byC)},
	}
}

// readListing counts the entries of a listing, by C or by All.
func readListing[T Entry | UID](list func(*Client, context.Context) (*Listing[T], error), byC bool) func(*memConn) int {
	return func(conn *memConn) (n int) {
		c, err := NewClient(background, conn, &Options{Timeout: -1})
		if err != nil {
			return 0
		}
		l, err := list(c, background)
		switch {
		case err != nil:
		case byC:
			for range l.C() {
				n++
			}
		default:
			for range l.All() {
				n++
			}
		}
		return n
	}
}

// sink keeps the bare loop from being optimised away.
var sink struct {
	sum int64
	id  string
}

func bareListing(conn *memConn, ids bool) (entries int) {
	conn.rest = conn.answer
	r := bufio.NewReaderSize(conn, bufferSize)
	r.ReadSlice('\n')
	for {
		line, err := r.ReadSlice('\n')
		if err != nil || line[0] == '.' {
			return entries
		}
		number, i := int64(0), 0
		for ; line[i] != ' '; i++ {
			number = number*10 + int64(line[i]-'0')
		}
		if ids {
			sink.id = string(line[i+1 : len(line)-2])
		} else {
			size := int64(0)
			for i++; line[i] != '\r'; i++ {
				size = size*10 + int64(line[i]-'0')
			}
			sink.sum += size
		}
		sink.sum += number
		entries++
	}
}

// BenchmarkChannel is the limit of Listing.C: a channel of the same size whose feeder has nothing else to do.
func BenchmarkChannel(b *testing.B) {
	for b.Loop() {
		ch := make(chan Entry, channelRoom)
		go func() {
			for n := range benchEntries {
				ch <- Entry{n, 1}
			}
			close(ch)
		}()
		for range ch {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchEntries, "ns/entry")
}

// BenchmarkBatch fetches and deletes 500 messages of 4 KiB at several round trip times, and in lock step where that does
// not take minutes.
func BenchmarkBatch(b *testing.B) {
	for _, rtt := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		for _, batch := range batches {
			if batch.name == "lockstep" && rtt > time.Millisecond {
				continue
			}
			b.Run(fmt.Sprint(rtt, "/", batch.name), func(b *testing.B) {
				c, numbers := mailbox(b, rtt)
				b.ReportAllocs()
				for b.Loop() {
					if err := batch.run(c, numbers); err != nil {
						b.Fatal(err)
					}
				}
				if rtt > 0 {
					b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(rtt), "round-trips")
				}
			})
		}
	}
}

// batches deal with all messages of a mailbox.
var batches = []struct {
	name string
	run  func(c *Client, numbers []int) error
}{
	{"RetrAll", func(c *Client, numbers []int) error {
		for m, err := range c.RetrAll(background, numbers) {
			if err != nil {
				return err
			}
			if _, err := m.WriteTo(io.Discard); err != nil {
				return err
			}
		}
		return nil
	}},
	{"DeleAll", func(c *Client, numbers []int) error {
		if err := c.DeleAll(background, numbers); err != nil {
			return err
		}
		return c.Rset(background) // one more round trip
	}},
	{"lockstep", func(c *Client, numbers []int) error {
		for _, n := range numbers {
			m, err := c.Retr(background, n)
			if err != nil {
				return err
			}
			if _, err := m.WriteTo(io.Discard); err != nil {
				return err
			}
		}
		return nil
	}},
}

// mailbox is a session with a server that is rtt away and has 500 messages of 4 KiB. It knows the server's capabilities.
func mailbox(b *testing.B, rtt time.Duration) (c *Client, numbers []int) {
	var texts []string
	for n := range 500 {
		numbers = append(numbers, n+1)
		texts = append(texts, "Subject: x\r\n\r\n"+string(corpusText(corpus[0].unit, 4<<10)))
	}
	s := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	s.STLS = false
	s.Latency = rtt
	s.Start()
	b.Cleanup(s.Close)
	c, err := Dial(background, s.Addr, &Options{AllowInsecureLogin: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	if err := c.Login(background, "user", "secret"); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Capabilities(background); err != nil {
		b.Fatal(err)
	}
	return c, numbers
}

// BenchmarkIdle reports what an idle session keeps above its bare connection.
func BenchmarkIdle(b *testing.B) {
	b.ReportMetric(idleSession(b), "B/session")
}

// idleSession returns how many octets of heap an idle session takes that its bare connection does not, on average.
func idleSession(b *testing.B) float64 {
	const sessions = 400
	s := pop3test.NewUnstartedServer(pop3test.Messages("Subject: x\r\n\r\nx\r\n"))
	s.STLS = false
	s.Start()
	defer s.Close()
	measure := func(open func(net.Conn) any) int64 {
		before := heap()
		var kept []any
		for range sessions {
			conn, err := net.Dial("tcp", s.Addr)
			if err != nil {
				b.Fatal(err)
			}
			kept = append(kept, conn, open(conn))
		}
		grown := heap() - before
		for _, k := range kept {
			if c, ok := k.(io.Closer); ok {
				c.Close()
			}
		}
		return grown
	}
	bare := func(conn net.Conn) any {
		r := make([]byte, 512)
		conn.Read(r)
		for _, line := range []string{"CAPA\r\n", "USER user\r\n", "PASS secret\r\n", "STAT\r\n"} {
			io.WriteString(conn, line)
			conn.Read(r)
		}
		return nil
	}
	ours := func(conn net.Conn) any {
		c, err := NewClient(background, conn, &Options{AllowInsecureLogin: true})
		if err == nil {
			err = c.Login(background, "user", "secret")
		}
		if err == nil {
			_, _, err = c.Stat(background)
		}
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	measure(bare) // and ours fill the pools first, those of the server among them
	measure(ours)
	grown, rounds := int64(0), 0
	for b.Loop() {
		grown += measure(ours) - measure(bare)
		rounds++
	}
	return float64(grown) / sessions / float64(rounds)
}

// heap returns the octets in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
