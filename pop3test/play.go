package pop3test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// grace is how long the end of a test waits for a client that has not yet completed its transcript.
var grace = 5 * time.Second

// Play plays a transcript, as [ParseScript] describes it, over [net.Pipe] and returns the client's end. If the client
// deviates from the transcript, the test fails and the connection is closed. The test also fails if the transcript has
// not been played to its end when the test is over.
func Play(t testing.TB, transcript string) net.Conn {
	t.Helper()
	s, err := ParseScript(transcript)
	if err != nil {
		t.Fatal(err)
	}
	return s.Play(t)
}

// Play plays the script like the function [Play].
func (s *Script) Play(t testing.TB) net.Conn {
	client, server := net.Pipe()
	s.start(t, func(context.Context) (net.Conn, error) { return server, nil })
	return client
}

// Listen is like Play, for one connection to a port of the loopback interface. It returns the port's address.
func (s *Script) Listen(t testing.TB) (addr string) {
	t.Helper()
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	s.start(t, func(ctx context.Context) (net.Conn, error) {
		defer l.Close()
		defer context.AfterFunc(ctx, func() { l.Close() })()
		return l.Accept()
	})
	return l.Addr().String()
}

// start plays the script on the connection that accept returns, until the end of the test at most: then the context is
// done.
func (s *Script) start(t testing.TB, accept func(context.Context) (net.Conn, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &player{Script: *s, ctx: ctx, played: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.play(accept); err != nil {
			t.Errorf("pop3test: %s:%v", s.name, err)
		}
	}()
	t.Cleanup(func() {
		select {
		case <-p.played:
		case <-time.After(grace):
		}
		cancel()
		<-ended
	})
}

// A player plays a script once.
type player struct {
	Script
	ctx    context.Context
	played chan struct{} // closed when the client has nothing more to do

	raw   net.Conn
	under net.Conn // below TLS: raw, or raw read ahead
	conn  net.Conn // under, or TLS on it
	r     *bufio.Reader
	sent  int // bytes, for Cut
}

var (
	// errEnd: the connection has ended, as it should.
	errEnd = errors.New("the end")

	errHungUp = errors.New("the client hung up")
)

// play returns an error with the number of the line if the client deviates from the script.
func (p *player) play(accept func(context.Context) (net.Conn, error)) error {
	conn, err := accept(p.ctx)
	if err != nil {
		close(p.played)
		return fmt.Errorf("1: no client: %w", err)
	}
	p.raw, p.under, p.conn = conn, conn, conn
	p.r = bufio.NewReaderSize(conn, 64<<10)
	defer func() { p.under.Close() }()
	defer context.AfterFunc(p.ctx, func() { conn.Close() })()

	err = p.perform()
	close(p.played)
	switch err {
	case nil:
		if line, _ := p.r.ReadSlice('\n'); len(line) > 0 {
			return fmt.Errorf("%d: the client sent %q after the end", p.lines, line)
		}
	case errEnd:
		// Unread data from the client would turn a close into a reset.
		io.Copy(io.Discard, p.under)
	default:
		return err
	}
	return nil
}

// perform takes the steps of the script. It returns nil at the end of the transcript and errEnd at the end of the
// connection.
func (p *player) perform() error {
	if p.Cut == 0 {
		return p.hangUp(p.Reset)
	}
	for i := range p.steps {
		err := p.step(&p.steps[i])
		switch {
		case err == nil:
		case err == errEnd:
			return err
		case errors.Is(err, errHungUp) && p.mayHangUp(i):
			return errEnd
		default:
			return fmt.Errorf("%d: %w", p.steps[i].line, err)
		}
	}
	return nil
}

// mayHangUp reports whether the client may close the connection instead of reading the data from step i on.
func (p *player) mayHangUp(i int) bool {
	for _, st := range p.steps[i:] {
		switch st.do {
		case send, repeat, handshake, wait:
		default:
			return st.do == expectClose || st.do == stall
		}
	}
	return false
}

func (p *player) step(st *step) error {
	switch st.do {
	case send:
		return p.write(st.text)
	case repeat:
		return p.repeat(st.text, st.times)
	case receive, receivePrefix:
		return p.receive(st)
	case handshake:
		return p.handshake()
	case wait:
		timer := time.NewTimer(st.wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			return errors.New("the test is over")
		}
		return nil
	case closeConn, resetConn:
		return p.hangUp(st.do == resetConn)
	case stall:
		io.Copy(io.Discard, p.r)
	case expectClose:
		if line, _ := p.r.ReadSlice('\n'); len(line) > 0 {
			return fmt.Errorf("the client sent %q instead of closing the connection", line)
		}
	}
	if p.ctx.Err() != nil {
		return errors.New("the client has not hung up")
	}
	return errEnd
}

// hangUp closes the connection without a TLS close_notify.
func (p *player) hangUp(reset bool) error {
	if tcp, ok := p.raw.(*net.TCPConn); ok {
		if !reset {
			tcp.CloseWrite()
			return errEnd
		}
		tcp.SetLinger(0)
	}
	p.raw.Close()
	return errEnd
}

// write sends text as far as Cut allows.
func (p *player) write(text string) error {
	cut := p.Cut >= 0 && len(text) >= p.Cut-p.sent
	if cut {
		text = text[:p.Cut-p.sent]
	}
	p.sent += len(text)
	w := io.Writer(p.conn)
	if p.Dribble {
		w = dribbler{w}
	}
	if _, err := io.WriteString(w, text); err != nil {
		if p.ctx.Err() != nil {
			return fmt.Errorf("the client has not read %.60q", text)
		}
		return fmt.Errorf("%w before it had read %.60q", errHungUp, text)
	}
	if cut {
		return p.hangUp(p.Reset)
	}
	return nil
}

// repeat sends text many times, in large writes.
func (p *player) repeat(text string, times int) error {
	batch := min(times, max(1, 64<<10/len(text)))
	block := strings.Repeat(text, batch)
	for ; times > 0; times -= batch {
		batch = min(times, batch)
		if err := p.write(block[:batch*len(text)]); err != nil {
			return err
		}
	}
	return nil
}

// receive reads the line that st wants.
func (p *player) receive(st *step) error {
	line, err := p.r.ReadSlice('\n')
	got, whole := strings.CutSuffix(string(line), "\r\n")
	switch {
	case p.ctx.Err() != nil:
		return fmt.Errorf("the client has not sent %q", st.text)
	case err == bufio.ErrBufferFull:
		return fmt.Errorf("the client sent an endless line, %.60q..., and not %q", line, st.text)
	case err != nil:
		return fmt.Errorf("%w after %q, want %q", errHungUp, line, st.text)
	case !whole:
		return fmt.Errorf("the client sent %q, which does not end with CRLF", line)
	case st.do == receive && got != st.text:
		return fmt.Errorf("the client sent %q, want %q", got, st.text)
	case !strings.HasPrefix(got, st.text):
		return fmt.Errorf("the client sent %q, want %q and more", got, st.text)
	}
	return nil
}

func (p *player) handshake() error {
	if n := p.r.Buffered(); n > 0 {
		early, _ := p.r.Peek(n)
		return fmt.Errorf("the client sent %q before the handshake", early)
	}
	p.under = newReadAhead(p.raw, 0) // as in session.startTLS
	conn := tls.Server(p.under, p.tls.config(p.TLS))
	if err := conn.HandshakeContext(p.ctx); err != nil {
		return fmt.Errorf("%w in the handshake: %w", errHungUp, err)
	}
	p.conn = conn
	p.r.Reset(conn)
	return nil
}
