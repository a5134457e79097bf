package faults

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// kind is the kind of a fault of a connection.
type kind int

const (
	nothing   kind = iota
	cut            // it is closed
	reset          // it is reset
	stall          // nothing passes any more
	halfClose      // the server has closed its side, and still reads
	lose           // data from the client is accepted but never arrives
	inject         // an attacker inserts a response
)

const injected = "+OK 1 1\r\n"

func (k kind) String() string {
	return [...]string{"nothing", "cut", "reset", "stall", "half-close", "lose", "inject"}[k]
}

// fault describes a fault and when it happens.
type fault struct {
	kind   kind
	up     bool          // counts bytes of the client; otherwise of the server
	after  int           // bytes that still pass
	single bool          // one byte per packet, both ways
	pace   time.Duration // of the server's packets
	jitter uint64        // if not 0, the seed for packets of random sizes and intervals, pace on average
}

func (f fault) String() string {
	from := "server"
	if f.up {
		from = "client"
	}
	return fmt.Sprintf("%v after %d bytes of the %s (one byte per packet: %v, pace %v, jitter %d)", f.kind, f.after, from, f.single, f.pace, f.jitter)
}

// faultConn is the client's end of a connection on which a fault happens.
type faultConn struct {
	net.Conn
	dead net.Conn // a pipe on which nothing happens

	mu          sync.Mutex
	fault       fault
	tripped     bool
	extra       []byte     // to be injected
	taken, sent int        // bytes of the server, of the client
	random      *rand.Rand // for jitter
	arrives     time.Time  // time of the next packet; zero if unknown
	listen      bool       // record the client's data
	heard       []byte
	closed      bool
}

func newFaultConn(conn net.Conn, f fault) *faultConn {
	dead, _ := net.Pipe()
	c := &faultConn{Conn: conn, dead: dead, random: rand.New(rand.NewPCG(f.jitter, 0))}
	c.arm(f)
	return c
}

// arm activates a fault.
func (c *faultConn) arm(f fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
	c.pass(0)
}

// pass counts bytes in the direction of the fault. The caller must hold mu.
func (c *faultConn) pass(n int) {
	c.fault.after -= n
	if c.fault.kind == nothing || c.fault.after > 0 || c.tripped {
		return
	}
	c.tripped = true
	if c.fault.kind == inject {
		c.extra = []byte(injected)
	}
	if c.fault.kind == cut || c.fault.kind == reset {
		c.Conn.Close()
	}
}

// room returns how many of n bytes may pass in one packet, the fault if it has happened, and whether it applies to this
// direction.
func (c *faultConn) room(up bool, n int) (room int, happened kind, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine = c.fault.up == up
	if c.tripped && c.fault.kind != inject {
		return 0, c.fault.kind, mine
	}
	if c.fault.single {
		n = min(n, 1)
	}
	if c.fault.jitter != 0 {
		n = min(n, 1+c.random.IntN(40))
	}
	if c.fault.kind != nothing && mine && !c.tripped {
		n = min(n, c.fault.after)
	}
	return n, nothing, mine
}

// wait sleeps until the next packet arrives. A Read that fails does not delay the packet.
func (c *faultConn) wait() {
	c.mu.Lock()
	if pace := c.fault.pace; pace > 0 && c.arrives.IsZero() {
		if c.fault.jitter != 0 {
			pace = time.Duration(c.random.Int64N(int64(2 * pace)))
		}
		c.arrives = time.Now().Add(pace)
	}
	left := time.Until(c.arrives)
	c.mu.Unlock()
	time.Sleep(left)
}

func (c *faultConn) Read(p []byte) (int, error) {
	c.wait()
	c.mu.Lock()
	n := copy(p, c.extra)
	c.extra = c.extra[n:]
	c.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	n, happened, mine := c.room(false, len(p))
	if happened == nothing || happened == lose || happened == stall && !mine {
		if happened != nothing {
			n = len(p)
		}
		var err error
		n, err = c.Conn.Read(p[:n])
		c.mu.Lock()
		defer c.mu.Unlock()
		c.taken += n
		if n > 0 {
			c.arrives = time.Time{}
		}
		if !c.fault.up {
			c.pass(n)
		}
		if n > 0 || !c.tripped {
			return n, err
		}
		happened = c.fault.kind
		if happened == lose || happened == stall || happened == inject {
			return 0, err
		}
	}
	switch happened {
	case reset:
		return 0, syscall.ECONNRESET
	case stall:
		return c.dead.Read(p)
	}
	return 0, io.EOF
}

// noise has unsolicited text arrive.
func (c *faultConn) noise(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extra = append(c.extra, text...)
}

func (c *faultConn) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n, happened, mine := c.room(true, len(p)-done)
		switch {
		case happened == lose:
			return len(p), nil
		case happened == cut && mine: // it is in the buffer of the socket
			return len(p), nil
		case happened == cut || happened == reset:
			return done, syscall.EPIPE
		case happened == stall && mine:
			n, err := c.dead.Write(p[done:])
			return done + n, err
		case happened != nothing: // the fault affects the other direction
			n = len(p) - done
		}
		n, err := c.Conn.Write(p[done : done+n])
		done += n
		c.mu.Lock()
		c.sent += n
		if c.listen {
			c.heard = append(c.heard, p[done-n:done]...)
		}
		if mine && happened == nothing {
			c.pass(n)
		}
		c.mu.Unlock()
		if err != nil {
			return done, err
		}
	}
	return len(p), nil
}

func (c *faultConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.dead.Close()
	return c.Conn.Close()
}

func (c *faultConn) SetDeadline(t time.Time) error {
	c.dead.SetDeadline(t)
	return c.Conn.SetDeadline(t)
}

func (c *faultConn) SetReadDeadline(t time.Time) error {
	c.dead.SetReadDeadline(t)
	return c.Conn.SetReadDeadline(t)
}

func (c *faultConn) SetWriteDeadline(t time.Time) error {
	c.dead.SetWriteDeadline(t)
	return c.Conn.SetWriteDeadline(t)
}

// left returns the data that the client has sent, if it is recorded, and whether the client has closed the connection.
// A client that pipelines may still be writing.
func (c *faultConn) left() (sent []byte, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard, c.closed
}

// octets returns how many bytes of the server and of the client have passed, and whether the fault has happened.
func (c *faultConn) octets() (taken, sent int, happened bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken, c.sent, c.tripped
}
