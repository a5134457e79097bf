package faults

import (
	"errors"
	"net"
	"sync"
	"testing"
)

// proxy relays one TCP connection between a client and a server, and injects a fault.
type proxy struct {
	addr        string
	taken, sent int // bytes that passed, once it is done
	listener    net.Listener
	fault       fault
	happens     func() // if not nil, called instead of the fault
	once        sync.Once
	running     sync.WaitGroup
	mu          sync.Mutex
	conns       []*net.TCPConn
}

func newProxy(t *testing.T, server string, f fault, happens func()) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), listener: l, fault: f, happens: happens}
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		p.serve(server)
	}()
	return p
}

func (p *proxy) serve(server string) {
	defer p.listener.Close()
	client, err := p.listener.Accept()
	if err != nil {
		return
	}
	p.add(client)
	backend, err := net.Dial("tcp", server)
	if err != nil {
		client.Close()
		return
	}
	p.add(backend)
	up := make(chan struct{})
	go func() {
		defer close(up)
		p.copy(backend.(*net.TCPConn), client.(*net.TCPConn), true, &p.sent)
	}()
	p.copy(client.(*net.TCPConn), backend.(*net.TCPConn), false, &p.taken)
	<-up
}

func (p *proxy) add(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c.(*net.TCPConn))
}

func (p *proxy) copy(to, from *net.TCPConn, up bool, passed *int) {
	mine := p.fault.kind != nothing && p.fault.up == up
	buf := make([]byte, 16<<10)
	if p.fault.single {
		buf = buf[:1]
	}
	for {
		room := len(buf)
		if mine {
			if *passed >= p.fault.after {
				p.once.Do(func() { p.trip(to) })
				if p.happens == nil || up {
					return
				}
			} else {
				room = min(room, p.fault.after-*passed)
			}
		}
		n, err := from.Read(buf[:room])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				from.CloseRead()
				return
			}
			*passed += n
		}
		if err != nil {
			to.CloseWrite()
			return
		}
	}
}

// trip injects the fault.
func (p *proxy) trip(to *net.TCPConn) {
	if p.happens != nil {
		p.happens() // data that the server has sent by then is still passed on
		return
	}
	switch p.fault.kind {
	case halfClose:
		to.CloseWrite()
	case cut, reset:
		p.hangUp(p.fault.kind == reset)
	}
}

func (p *proxy) hangUp(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if reset {
			c.SetLinger(0)
		}
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			panic(err)
		}
	}
}

// close ends the proxy and everything it has started.
func (p *proxy) close() {
	p.listener.Close()
	p.hangUp(false)
	p.running.Wait()
}
