package pop3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

// A server that does not read while it writes must not meet a client that does not read while it writes. A net.Pipe has
// no buffer, so a command that waits for an earlier response would deadlock.
func TestBatchNeverDeadlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			answers := make(chan string, 1000)
			go func() {
				for a := range answers {
					if _, err := io.WriteString(server, a); err != nil {
						return
					}
				}
			}()
			answers <- "+OK\r\n"
			buf := make([]byte, 1)
			line := ""
			for {
				if _, err := server.Read(buf); err != nil {
					close(answers)
					return
				}
				if line += string(buf); !strings.HasSuffix(line, "\r\n") {
					continue
				}
				switch {
				case line == "CAPA\r\n":
					answers <- "+OK\r\nPIPELINING\r\n.\r\n"
				case strings.HasPrefix(line, "RETR"):
					answers <- "+OK\r\n" + strings.Repeat("x", 1000) + "\r\n.\r\n"
				default:
					answers <- "+OK\r\n"
				}
				line = ""
			}
		}()
		c, err := pop3.NewClient(t.Context(), client, nil)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m, err := range c.RetrAll(t.Context(), upTo(500)) {
			if err != nil {
				t.Fatal(err)
			}
			if k, err := io.Copy(io.Discard, m); k != 1002 || err != nil {
				t.Fatal(k, err)
			}
			n++
		}
		if n != 500 {
			t.Error(n)
		}
		c.Close()
	})
}

func TestBatchCutAnywhere(t *testing.T) {
	response := "+OK\r\n"
	for n := 1; n <= 3; n++ {
		response += "+OK\r\nmessage " + strconv.Itoa(n) + "\r\n.\r\n"
	}
	for cut := range len(response) {
		synctest.Test(t, func(t *testing.T) {
			c := pipelining(t, pop3.Options{}, func(server net.Conn) {
				server.Read(make([]byte, 100)) // the batch
				io.WriteString(server, response[len("+OK\r\n"):max(cut, 5)])
				server.Close()
			})
			whole, failed := 0, false
			for m, err := range c.RetrAll(context.Background(), []int{1, 2, 3}) {
				text, rerr := io.ReadAll(m)
				if err == nil {
					err = rerr
				}
				if err == nil {
					whole++
					if string(text) != fmt.Sprintf("message %d\r\n", m.Number) {
						t.Errorf("cut at %d: message %d is %q", cut, m.Number, text)
					}
					continue
				}
				failed = true
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, pop3.ErrClosed) {
					t.Errorf("cut at %d: %v", cut, err)
				}
			}
			if !failed || whole > strings.Count(response[:cut], "\r\n.\r\n") {
				t.Errorf("cut at %d: %d complete messages, failed %v", cut, whole, failed)
			}
			c.Close()
		})
	}
}

// After a break, draining may find malformed responses or errors, which close the session.
func TestBatchBreak(t *testing.T) {
	for rest, want := range map[string]string{
		"+OK\r\nthr":     "connection closed by server",
		"three\r\n.\r\n": `RETR 3: neither +OK nor -ERR: "three"`,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := pipelining(t, pop3.Options{}, func(server net.Conn) {
				server.Read(make([]byte, 1000))
				io.WriteString(server, "+OK\r\none\r\n.\r\n+OK\r\ntwo\r\n.\r\n"+rest)
				server.Close()
			})
			for range c.RetrAll(t.Context(), []int{1, 2, 3, 4}) {
				break
			}
			if err := c.Noop(t.Context()); !errors.Is(err, pop3.ErrClosed) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: NOOP: %v, want %s", rest, err, want)
			}
		})
	}
}

// A server may respond to commands that it has not read, and then stop reading. The wait for the writer must be
// bounded.
func TestBatchServerStopsReading(t *testing.T) {
	unread := func(t *testing.T, timeout time.Duration) (c *pop3.Client, deleted chan error) {
		c = pipelining(t, pop3.Options{Timeout: timeout}, func(server net.Conn) {
			time.Sleep(time.Second)
			io.WriteString(server, "+OK\r\n+OK\r\n")
		})
		deleted = make(chan error, 1)
		go func() { deleted <- c.DeleAll(t.Context(), []int{1, 2}) }()
		time.Sleep(2 * time.Second)
		return c, deleted
	}
	t.Run("timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c, deleted := unread(t, time.Minute)
			if err := c.Quit(t.Context()); !errors.Is(err, pop3.ErrClosed) || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Quit: %v", err)
			}
			if err := <-deleted; errors.Is(err, pop3.ErrClosed) || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("DeleAll: %v", err)
			}
			if took := time.Since(start).Round(time.Second); took != time.Minute+time.Second {
				t.Errorf("took %v", took)
			}
		})
	})
	t.Run("Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, deleted := unread(t, -1)
			c.Close()
			if err := <-deleted; !errors.Is(err, pop3.ErrClosed) {
				t.Errorf("DeleAll: %v", err)
			}
		})
	})
}

// A server may send more responses than it received commands. A response to a command that has not been sent must not
// count, or the message would be taken for deleted.
func TestBatchEarlyResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipelining(t, pop3.Options{}, func(server net.Conn) {
			server.Read(make([]byte, 1000)) // the first commands, and no others
			io.WriteString(server, strings.Repeat("+OK\r\n", 500))
		})
		var malformed *pop3.ProtocolError
		if err := c.DeleAll(t.Context(), upTo(500)); !errors.As(err, &malformed) {
			t.Errorf("error %v", err)
		}
		if err := c.Noop(t.Context()); !errors.Is(err, pop3.ErrClosed) {
			t.Errorf("NOOP: %v", err)
		}
	})
}
