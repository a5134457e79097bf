package pop3test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Server is a POP3 server on a port of the loopback interface, or without a port: see [Server.Pipe]. Its fields must
// not be changed after the first session begins. With zero fields it implements RFC 1939 and CAPA.
type Server struct {
	// Addr is the address to dial, as host:port. Start sets it.
	Addr string

	// Maildrop contains the messages. If nil, the maildrop is empty.
	Maildrop Maildrop

	// User and Password open the maildrop. If empty, they are "user" and "secret". Password is also the secret of APOP
	// and CRAM-MD5 and the token of XOAUTH2 and OAUTHBEARER.
	User, Password string

	// Greeting is the text after the +OK of the greeting. If empty, the text names the package.
	Greeting string

	// APOP appends a timestamp to the greeting and allows APOP (RFC 1939, section 7).
	APOP bool

	// STLS allows and lists STLS (RFC 2595).
	STLS bool

	// Pipelining lists PIPELINING (RFC 2449, section 6.6). Commands that arrive together are processed one after the
	// other in any case.
	Pipelining bool

	// UTF8 allows and lists UTF8 (RFC 6856, section 2).
	UTF8 bool

	// Langs are the languages that LANG lists, each a tag, a blank and a description, such as "de Deutsch" (RFC 6856,
	// section 3). If empty, LANG is an unknown command.
	Langs []string

	// SASL names the mechanisms of AUTH (RFC 5034), in upper case and in the order CAPA lists them. PLAIN, LOGIN,
	// CRAM-MD5, XOAUTH2, OAUTHBEARER and EXTERNAL are implemented; EXTERNAL requires a client certificate: see TLS.
	// Others are listed and refused.
	SASL []string

	// Caps are further lines for CAPA, such as "EXPIRE NEVER".
	Caps []string

	// NoCAPA makes CAPA an unknown command, as it is to old servers.
	NoCAPA bool

	// NoUSER makes USER and PASS unknown commands.
	NoUSER bool

	// CapsAfterLogin lists TOP, UIDL and PIPELINING after login only, as Gmail does.
	CapsAfterLogin bool

	// LoginRequiresTLS refuses every login without TLS.
	LoginRequiresTLS bool

	// LoginDropsInput discards input that the client sent after a login command before the response to it, as Courier
	// does.
	LoginDropsInput bool

	// Exclusive refuses a login with [IN-USE] while another session has the maildrop open.
	Exclusive bool

	// Dribble sends one byte per write.
	Dribble bool

	// Latency is the time between the arrival of a command and the response to it. Commands that arrive together are
	// delayed together, as on a connection with a long round trip.
	Latency time.Duration

	// Refuse, if not nil, is called before a command is executed. If it returns a text, the response is -ERR and this
	// text. The verb is in upper case; n is the number of commands with this verb that the server has received,
	// including this one. The greeting has the verb "": refusing it rejects the client. A refused QUIT deletes nothing
	// but still ends the session. Refuse may be called concurrently.
	Refuse func(verb string, n int) string

	// TLS is the server's TLS configuration. It may be nil. If it has no certificate, the server uses the package's
	// certificate. All sessions share it, so that a client with a ClientSessionCache resumes its TLS sessions.
	TLS *tls.Config

	// Logf, if not nil, is called with every command, including passwords, with every status line, and with the reason
	// if a session is lost. [testing.T.Logf] is suitable. Logf may be called concurrently.
	Logf func(format string, args ...any)

	implicitTLS bool
	tls         serverTLS
	peak        atomic.Int64
	running     sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	closed   bool
	conns    map[net.Conn]bool
	sessions int
	verbs    map[string]int
	commands []byte       // every line that clients sent, each with LF
	gone     map[int]bool // numbers in Maildrop of messages deleted
	deleted  []string     // their unique-ids
	inUse    bool         // by a session, if Exclusive
}

// NewServer starts and returns a Server with STLS and PIPELINING. The caller should call Close when finished.
func NewServer(m Maildrop) *Server {
	s := NewUnstartedServer(m)
	s.Start()
	return s
}

// NewTLSServer starts and returns a Server with implicit TLS. The caller should call Close when finished.
func NewTLSServer(m Maildrop) *Server {
	s := NewUnstartedServer(m)
	s.StartTLS()
	return s
}

// NewUnstartedServer returns a Server with STLS and PIPELINING that does not listen yet. Change its fields, then call
// Start or StartTLS, or use it through Pipe only. The caller should call Close when finished.
func NewUnstartedServer(m Maildrop) *Server {
	return &Server{Maildrop: m, STLS: true, Pipelining: true}
}

// Start begins to listen on a free port of the loopback interface.
func (s *Server) Start() { s.start(false) }

// StartTLS is like Start, for a server with implicit TLS.
func (s *Server) StartTLS() { s.start(true) }

func (s *Server) start(implicitTLS bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil || s.closed {
		panic("pop3test: Server already started")
	}
	l, err := listen()
	if err != nil {
		panic(fmt.Sprintf("pop3test: failed to listen on a port: %v", err))
	}
	s.listener = l
	s.implicitTLS = implicitTLS
	s.Addr = l.Addr().String()
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			switch {
			case err == nil:
				s.begin(conn, implicitTLS)
			case errors.Is(err, net.ErrClosed):
				return
			default: // too many open files
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
}

// listen listens on a free port of the loopback interface.
func listen() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return net.Listen("tcp6", "[::1]:0")
	}
	return l, nil
}

// Pipe returns the client's end of a new session over [net.Pipe]. The server need not be started; a server that is not
// started can be created and used within a [testing/synctest] bubble. After StartTLS the session uses implicit TLS.
func (s *Server) Pipe() net.Conn { return s.pipe(s.implicitTLS) }

// PipeTLS is like Pipe, for a session with implicit TLS. The server need not be started: use it for DialTLS in a
// bubble.
func (s *Server) PipeTLS() net.Conn { return s.pipe(true) }

// DialContext is Pipe, or PipeTLS for port 995 or "pop3s", as a Dialer for a client. It makes no network connection and
// ignores the rest of addr. Use it to run a client that dials by itself within a [testing/synctest] bubble. It fails
// after Close or if ctx is done.
func (s *Server) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return fail(errors.New("pop3test: the Server is closed"))
	}
	_, port, _ := net.SplitHostPort(addr)
	return s.pipe(s.implicitTLS || port == "995" || port == "pop3s"), nil
}

func (s *Server) pipe(implicitTLS bool) net.Conn {
	client, server := net.Pipe()
	s.begin(server, implicitTLS)
	return client
}

// begin serves conn until one side ends the session.
func (s *Server) begin(conn net.Conn, implicitTLS bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return
	}
	s.sessions++
	m := &meter{Conn: conn, peak: &s.peak}
	conn = m
	if s.Latency > 0 {
		conn = newReadAhead(conn, s.Latency)
	}
	if s.conns == nil {
		s.conns = make(map[net.Conn]bool)
	}
	s.conns[conn] = true
	ss := newSession(s, s.sessions, conn, m)
	ss.implicitTLS = implicitTLS
	s.running.Go(func() {
		ss.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	})
}

// Close stops listening, closes every session and returns when all have ended. Deletions that no QUIT has committed are
// discarded.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Unlock()
	s.CloseClientConnections()
	s.running.Wait()
}

// CloseClientConnections closes every session, without waiting for them to end. It may be called from Refuse or
// from a method of the Maildrop.
func (s *Server) CloseClientConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

// TLSConfig returns a client configuration that trusts the server's certificate.
func (s *Server) TLSConfig() *tls.Config {
	if s.TLS != nil && len(s.TLS.Certificates) > 0 {
		return clientConfig(s.TLS.Certificates[0])
	}
	return TLSConfig()
}

// Deleted returns the unique-ids of the messages whose deletion has been committed by QUIT, in the order of deletion.
func (s *Server) Deleted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.deleted...)
}

// Remaining returns the unique-ids of the messages that a new session would find.
func (s *Server) Remaining() []string {
	count, numbers := s.snapshot()
	uids := make([]string, count)
	for i := range uids {
		uids[i] = s.Maildrop.UID(original(numbers, i+1))
	}
	return uids
}

// Commands returns the lines that clients have sent so far, without CRLF, in the order of their arrival, including SASL
// responses. Passwords are not redacted.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.commands) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(s.commands, crlf[1:])), "\n")
}

// MaxInFlight returns the largest number of commands of one session that were in flight: received but without a
// response. With Latency this is the number of commands that the client pipelined; without it, the number that happened
// to arrive together. Commands sent over TLS are not counted.
func (s *Server) MaxInFlight() int { return int(s.peak.Load()) }

// record keeps a line for Commands.
func (s *Server) record(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = append(append(s.commands, line...), '\n')
}

// refuses asks Refuse.
func (s *Server) refuses(verb string) string {
	if s.Refuse == nil {
		return ""
	}
	s.mu.Lock()
	if s.verbs == nil {
		s.verbs = make(map[string]int)
	}
	s.verbs[verb]++
	n := s.verbs[verb]
	s.mu.Unlock()
	return s.Refuse(verb, n)
}

// snapshot returns the number of messages there are and their numbers in the Maildrop, which are nil if none is
// deleted: see original.
func (s *Server) snapshot() (count int, numbers []int) {
	if s.Maildrop == nil {
		return 0, nil
	}
	count = s.Maildrop.Count()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.gone) == 0 {
		return count, nil
	}
	numbers = make([]int, 0, count)
	for n := 1; n <= count; n++ {
		if !s.gone[n] {
			numbers = append(numbers, n)
		}
	}
	return len(numbers), numbers
}

// original returns the number in the Maildrop of a session's message n.
func original(numbers []int, n int) int {
	if numbers == nil {
		return n
	}
	return numbers[n-1]
}

// remove deletes messages, given by number in the Maildrop and unique-id.
func (s *Server) remove(numbers []int, uids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil {
		s.gone = make(map[int]bool)
	}
	for i, n := range numbers {
		if !s.gone[n] {
			s.gone[n] = true
			s.deleted = append(s.deleted, uids[i])
		}
	}
}

// lock takes the maildrop for a session.
func (s *Server) lock() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Exclusive && s.inUse {
		return false
	}
	s.inUse = true
	return true
}

func (s *Server) unlock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse = false
}
