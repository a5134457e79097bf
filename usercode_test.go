package pop3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A callout is a place at which a session calls user code.
type callout struct {
	transcript string                                 // up to the call, with the greeting
	set        func(o *Options, call func())          // has the options call it
	conn       func(c net.Conn, call func()) net.Conn // has the connection call it
	do         func(c *Client, call func())           // causes the call, or calls it
	usable     bool                                   // the position in the protocol is known afterwards
}

const (
	listsAhead = "S: +OK\nC: CAPA\nS: +OK\nS: PIPELINING\nS: .\n"
	twoAhead   = listsAhead + "C: RETR 1\nC: RETR 2\nS: +OK\\r\\none\\r\\n.\nS: +OK\\r\\ntwo\\r\\n."
	aListing   = "S: +OK\nC: LIST\nS: +OK\nS: 1 1\nS: 2 2\nS: ."
	startsTLS  = "S: +OK" + listSTLS + "S: +OK\n!tls"
)

func noop(c *Client, _ func()) { c.Noop(background) }

func retr(c *Client, _ func()) {
	m, err := c.Retr(background, 1)
	discarded(m, err)
}

func goAhead(c *Client, _ func()) { retrieved(c.RetrAll(background, []int{1, 2})) }

func startTLS(c *Client, _ func()) { c.StartTLS(background, nil) }

// callouts are the places at which a session calls user code.
var callouts = map[string]callout{
	"DebugWriter, command":         {"S: +OK", writes("C: NOOP"), nil, noop, false},
	"DebugWriter, response":        {"S: +OK\nC: NOOP\nS: +OK fine", writes("S: +OK fine"), nil, noop, false},
	"DebugWriter, body":            {"S: +OK\nC: RETR 1\nS: +OK\nS: one\nS: .", writes("octets]"), nil, retr, false},
	"DebugWriter, cut body":        {"S: +OK\nC: RETR 1\nS: +OK\nS: one\n!close", writes("truncated]"), nil, retr, false},
	"DebugWriter, discarding":      {"S: +OK\nC: RETR 1\nS: +OK\nS: one\nS: .", writes("truncated]"), nil, func(c *Client, _ func()) { m, _ := c.Retr(background, 1); m.Close() }, false},
	"DebugWriter, listing":         {aListing, writes("octets]"), nil, func(c *Client, _ func()) { l, err := c.List(background); sliced(l, err) }, false},
	"DebugWriter, feeder":          {aListing, writes("octets]"), nil, func(c *Client, _ func()) { l, _ := c.List(background); collect(l, true) }, false},
	"DebugWriter, spilling":        {aListing, writes("octets]"), nil, func(c *Client, _ func()) { c.List(background); c.Noop(background) }, false},
	"DebugWriter, QUIT":            {"S: +OK\nC: QUIT\nS: +OK bye", writes("S: +OK bye"), nil, func(c *Client, _ func()) { c.Quit(background) }, false},
	"DebugWriter, batch":           {"S: +OK\nC: CAPA\nS: +OK\nS: PIPELINING\nS: .", writes("C: RETR 1"), nil, goAhead, false},
	"DebugWriter, batch, response": {listsAhead + "C: RETR 1\nC: RETR 2\nS: +OK\\r\\none\\r\\n.\nS: +OK two", writes("S: +OK two"), nil, goAhead, false},
	"DebugWriter, DELE":            {listsAhead + "C: DELE 1\nC: DELE 2\nS: +OK one", writes("S: +OK one"), nil, func(c *Client, _ func()) { c.DeleAll(background, []int{1, 2}) }, false},
	"DebugWriter, evicted": {"S: +OK\nC: CAPA\nS: +OK\nS: PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nS: +OK\\r\\none\\r\\n.\nS: +OK two\\r\\ntwo\\r\\n.", writes("S: +OK two"), nil,
		func(c *Client, _ func()) {
			for range c.RetrAll(background, []int{1, 2}) {
				c.Quit(background)
			}
		}, false},
	"Logger, before a command": {"S: +OK\nS: +OK noise", logs, nil, noop, false},
	"Logger, after a response": {"S: +OK\nC: NOOP\nS: +OK\\r\\n+OK noise", logs, nil, noop, false},
	"Logger, after a message":  {"S: +OK\nC: RETR 1\nS: +OK\\r\\none\\r\\n.\\r\\n+OK noise", logs, nil, retr, false},
	"Logger, after a refusal":  {"S: +OK\nC: RETR 1\nS: -ERR\\r\\n+OK noise", logs, nil, retr, false},
	"Logger, QUIT":             {"S: +OK\nC: QUIT\nS: +OK\\r\\n+OK noise", logs, nil, func(c *Client, _ func()) { c.Quit(background) }, false},
	"Logger, batch":            {"S: +OK\nC: CAPA\nS: -ERR\nC: RETR 1\nS: +OK\\r\\none\\r\\n.\\r\\n+OK noise", logs, nil, goAhead, false},
	"Logger, TLS":              {startsTLS, logs, nil, startTLS, false},
	"Observe":                  {"S: +OK\nC: NOOP\nS: +OK", observes("NOOP"), nil, noop, false},
	"Observe, refusal":         {"S: +OK\nC: NOOP\nS: -ERR", observes("NOOP"), nil, noop, false},
	"Observe, unsent":          {"S: +OK", observes("NOOP"), nil, func(c *Client, _ func()) { c.Noop(doneContext()) }, true},
	"Observe, argument":        {"S: +OK", observes("DELE"), nil, func(c *Client, _ func()) { c.Dele(background, 0) }, true},
	"Observe, message":         {"S: +OK\nC: RETR 1\nS: +OK\nS: one\nS: .", observes("RETR"), nil, retr, false},
	"Observe, listing":         {aListing, observes("LIST"), nil, func(c *Client, _ func()) { l, err := c.List(background); sliced(l, err) }, false},
	"Observe, batch":           {"S: +OK\nC: CAPA\nS: -ERR\nC: RETR 1\nS: +OK\nS: one\nS: .", observes("RETR"), nil, goAhead, false},
	"Observe, QUIT":            {"S: +OK\nC: QUIT\nS: +OK", observes("QUIT"), nil, func(c *Client, _ func()) { c.Quit(background) }, false},
	"Observe, Close":           {"S: +OK\nC: RETR 1\nS: +OK\nS: one", observes("RETR"), nil, func(c *Client, _ func()) { c.Retr(background, 1); c.Close() }, false},
	"Observe, done context": {"S: +OK\nC: RETR 1\nS: +OK\nS: one", observes("RETR"), nil, func(c *Client, _ func()) {
		ctx, cancel := context.WithCancel(background)
		c.Retr(ctx, 1)
		cancel()
		<-c.s.ended.Done()
		synctest.Wait()
	}, false},
	"SASL, Start": {"S: +OK", nil, nil, func(c *Client, call func()) { c.Auth(background, &userMechanism{start: call}) }, true},
	"SASL, Next":  {"S: +OK\nC: AUTH X\nS: + ", nil, nil, func(c *Client, call func()) { c.Auth(background, &userMechanism{next: call}) }, false},
	"SASL, Done":  {"S: +OK\nC: AUTH X\nS: +OK", nil, nil, func(c *Client, call func()) { c.Auth(background, &userMechanism{done: call}) }, false},
	"Writer": {"S: +OK\nC: RETR 1\nS: +OK\nS: one\nS: .", nil, nil, func(c *Client, call func()) {
		m, _ := c.Retr(background, 1)
		defer m.Close()
		m.WriteTo(&slowWriter{call})
	}, true},
	"loop over All": {aListing, nil, nil, func(c *Client, call func()) {
		l, _ := c.List(background)
		for range l.All() {
			call()
		}
	}, true},
	"loop over C": {aListing, nil, nil, func(c *Client, call func()) {
		l, _ := c.List(background)
		defer l.Stop()
		for range l.C() {
			call()
		}
	}, true},
	"loop over a batch":      {twoAhead, nil, nil, inBatch(0), true},
	"loop over a batch, end": {twoAhead, nil, nil, inBatch(1), true},
	"loop, one at a time":    {"S: +OK\nC: CAPA\nS: -ERR\nC: RETR 1\nS: +OK\nS: one\nS: .", nil, nil, inBatch(0), true},
	"VerifyPeerCertificate":  {startsTLS, verifies, nil, startTLS, false},
	"VerifyConnection": {startsTLS, func(o *Options, call func()) {
		o.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { call(); return nil }
	}, nil, startTLS, false},
	"KeyLogWriter":           {startsTLS, func(o *Options, call func()) { o.TLSConfig.KeyLogWriter = &slowWriter{call} }, nil, startTLS, false},
	"ClientSessionCache.Get": {startsTLS, func(o *Options, call func()) { o.TLSConfig.ClientSessionCache = &sessionCache{get: call} }, nil, startTLS, false},
	"ClientSessionCache.Put": {startsTLS, func(o *Options, call func()) { o.TLSConfig.ClientSessionCache = &sessionCache{put: call} }, nil,
		func(c *Client, _ func()) { c.StartTLS(background, nil); c.Noop(background) }, false},
	"a TLS callback in Login": {startsTLS, verifies, nil, func(c *Client, _ func()) { c.Login(background, "joe", "secret") }, false},
	"Read":                    {"S: +OK\nC: NOOP\nS: +OK fine", nil, readsThe("fine"), noop, false},
	"Read, message":           {"S: +OK\nC: RETR 1\nS: +OK\nS: one", nil, readsThe("one"), retr, false},
	"Write":                   {"S: +OK", nil, writesThe("NOOP"), noop, false},
}

// writes has the DebugWriter call user code when it is given a line.
func writes(line string) func(o *Options, call func()) {
	return func(o *Options, call func()) { o.DebugWriter = lineWriter{line, call} }
}

type lineWriter struct {
	line string
	call func()
}

func (w lineWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.line) {
		w.call()
	}
	return len(p), nil
}

func logs(o *Options, call func()) { o.Logger = slog.New(handler{call}) }

type handler struct{ call func() }

func (h handler) Enabled(context.Context, slog.Level) bool  { return true }
func (h handler) Handle(context.Context, slog.Record) error { h.call(); return nil }
func (h handler) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h handler) WithGroup(string) slog.Handler             { return h }

func observes(verb string) func(o *Options, call func()) {
	return func(o *Options, call func()) {
		o.Observe = func(_ context.Context, e Event) {
			if e.Verb == verb {
				call()
			}
		}
	}
}

func verifies(o *Options, call func()) {
	o.TLSConfig.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { call(); return nil }
}

// userMechanism calls user code in one of its methods.
type userMechanism struct{ start, next, done func() }

func (m *userMechanism) Start() (string, []byte, error) { return "X", nil, called(m.start) }
func (m *userMechanism) Next([]byte) ([]byte, error)    { return nil, called(m.next) }
func (m *userMechanism) Done() bool                     { return called(m.done) == nil }

func called(fn func()) error {
	if fn != nil {
		fn()
	}
	return nil
}

type sessionCache struct{ get, put func() }

func (s *sessionCache) Get(string) (*tls.ClientSessionState, bool) { called(s.get); return nil, false }
func (s *sessionCache) Put(string, *tls.ClientSessionState)        { called(s.put) }

func inBatch(step int) func(c *Client, call func()) {
	return func(c *Client, call func()) {
		n := 0
		for range c.RetrAll(background, []int{1, 2}) {
			if n == step {
				call()
			}
			n++
		}
	}
}

// userConn calls user code in its methods.
type userConn struct {
	net.Conn
	read, write func(data string)
	close       func()
}

func (u *userConn) Read(p []byte) (int, error) {
	n, err := u.Conn.Read(p)
	if u.read != nil {
		u.read(string(p[:n]))
	}
	return n, err
}

func (u *userConn) Write(p []byte) (int, error) {
	if u.write != nil {
		u.write(string(p))
	}
	return u.Conn.Write(p)
}

func (u *userConn) Close() error {
	called(u.close)
	return u.Conn.Close()
}

func readsThe(text string) func(conn net.Conn, call func()) net.Conn {
	return func(conn net.Conn, call func()) net.Conn {
		return &userConn{Conn: conn, read: func(data string) {
			if strings.Contains(data, text) {
				call()
			}
		}}
	}
}

func writesThe(text string) func(conn net.Conn, call func()) net.Conn {
	return func(conn net.Conn, call func()) net.Conn {
		return &userConn{Conn: conn, write: func(data string) {
			if strings.Contains(data, text) {
				call()
			}
		}}
	}
}

// visit connects a client that calls user code at a place, once. end is the rest of the transcript.
func (p callout) visit(t *testing.T, stall time.Duration, end string, call func()) (c *Client, visited func() bool) {
	var called atomic.Bool
	once := func() {
		if called.CompareAndSwap(false, true) {
			call()
		}
	}
	o := &Options{AllowInsecureLogin: true, TLSConfig: pop3test.TLSConfig(), StallTimeout: stall}
	if p.set != nil {
		p.set(o, once)
	}
	conn := pop3test.Play(t, p.transcript+end)
	if p.conn != nil {
		conn = p.conn(conn, once)
	}
	return connect(t, o, conn), called.Load
}

// exits are the ways in which user code ends its caller.
var exits = map[string]func(){
	"panic":  func() { panic("user code") },
	"Goexit": runtime.Goexit,
}

// apart runs fn in another goroutine, recovers from a panic there, and waits for the end.
func apart(fn func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { recover() }()
		fn()
	}()
	<-ended
}

// TestUserCodeEscapes has user code panic, or call Goexit, at each place. Nothing hangs; the session is closed, unless the
// position in the protocol is known.
func TestUserCodeEscapes(t *testing.T) {
	for name, p := range callouts {
		if name == "KeyLogWriter" { // crypto/tls would keep a lock
			continue
		}
		for how, escape := range exits {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					end := "\n!expect-close"
					switch {
					case p.usable:
						end = "\nC: NOOP\nS: +OK"
					case strings.HasSuffix(p.transcript, "!close"):
						end = ""
					}
					start := time.Now()
					c, visited := p.visit(t, probeWait, end, escape)
					apart(func() { p.do(c, escape) })
					ctx, cancel := context.WithTimeout(background, time.Minute)
					defer cancel()
					err := c.Noop(ctx)
					if p.usable {
						must(t, err)
					} else {
						wantError(t, err, ErrClosed, ErrNotSent)
					}
					if p.set != nil || p.conn != nil {
						if !visited() {
							t.Error("user code was not called")
						}
					}
					lasted(t, time.Since(start), 0)
				})
			})
		}
	}
}

// TestUserCodeEscapesFromNewClient has user code panic, or call Goexit, before there is a Client: the connection is closed.
func TestUserCodeEscapesFromNewClient(t *testing.T) {
	for name, p := range map[string]callout{
		"DebugWriter":   {"S: +OK", writes("S: +OK"), nil, nil, false},
		"Logger":        {"S: +OK\\r\\n+OK noise", logs, nil, nil, false},
		"Observe":       {"S: +OK", observes(""), nil, nil, false},
		"Observe, done": {"", observes(""), nil, func(*Client, func()) {}, false},
		"TLS":           {"!tls", verifies, nil, nil, false},
		"Read":          {"S: +OK", nil, readsThe("OK"), nil, false},
		"Write":         {"!tls", nil, writesThe(""), nil, false},
	} {
		for how, escape := range exits {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := &Options{TLSConfig: pop3test.TLSConfig()}
					if p.set != nil {
						p.set(o, escape)
					}
					conn := pop3test.Play(t, p.transcript+"\n!expect-close")
					if p.conn != nil {
						conn = p.conn(conn, escape)
					}
					o.Dialer = &dialer{conn: conn}
					ctx := background
					if p.do != nil {
						ctx = doneContext()
					}
					start := time.Now()
					apart(func() {
						var err error
						if p.transcript == "!tls" {
							_, err = DialTLS(ctx, "localhost", o)
						} else {
							_, err = Dial(ctx, "localhost", o)
						}
						t.Errorf("returned %v", err)
					})
					synctest.Wait()
					lasted(t, time.Since(start), 0)
				})
			})
		}
	}
}

// TestDialerEscapes checks that nothing is left if there is no connection yet.
func TestDialerEscapes(t *testing.T) {
	for _, escape := range exits {
		synctest.Test(t, func(t *testing.T) {
			apart(func() {
				Dial(background, "localhost", &Options{Dialer: dialFunc(escape)})
				t.Error("returned")
			})
		})
	}
}

type dialFunc func()

func (d dialFunc) DialContext(context.Context, string, string) (net.Conn, error) {
	d()
	return nil, net.ErrClosed
}

// TestCloseOfAConnectionPanics checks that the session is closed, also in a goroutine in which no caller could recover.
func TestCloseOfAConnectionPanics(t *testing.T) {
	for name, tt := range map[string]struct {
		transcript string
		do         func(c *Client) error
	}{
		"Close":     {"S: +OK", func(c *Client) error { c.Close(); return ErrClosed }},
		"Quit":      {"S: +OK\nC: QUIT\nS: +OK", func(c *Client) error { c.Quit(background); return ErrClosed }},
		"lost":      {"S: +OK\nC: NOOP\n!close", func(c *Client) error { return c.Noop(background) }},
		"timed out": {"S: +OK\nC: NOOP\n!stall", func(c *Client) error { return c.Noop(background) }},
		"context": {"S: +OK\nC: NOOP\n!stall", func(c *Client) error {
			ctx, cancel := context.WithTimeout(background, time.Second)
			defer cancel()
			return c.Noop(ctx)
		}},
		"handshake": {"S: +OK" + listSTLS + "S: +OK\n!stall", func(c *Client) error {
			ctx, cancel := context.WithTimeout(background, time.Second)
			defer cancel()
			return c.StartTLS(ctx, pop3test.TLSConfig())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := pop3test.Play(t, tt.transcript)
				defer conn.Close()
				c, err := NewClient(background, &userConn{Conn: timeless{conn}, close: func() { conn.Close(); panic("Close") }}, nil)
				must(t, err)
				if err := tt.do(c); err == nil {
					t.Error("no error")
				}
				synctest.Wait()
				wantError(t, c.Noop(background), ErrClosed)
			})
		})
	}
}

// TestPanicInALoopUnderAContext checks that a loop that panics is stopped before its deferred cancel is called.
func TestPanicInALoopUnderAContext(t *testing.T) {
	for how, escape := range exits {
		for _, entries := range []int{1, 2, 700} {
			t.Run(how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := dialogue(t, nil, "\nC: LIST\nS: +OK\n!repeat 1000 1 1\nS: .\nC: NOOP\nS: +OK")
					apart(func() {
						ctx, cancel := context.WithCancel(background)
						defer cancel()
						l, err := c.List(ctx)
						must(t, err)
						n := 0
						for range l.All() {
							if n++; n == entries {
								escape()
							}
						}
					})
					synctest.Wait()
					must(t, c.Noop(background))
				})
			})
		}
	}
}
