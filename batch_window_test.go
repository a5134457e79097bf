package pop3

import (
	"io"
	"iter"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// metered counts the bytes that are read from a connection.
type metered struct {
	net.Conn
	octets atomic.Int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.octets.Add(int64(n))
	return n, err
}

// TestBreakDrainsAWindow breaks out of a loop over large messages. The window must be drained: about 4 MiB, and at
// least two messages.
func TestBreakDrainsAWindow(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct {
		size, read int
		skip       bool // the body leaves the messages unread
		most       int64
	}{
		"1 MiB, after 1":            {mib, 1, false, firstWindow * mib},
		"1 MiB, after 2":            {mib, 2, false, firstWindow * mib},
		"1 MiB, after 10":           {mib, 10, false, 6 * mib},
		"1 MiB, after 40":           {mib, 40, false, 6 * mib},
		"1 MiB, after 40, unread":   {mib, 40, true, 6 * mib},
		"4 MiB, after 8":            {4 * mib, 8, false, 3 * 4 * mib},
		"100 KiB, after 100":        {100 << 10, 100, false, 5 * mib},
		"1 KiB, after 150 (256 KB)": {1 << 10, 150, false, maxWindow * 1200},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Repeat(strings.Repeat("x", 62)+"\r\n", test.size/64)
			srv := pop3test.NewUnstartedServer(pop3test.Generate(200, func(int) string { return text }))
			srv.STLS = false
			t.Cleanup(srv.Close)
			conn := &metered{Conn: srv.Pipe()}
			c := connect(t, &Options{AllowInsecureLogin: true}, conn)
			must(t, c.Login(background, "user", "secret"))
			numbers := make([]int, 200)
			for i := range numbers {
				numbers[i] = i + 1
			}
			n := 0
			var before int64
			for m, err := range c.RetrAll(background, numbers) {
				must(t, err)
				if !test.skip {
					_, err := m.WriteTo(io.Discard)
					must(t, err)
				}
				if n++; n == test.read {
					before = conn.octets.Load()
					break
				}
			}
			must(t, c.Noop(background))
			if drained := conn.octets.Load() - before; drained > test.most {
				t.Errorf("drained %d bytes, want at most %d", drained, test.most)
			}
		})
	}
}

// TestWindowAfterLargeMessages: the sizes of one batch set the window of the next.
func TestWindowAfterLargeMessages(t *testing.T) {
	text := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 1<<14)
	srv := pop3test.NewUnstartedServer(pop3test.Generate(50, func(int) string { return text }))
	srv.STLS = false
	t.Cleanup(srv.Close)
	conn := &metered{Conn: srv.Pipe()}
	c := connect(t, &Options{AllowInsecureLogin: true}, conn)
	must(t, c.Login(background, "user", "secret"))
	for range 2 {
		for m, err := range c.RetrAll(background, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}) {
			must(t, err)
			_, err = m.WriteTo(io.Discard)
			must(t, err)
			break
		}
	}
	before := conn.octets.Load()
	for _, err := range c.RetrAll(background, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}) {
		must(t, err)
		break
	}
	if drained := conn.octets.Load() - before; drained > 6<<20 {
		t.Errorf("drained %d bytes", drained)
	}
}

// TestWriterEndsWithTheSession has a loop that is never resumed after the session has ended: an iter.Pull that is not stopped. No
// goroutine may stay.
func TestWriterEndsWithTheSession(t *testing.T) {
	for name, end := range map[string]func(c *Client, server net.Conn){
		"Close": func(c *Client, _ net.Conn) { c.Close() },
		"Quit":  func(c *Client, _ net.Conn) { go c.Quit(background) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go func() {
					buf := make([]byte, 4096)
					io.WriteString(server, "+OK\r\n")
					server.Read(buf) // CAPA
					io.WriteString(server, "+OK\r\nPIPELINING\r\n.\r\n")
					server.Read(buf)
					io.WriteString(server, "+OK\r\none\r\n.\r\n")
					io.Copy(io.Discard, server)
				}()
				c := connect(t, &Options{StallTimeout: time.Second, Timeout: time.Minute}, client)
				numbers := make([]int, 1000)
				for i := range numbers {
					numbers[i] = i + 1
				}
				next, stop := iter.Pull2(c.RetrAll(background, numbers))
				m, err, _ := next()
				readAll(t, m, err, "one\r\n")
				synctest.Wait()
				b := m.lease.batch
				select {
				case <-b.written:
					t.Fatal("the writer has ended before the session")
				default:
				}
				end(c, server)
				time.Sleep(time.Hour)
				select {
				case <-b.written:
				default:
					t.Error("the writer is still there")
				}
				c.Close()
				server.Close()
				stop() // for the bubble, which must end with no goroutine
			})
		})
	}
}
