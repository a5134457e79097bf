package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// manner is how a trap ends the user code in which it is called.
type manner int

const (
	blocks manner = iota
	panics
	exits
)

func (m manner) String() string { return [...]string{"blocks", "panics", "exits"}[m] }

// trap counts the calls of user code by kind. It springs at one of them.
type trap struct {
	manner manner
	kind   string // if "", it does not spring
	nth    int    // call of that kind, from 1
	sprung chan struct{}
	goOn   chan struct{} // closed when the user code may end

	mu     sync.Mutex
	counts map[string]int
}

func newTrap(kind string, nth int, m manner) *trap {
	return &trap{manner: m, kind: kind, nth: nth, sprung: make(chan struct{}), goOn: make(chan struct{}), counts: make(map[string]int)}
}

// at is called by user code.
func (tr *trap) at(kind string) {
	tr.mu.Lock()
	tr.counts[kind]++
	springs := kind == tr.kind && tr.counts[kind] == tr.nth
	tr.mu.Unlock()
	if !springs {
		return
	}
	close(tr.sprung)
	<-tr.goOn
	switch {
	case tr.manner == panics && inCall():
		panic("trap")
	case tr.manner != blocks: // a panic in a goroutine of the library would end the program
		runtime.Goexit()
	}
}

// Write is a trap in a DebugWriter.
func (tr *trap) Write(p []byte) (int, error) {
	tr.at("DebugWriter")
	return len(p), nil
}

// Handle is one in a Logger.
func (tr *trap) Handle(context.Context, slog.Record) error {
	tr.at("Logger")
	return nil
}

func (tr *trap) Enabled(context.Context, slog.Level) bool { return true }
func (tr *trap) WithAttrs([]slog.Attr) slog.Handler       { return tr }
func (tr *trap) WithGroup(string) slog.Handler            { return tr }

// trapped is a trap in methods Write, or Get and Put.
type trapped struct {
	*trap
	kind  string
	cache tls.ClientSessionCache
}

func (w trapped) Write(p []byte) (int, error) {
	w.at(w.kind)
	return len(p), nil
}

func (w trapped) Get(key string) (*tls.ClientSessionState, bool) {
	w.at(w.kind + " Get")
	return w.cache.Get(key)
}

func (w trapped) Put(key string, state *tls.ClientSessionState) {
	w.at(w.kind + " Put")
	w.cache.Put(key, state)
}

// mechanism is AUTH LOGIN.
type mechanism struct {
	*trap
	says []string
}

func (m *mechanism) Start() (string, []byte, error) {
	m.at("SASL Start")
	return "LOGIN", nil, nil
}

func (m *mechanism) Next([]byte) ([]byte, error) {
	m.at("SASL Next")
	if len(m.says) == 0 {
		return nil, errors.New("one challenge too many")
	}
	answer := m.says[0]
	m.says = m.says[1:]
	return []byte(answer), nil
}

func (m *mechanism) Done() bool {
	m.at("SASL Done")
	return len(m.says) == 0
}

// ways are the variants of a session.
type way struct {
	name      string
	stls, tls bool
	dials     bool // STLS is a part of dialing
	oneByOne  bool // the server does not list PIPELINING
}

var ways = []way{
	{name: "plain"},
	{name: "plain, one by one", oneByOne: true},
	{name: "STLS", stls: true},
	{name: "TLS", tls: true, oneByOne: true},
	{name: "DialStartTLS", stls: true, dials: true},
}

// tour is a session in which every kind of user code is called.
type tour struct {
	way
	trap   *trap
	ctx    context.Context
	srv    *pop3test.Server
	conn   *faultConn
	client atomic.Pointer[pop3.Client] // once connected
}

func newTour(w way, tr *trap, f fault) *tour {
	srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	srv.STLS = w.stls
	srv.Pipelining = !w.oneByOne
	srv.SASL = []string{"LOGIN"}
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	r := &tour{way: w, trap: tr, ctx: background, srv: srv}
	r.conn = newFaultConn(nil, f)
	r.conn.listen = true
	return r
}

// DialContext makes the tour a Dialer.
func (r *tour) DialContext(context.Context, string, string) (net.Conn, error) {
	r.trap.at("Dialer")
	if r.tls {
		r.conn.Conn = r.srv.PipeTLS()
	} else {
		r.conn.Conn = r.srv.Pipe()
	}
	return r.conn, nil
}

func (r *tour) options() *pop3.Options {
	config := pop3test.TLSConfig()
	config.CurvePreferences = []tls.CurveID{tls.X25519}
	config.ClientSessionCache = trapped{r.trap, "ClientSessionCache", tls.NewLRUClientSessionCache(1)}
	config.KeyLogWriter = trapped{trap: r.trap, kind: "KeyLogWriter"}
	config.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { r.trap.at("VerifyPeerCertificate"); return nil }
	config.VerifyConnection = func(tls.ConnectionState) error { r.trap.at("VerifyConnection"); return nil }
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		r.trap.at("GetClientCertificate")
		return new(tls.Certificate), nil
	}
	return &pop3.Options{
		Dialer:             r,
		TLSConfig:          config,
		StallTimeout:       -1,
		AllowInsecureLogin: true, // so that nothing else keeps a password from being sent
		Logger:             slog.New(r.trap),
		DebugWriter:        r.trap,
		Observe:            func(context.Context, pop3.Event) { r.trap.at("Observe") },
	}
}

// run makes the tour. It ends at the first error.
func (r *tour) run() error {
	dial := pop3.Dial
	switch {
	case r.tls:
		dial = pop3.DialTLS
	case r.dials:
		dial = pop3.DialStartTLS
	}
	c, err := dial(r.ctx, "localhost", r.options())
	if err != nil {
		return err
	}
	r.client.Store(c)
	for _, step := range []func(*pop3.Client) error{r.login, r.list, r.fetch, r.fetchMany, r.rest} {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

func (r *tour) login(c *pop3.Client) error {
	if r.stls && !r.dials {
		if err := c.StartTLS(r.ctx, nil); err != nil {
			return err
		}
	}
	if err := c.User(r.ctx, "user"); err != nil {
		return err
	}
	if err := mustRefuse(c.Pass(r.ctx, "wrong")); err != nil {
		return err
	}
	return c.Auth(r.ctx, &mechanism{r.trap, []string{"user", "secret"}})
}

func (r *tour) list(c *pop3.Client) error {
	if _, _, err := c.Stat(r.ctx); err != nil {
		return err
	}
	l, err := c.List(r.ctx)
	if err != nil {
		return err
	}
	for _, err := range l.All() {
		if err != nil {
			return err
		}
		r.trap.at("LIST body")
	}
	if l, err = c.List(r.ctx); err != nil {
		return err
	}
	for range l.C() {
	}
	return l.Err()
}

func (r *tour) fetch(c *pop3.Client) error {
	l, err := c.UIDL(r.ctx)
	if err != nil {
		return err
	}
	for u, err := range l.All() {
		if err != nil {
			return err
		}
		r.trap.at("UIDL body")
		m, err := c.Retr(r.ctx, u.Number)
		if err := r.read(m, err); err != nil {
			return err
		}
	}
	m, err := c.Top(r.ctx, 1, 1000)
	return r.read(m, err)
}

// read reads a message, and always closes it.
func (r *tour) read(m *pop3.Message, err error) error {
	if err != nil {
		return err
	}
	defer m.Close()
	var text strings.Builder
	_, err = m.WriteTo(io.MultiWriter(trapped{trap: r.trap, kind: "Writer"}, &text))
	if want := texts[m.Number-1]; err == nil && text.String() != want || !strings.HasPrefix(want, text.String()) {
		return brokenf("message %d reads %q, %v; want %q", m.Number, text.String(), err, want)
	}
	return err
}

func (r *tour) fetchMany(c *pop3.Client) error {
	for m, err := range c.RetrAll(r.ctx, []int{2, 99, 3, 1}) {
		if err != nil {
			return err
		}
		r.trap.at("RetrAll body")
		if m.Number == 99 {
			_, err = m.Read(make([]byte, 1))
			err = mustRefuse(err)
		} else {
			err = r.read(m, nil)
		}
		if err != nil {
			return err
		}
	}
	for _, err := range c.TopAll(r.ctx, []int{1, 2, 3}, 0) {
		if err != nil {
			return err
		}
		r.trap.at("TopAll body")
	}
	return c.DeleAll(r.ctx, []int{1, 2})
}

func (r *tour) rest(c *pop3.Client) error {
	m, err := c.CmdMultiline(r.ctx, "LIST")
	if err == nil {
		_, err = io.Copy(io.Discard, m)
	}
	if err != nil {
		return err
	}
	if !r.stls && !r.tls {
		r.conn.noise("-ERR unsolicited\r\n")
	}
	return c.Quit(r.ctx)
}

// mustRefuse expects a *ServerError, and returns any other error.
func mustRefuse(err error) error {
	if err == nil {
		return brokenf("no refusal")
	}
	if errors.As(err, new(*pop3.ServerError)) {
		return nil
	}
	return err
}

// inTheClear fails the test if the client has sent plaintext after an accepted STLS, or a password before it.
func (r *tour) inTheClear(t *testing.T) {
	t.Helper()
	sent, _ := r.conn.left()
	clear, records, found := bytes.Cut(sent, []byte("STLS\r\n"))
	if r.tls {
		clear, records = nil, sent
	} else if r.stls && !found {
		records = nil
	} else if !r.stls {
		return
	}
	if len(records) > 0 && (records[0] < 20 || records[0] > 23) {
		t.Errorf("%q was sent in the clear after STLS", records)
	}
	for _, secret := range []string{"secret", "PASS", base64.StdEncoding.EncodeToString([]byte("secret"))} {
		if bytes.Contains(clear, []byte(secret)) {
			t.Errorf("%q was sent in the clear", clear)
		}
	}
}
