package pop3

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// corpus are the shapes of text that matter to un-stuffing, each repeated to a given size, in its unstuffed form.
var corpus = []struct{ name, unit string }{
	{"base64", strings.Repeat(strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn", 2)[:76]+"\r\n", 13)},
	{"prose", "The minutes of the last meeting were read. They were approved, with one change.\r\nNobody asked why; it was late, and the room was cold.\r\n"},
	{"dots", ".\r\n"},
	{"twodots", "..\r\n"},
	{"leaders", "Chapter 1 ........................................................... 17\r\n"},
	{"short", "abc\r\n"},
	{"oneline", strings.Repeat("x", 1<<20)},
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

// BenchmarkUnstuff measures the un-stuffing alone, in memory, beside a copy.
func BenchmarkUnstuff(b *testing.B) {
	for _, c := range corpus {
		wire := stuffed(corpusText(c.unit, bufferSize-100))
		buf := make([]byte, len(wire))
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, wire)
				var u unstuffer
				if _, _, end := u.next(buf); !end {
					b.Fatal("no end")
				}
			}
		})
	}
	b.Run("copy", func(b *testing.B) {
		from, to := make([]byte, bufferSize), make([]byte, bufferSize)
		b.SetBytes(bufferSize)
		for b.Loop() {
			copy(to, from)
		}
	})
}

// blast serves one answer for each command on a loopback port.
func blast(b *testing.B, answer []byte) net.Conn {
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
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

func benchClient(b *testing.B, conn net.Conn) *Client {
	c, err := NewClient(context.Background(), conn, nil)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkRetr streams one message from a loopback socket: the socket alone, ours by Read and by WriteTo, net/textproto.
func BenchmarkRetr(b *testing.B) {
	const size = 32 << 20
	for _, c := range corpus {
		wire := append([]byte("+OK\r\n"), stuffed(corpusText(c.unit, size))...)
		run := func(name string, setup func(conn net.Conn) func() error) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				do := setup(blast(b, wire))
				b.SetBytes(int64(len(wire)))
				b.ReportAllocs()
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		buf := make([]byte, bufferSize)
		run("socket", func(conn net.Conn) func() error {
			io.ReadFull(conn, buf[:5])
			return func() error {
				io.WriteString(conn, "RETR 1\r\n")
				for n := 0; n < len(wire); {
					k, err := conn.Read(buf)
					if n += k; err != nil {
						return err
					}
				}
				return nil
			}
		})
		run("Read", func(conn net.Conn) func() error {
			client := benchClient(b, conn)
			return func() error {
				m, err := client.Retr(context.Background(), 1)
				for err == nil {
					_, err = m.Read(buf)
				}
				if err == io.EOF {
					err = nil
				}
				return err
			}
		})
		run("WriteTo", func(conn net.Conn) func() error {
			client := benchClient(b, conn)
			return func() error {
				m, err := client.Retr(context.Background(), 1)
				if err == nil {
					_, err = m.WriteTo(io.Discard)
				}
				return err
			}
		})
		run("textproto", func(conn net.Conn) func() error {
			t := textproto.NewConn(conn)
			t.ReadLine()
			return func() error {
				t.PrintfLine("RETR 1")
				t.ReadLine()
				_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{t.DotReader()}, buf)
				return err
			}
		})
	}
}

// BenchmarkRetrSmall is 4 KiB in lock step beside a bare loop on the socket.
func BenchmarkRetrSmall(b *testing.B) {
	wire := append([]byte("+OK 4096 octets\r\n"), stuffed(corpusText(corpus[0].unit, 4096))...)
	buf := make([]byte, bufferSize)
	b.Run("socket", func(b *testing.B) {
		conn := blast(b, wire)
		io.ReadFull(conn, buf[:5])
		for b.Loop() {
			io.WriteString(conn, "RETR 1\r\n")
			for n := 0; n < len(wire); {
				k, err := conn.Read(buf)
				if n += k; err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("Retr", func(b *testing.B) {
		c := benchClient(b, blast(b, wire))
		b.ReportAllocs()
		for b.Loop() {
			m, err := c.Retr(context.Background(), 1)
			if err == nil {
				_, err = m.WriteTo(io.Discard)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// memConn serves from memory: a greeting, then one answer for each write.
type memConn struct {
	net.Conn
	answer, rest []byte
}

func (m *memConn) Write(p []byte) (int, error) { m.rest = m.answer; return len(p), nil }
func (m *memConn) Close() error                { return nil }

func (m *memConn) Read(p []byte) (int, error) {
	if len(m.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// BenchmarkListing reads a million entries from memory: a bare loop, All, and C. ns/op is per listing.
func BenchmarkListing(b *testing.B) {
	const entries = 1_000_000
	for _, command := range []string{"LIST", "UIDL"} {
		var wire []byte
		wire = append(wire, "+OK\r\n"...)
		for n := 1; n <= entries; n++ {
			wire = strconv.AppendInt(wire, int64(n), 10)
			if command == "LIST" {
				wire = fmt.Appendf(wire, " %d\r\n", 1000+n%9000)
			} else {
				wire = fmt.Appendf(wire, " %016x\r\n", n*7919)
			}
		}
		wire = append(wire, ".\r\n"...)
		run := func(name string, read func(b *testing.B, conn *memConn) int) {
			b.Run(command+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if n := read(b, &memConn{answer: wire, rest: []byte("+OK\r\n")}); n != entries {
						b.Fatal(n, "entries")
					}
				}
				b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mentries/s")
			})
		}
		run("loop", func(b *testing.B, conn *memConn) int { return bareListing(conn, command == "UIDL") })
		opts := &Options{Timeout: -1}
		run("All", func(b *testing.B, conn *memConn) (n int) {
			c, err := NewClient(context.Background(), conn, opts)
			if err != nil {
				b.Fatal(err)
			}
			if command == "LIST" {
				l, _ := c.List(context.Background())
				for range l.All() {
					n++
				}
			} else {
				l, _ := c.UIDL(context.Background())
				for range l.All() {
					n++
				}
			}
			return n
		})
		run("C", func(b *testing.B, conn *memConn) (n int) {
			c, err := NewClient(context.Background(), conn, opts)
			if err != nil {
				b.Fatal(err)
			}
			if command == "LIST" {
				l, _ := c.List(context.Background())
				for range l.C() {
					n++
				}
			} else {
				l, _ := c.UIDL(context.Background())
				for range l.C() {
					n++
				}
			}
			return n
		})
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
	const entries = 1_000_000
	for b.Loop() {
		ch := make(chan Entry, channelRoom)
		go func() {
			for n := range entries {
				ch <- Entry{n, 1}
			}
			close(ch)
		}()
		for range ch {
		}
	}
	b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mentries/s")
}

// BenchmarkIdle reports what an idle session keeps above its bare connection.
func BenchmarkIdle(b *testing.B) {
	s := pop3test.NewUnstartedServer(pop3test.Messages("Subject: x\r\n\r\nx\r\n"))
	s.STLS = false
	s.Start()
	defer s.Close()
	const sessions = 200
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	for b.Loop() {
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
			return grown / sessions
		}
		bare := measure(func(conn net.Conn) any {
			r := make([]byte, 512)
			conn.Read(r)
			for _, line := range []string{"CAPA\r\n", "USER user\r\n", "PASS secret\r\n", "STAT\r\n"} {
				io.WriteString(conn, line)
				conn.Read(r)
			}
			return nil
		})
		ours := measure(func(conn net.Conn) any {
			c, err := NewClient(context.Background(), conn, &Options{AllowInsecureLogin: true})
			if err == nil {
				err = c.Login(context.Background(), "user", "secret")
			}
			if err == nil {
				_, _, err = c.Stat(context.Background())
			}
			if err != nil {
				b.Fatal(err)
			}
			return c
		})
		b.ReportMetric(float64(ours-bare), "B/session")
	}
}
