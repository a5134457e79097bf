package pop3

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A contender does the same work as the others, a given number of times.
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

// memConn serves from memory: a greeting, then one response for each write.
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

// BenchmarkIdle reports the memory of an idle session beyond that of its connection.
func BenchmarkIdle(b *testing.B) {
	b.ReportMetric(idleSession(b), "B/session")
}

// idleSession returns the average number of heap bytes of an idle session, less those of its connection.
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
	measure(bare) // and fill the pools first, including those of the server
	measure(ours)
	grown, rounds := int64(0), 0
	for b.Loop() {
		grown += measure(ours) - measure(bare)
		rounds++
	}
	return float64(grown) / sessions / float64(rounds)
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
