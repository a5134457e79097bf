package faults

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/seed-5b1d5243/pop3"
)

// enemy is the server's end of a connection. It counts the data that the client reads: net.Pipe has no buffer.
type enemy struct {
	net.Conn
	in    *bufio.Reader
	taken *atomic.Int64
}

// say sends text, and reports whether the client still reads.
func (e *enemy) say(text string) bool {
	if text == "" {
		return true
	}
	n, err := e.Write([]byte(text))
	e.taken.Add(int64(n))
	return err == nil
}

// endlessly sends text repeatedly, until the client closes the connection.
func (e *enemy) endlessly(text string) {
	for block := strings.Repeat(text, max(1, 4096/len(text))); e.say(block); {
	}
}

// hear reads a command.
func (e *enemy) hear() string {
	line, _ := e.in.ReadString('\n')
	return strings.TrimSuffix(line, "\r\n")
}

const greeting = "+OK ready\r\n"

// after sends a greeting, responds to the first command with first, and then sends text endlessly.
func after(first, text string) func(*enemy) {
	return func(e *enemy) {
		e.say(greeting)
		e.hear()
		e.say(first)
		if text != "" {
			e.endlessly(text)
		}
	}
}

// ahead sends a greeting, lists PIPELINING, reads n commands, and then sends text, once or endlessly.
func ahead(n int, text string, endless bool) func(*enemy) {
	return func(e *enemy) {
		e.say(greeting)
		e.hear()
		e.say("+OK\r\nPIPELINING\r\n.\r\n")
		for range n {
			e.hear()
		}
		e.say(text)
		if endless {
			e.endlessly(text)
		}
		e.hear()
	}
}

// prompts is a SASL mechanism that responds to any challenge.
type prompts struct{}

func (prompts) Start() (string, []byte, error) { return "X-PROMPTS", nil, nil }
func (prompts) Next([]byte) ([]byte, error)    { return []byte("answer"), nil }

// TestHostileServers tests servers that send endless or malformed data. Each must lead to a clear error, after a
// bounded number of bytes.
func TestHostileServers(t *testing.T) {
	const limit = 16384 + 64<<10 + 4096 // MaxLineLength, a buffer, a block
	greeted := func(t *testing.T, c *pop3.Client, err error) *pop3.Client {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	listed := func(c *pop3.Client) error {
		l, err := c.List(background)
		if err != nil {
			return err
		}
		for range l.C() {
		}
		return l.Err()
	}
	listedUIDs := func(c *pop3.Client) error {
		l, err := c.UIDL(background)
		if err != nil {
			return err
		}
		for _, err := range l.All() {
			if err != nil {
				return err
			}
		}
		return nil
	}
	fetched := func(c *pop3.Client) error {
		for m, err := range c.RetrAll(background, []int{1, 2, 3}) {
			if err == nil {
				_, err = io.Copy(io.Discard, m)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, test := range []struct {
		name   string
		serve  func(*enemy)
		ask    func(c *pop3.Client) error // if nil, the greeting is at fault
		want   any                        // an error, or a pointer to a type of error
		octets int64
		lives  bool // the session is usable afterwards
	}{
		{"endless greeting", func(e *enemy) { e.endlessly("+OK ") }, nil, pop3.ErrLineTooLong, limit, false},
		{"greeting of malformed lines", func(e *enemy) { e.endlessly("hello\r\n") }, nil, new(*pop3.ProtocolError), limit, false},
		{"greeting of bare LFs", func(e *enemy) { e.endlessly("+OK\n") }, nil, new(*pop3.ProtocolError), limit, false},
		{"silence", func(e *enemy) { e.hear() }, nil, os.ErrDeadlineExceeded, 0, false},
		{"status line without end", after("+OK ", "x"),
			func(c *pop3.Client) error { return c.Noop(background) }, pop3.ErrLineTooLong, limit, false},
		{"refusal without end", after("-ERR ", "x"),
			func(c *pop3.Client) error { return c.Noop(background) }, pop3.ErrLineTooLong, limit, false},
		{"unexpected challenge", after("", "+ \r\n"),
			func(c *pop3.Client) error { return c.Noop(background) }, new(*pop3.ProtocolError), limit, false},
		{"listing without end", after("+OK\r\n", "1 1\r\n"), listed, pop3.ErrTooManyEntries, 10_000*5 + limit, false},
		{"listing of one line", after("+OK\r\n", "1 1 "), listed, pop3.ErrLineTooLong, limit, false},
		{"unique-ids without end", after("+OK\r\n", "1 abc\r\n"), listedUIDs, pop3.ErrTooManyEntries, 10_000*7 + limit, false},
		{"listing without end, in the way of another command", after("+OK\r\n", "1 1\r\n"), func(c *pop3.Client) error {
			if _, err := c.List(background); err != nil {
				return err
			}
			return c.Noop(background)
		}, pop3.ErrTooManyEntries, 10_000*5 + limit, false},
		{"listing without end, stopped", after("+OK\r\n", "1 1\r\n"), func(c *pop3.Client) error {
			l, err := c.List(background)
			if err != nil {
				return err
			}
			l.Stop()
			return c.Noop(background)
		}, pop3.ErrTooManyEntries, 10_000*5 + limit, false},
		{"capabilities without end", after("+OK\r\n", "X\r\n"), func(c *pop3.Client) error {
			_, err := c.Capabilities(background)
			return err
		}, new(*pop3.ProtocolError), limit, false},
		{"capability without end", after("+OK\r\n", "X "), func(c *pop3.Client) error {
			_, err := c.Capabilities(background)
			return err
		}, pop3.ErrLineTooLong, limit, false},
		{"languages without end", after("+OK\r\n", "x y\r\n"), func(c *pop3.Client) error {
			_, err := c.Langs(background)
			return err
		}, new(*pop3.ProtocolError), limit, false},
		{"endless challenges", func(e *enemy) {
			e.say(greeting)
			for e.hear() != "" && e.say("+ Pz8=\r\n") {
			}
		}, func(c *pop3.Client) error { return c.Auth(background, prompts{}) }, new(*pop3.ProtocolError), limit, false},
		{"challenge of one line", after("+ ", "AAAA"),
			func(c *pop3.Client) error { return c.Auth(background, prompts{}) }, pop3.ErrLineTooLong, limit, false},
		{"challenge that is not base64", func(e *enemy) {
			e.say(greeting)
			e.hear()
			e.say("+ \x1b[2J!\r\n")
			if e.hear() == "*" {
				e.say("-ERR canceled\r\n")
			}
			for e.hear() != "" && e.say("+OK\r\n") {
			}
		}, func(c *pop3.Client) error { return c.Auth(background, prompts{}) }, new(*pop3.ProtocolError), limit, true},
		{"endless unsolicited data", func(e *enemy) {
			e.say(greeting)
			e.endlessly("+OK 1 1\r\n")
		}, func(c *pop3.Client) error {
			time.Sleep(time.Second) // in the bubble's time
			return c.Noop(background)
		}, new(*pop3.ProtocolError), 2<<20 + limit, false},
		{"count past int64", after("+OK 99999999999999999999 1\r\n", ""), func(c *pop3.Client) error {
			_, _, err := c.Stat(background)
			return err
		}, new(*pop3.ProtocolError), limit, true},
		{"size past int64", after("+OK 1 9223372036854775808\r\n", ""), func(c *pop3.Client) error {
			_, err := c.Size(background, 1)
			return err
		}, new(*pop3.ProtocolError), limit, true},
		{"number past int64 in a listing", after("+OK\r\n9223372036854775808 1\r\n2 2\r\n.\r\n", ""), listed, new(*pop3.ProtocolError), limit, true},
		{"size past int64 in a listing", after("+OK\r\n1 9223372036854775808\r\n2 2\r\n.\r\n", ""), listed, new(*pop3.ProtocolError), limit, true},
		{"size of all past int64", after("+OK 1 9223372036854775808\r\n", ""), func(c *pop3.Client) error {
			_, _, err := c.Stat(background)
			return err
		}, new(*pop3.ProtocolError), limit, true},
		{"number past int64 in a unique-id listing", after("+OK\r\n18446744073709551617 a\r\n.\r\n", ""), listedUIDs, new(*pop3.ProtocolError), limit, true},
		{"control characters in a unique-id listing", after("+OK\r\n1 \x1b[2J\r\n.\r\n", ""), listedUIDs, new(*pop3.ProtocolError), limit, true},
		{"negative size", after("+OK\r\n1 -1\r\n.\r\n", ""), listed, new(*pop3.ProtocolError), limit, true},
		{"control characters in a unique-id", after("+OK 1 \x1b]0;x\x07\r\n", ""), func(c *pop3.Client) error {
			_, err := c.UID(background, 1)
			return err
		}, new(*pop3.ProtocolError), limit, true},
		{"control characters in a refusal", after("-ERR \x1b[2J\x00\a\r\n", ""),
			func(c *pop3.Client) error { return c.Noop(background) }, new(*pop3.ServerError), limit, true},
		{"endless responses to pipelined commands", ahead(3, "+OK\r\n", true), func(c *pop3.Client) error {
			if err := c.DeleAll(background, []int{1, 2, 3}); err != nil {
				return err
			}
			time.Sleep(time.Second) // in the bubble's time
			return c.Noop(background)
		}, new(*pop3.ProtocolError), 2<<20 + limit, false},
		{"messages too few, and silence", ahead(3, "+OK\r\none\r\n.\r\n+OK\r\n", false), fetched, os.ErrDeadlineExceeded, limit, false},
		{"a message for a status line", ahead(3, "+OK\r\none\r\n.\r\ntwo\r\n.\r\n", false), fetched, new(*pop3.ProtocolError), limit, false},
		{"too little", ahead(3, "+OK\r\n", false), func(c *pop3.Client) error { return c.DeleAll(background, []int{1, 2, 3}) }, os.ErrDeadlineExceeded, limit, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				e := &enemy{Conn: server, in: bufio.NewReader(server), taken: new(atomic.Int64)}
				go func() {
					defer server.Close()
					test.serve(e)
					for test.lives && e.hear() != "" && e.say("+OK\r\n") {
					}
				}()
				began := time.Now()
				c, err := pop3.NewClient(background, client, &pop3.Options{Timeout: patience, MaxEntries: 10_000})
				if test.ask != nil {
					c = greeted(t, c, err)
					defer c.Close()
					err = test.ask(c)
				}
				if target, ok := test.want.(error); ok {
					if !errors.Is(err, target) {
						t.Errorf("error %v, want %v", err, target)
					}
				} else if !errors.As(err, test.want) {
					t.Errorf("error %v, want a %T", err, test.want)
				}
				if err != nil && strings.IndexFunc(err.Error(), unicode.IsControl) >= 0 {
					// Joined errors are on separate lines.
					if strings.IndexFunc(strings.ReplaceAll(err.Error(), "\n", ""), unicode.IsControl) >= 0 {
						t.Errorf("control characters in %q", err)
					}
				}
				if took := time.Since(began); took > 2*patience {
					t.Errorf("took %v", took)
				}
				if n := e.taken.Load(); n > test.octets {
					t.Errorf("took %d bytes, want at most %d", n, test.octets)
				}
				if c != nil {
					if err := c.Noop(background); test.lives != (err == nil) || !test.lives && !errors.Is(err, pop3.ErrClosed) {
						t.Errorf("NOOP afterwards: %v", err)
					}
				}
			})
		})
	}
}

// TestEndlessMessage reads a large part of an endless message. Memory use stays constant, and a context ends the
// message.
func TestEndlessMessage(t *testing.T) {
	client, server := net.Pipe()
	e := &enemy{Conn: server, in: bufio.NewReader(server), taken: new(atomic.Int64)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		after("+OK\r\n", strings.Repeat("x", 60_000))(e) // all one line
	}()
	c, err := pop3.NewClient(background, client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, err := c.Retr(background, 1)
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	if _, err := io.CopyN(io.Discard, m, 64<<20); err != nil {
		t.Fatal(err)
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("64 MiB of a message left %d bytes in memory", grown)
	}
	c.Close()
	if _, err := m.Read(make([]byte, 1)); !errors.Is(err, pop3.ErrClosed) {
		t.Errorf("Read returns %v after Close", err)
	}
	<-ended
}

// TestSlowReader reads an endless message slowly. The client reads ahead by no more than a buffer, and its context ends
// the message, also within Close.
func TestSlowReader(t *testing.T) {
	for _, closes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			e := &enemy{Conn: server, in: bufio.NewReader(server), taken: new(atomic.Int64)}
			var serving sync.WaitGroup
			defer serving.Wait()
			serving.Go(func() {
				after("+OK\r\n", "")(e)
				for e.say(strings.Repeat("x", 4094) + "\r\n") {
					time.Sleep(time.Second) // never silent for long
				}
			})
			c, err := pop3.NewClient(background, client, &pop3.Options{Timeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(background, 24*time.Hour)
			defer cancel()
			m, err := c.Retr(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for read := int64(0); err == nil; {
				var n int
				n, err = io.ReadFull(m, make([]byte, 1024))
				read += int64(n)
				if ahead := e.taken.Load() - read; ahead > 64<<10+4096 {
					t.Fatalf("%d bytes were read ahead of a reader that has %d", ahead, read)
				}
				if time.Sleep(10 * time.Minute); closes {
					err = m.Close()
				}
			}
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 25*time.Hour {
				t.Errorf("closed: %v: %v after %v", closes, err, took)
			}
		})
	}
}

// heap returns the bytes in use, after a garbage collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
