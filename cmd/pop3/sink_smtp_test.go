package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
)

// A mailServer is an SMTP or LMTP server that gives scripted responses.
type mailServer struct {
	mu       sync.Mutex
	sessions int
	received []string         // FROM TO… and the text
	mail     error            // response to MAIL
	rcpt     map[string]error // response to RCPT
	data     error            // response to DATA
	status   map[string]error // LMTP response after the message
	block    chan struct{}    // if not nil, DATA waits until it is closed
	conns    map[net.Conn]bool
}

func (s *mailServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	return &mailSession{mailServer: s}, nil
}

// closeAll closes the connections of all clients.
func (s *mailServer) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

type mailSession struct {
	*mailServer
	from string
	to   []string
}

func (s *mailSession) Reset()        { s.from, s.to = "", nil }
func (s *mailSession) Logout() error { return nil }

func (s *mailSession) Mail(from string, opts *smtp.MailOptions) error {
	s.from = from
	return s.mail
}

func (s *mailSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return s.rcpt[to]
}

func (s *mailSession) Data(r io.Reader) error {
	if s.block != nil {
		<-s.block
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.data == nil {
		s.mu.Lock()
		s.received = append(s.received, s.from+" "+strings.Join(s.to, " ")+"\n"+string(text))
		s.mu.Unlock()
	}
	return s.data
}

func (s *mailSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	if err := s.Data(r); err != nil {
		return err
	}
	for _, to := range s.to {
		status.SetStatus(to, s.status[to])
	}
	return nil
}

// trackingListener notes the connections.
type trackingListener struct {
	net.Listener
	s *mailServer
}

func (l trackingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.s.mu.Lock()
		l.s.conns[conn] = true
		l.s.mu.Unlock()
	}
	return conn, err
}

// serveMail starts a server and returns a sink that delivers to it.
func serveMail(t *testing.T, s *mailServer, kind config.DestKind, secure config.DestTLS) *mailer {
	t.Helper()
	srv := smtp.NewServer(s)
	srv.MaxLineLength = 1 << 20
	srv.MaxMessageBytes = 1 << 30
	srv.ErrorLog = discardLog{}
	dest := config.Dest{Kind: kind, TLS: secure, From: "from@example.org", To: []string{"a@example.org", "b@example.org"}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if kind == config.LMTP && secure == config.TLSNone {
		listener.Close()
		dir, tempErr := os.MkdirTemp("", "lmtp") // the name of a socket must be short
		if tempErr != nil {
			t.Fatal(tempErr)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		dest.Path = filepath.Join(dir, "lmtp")
		listener, err = net.Listen("unix", dest.Path)
	} else {
		dest.Addr = listener.Addr().String()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.conns = make(map[net.Conn]bool)
	srv.LMTP = kind == config.LMTP
	cert := &tls.Config{Certificates: []tls.Certificate{serverCertificate(t)}}
	listener = trackingListener{listener, s}
	switch secure {
	case config.TLSStart:
		srv.TLSConfig = cert
	case config.TLSImplicit:
		listener = tls.NewListener(listener, cert)
	}
	go srv.Serve(listener)
	m := &mailer{dest: dest, tls: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() {
		m.quit()
		srv.Close()
	})
	return m
}

type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

// serverCertificate returns a self-signed certificate.
func serverCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func deliver(t *testing.T, m *mailer) error {
	t.Helper()
	return m.deliver(t.Context(), testMessage, strings.NewReader("Subject: x\r\n\r\n.\r\n..\r\nh\xe9llo\r\n"))
}

func TestMailer(t *testing.T) {
	for _, kind := range []config.DestKind{config.SMTP, config.LMTP} {
		for _, secure := range []config.DestTLS{config.TLSNone, config.TLSStart, config.TLSImplicit} {
			if kind == config.LMTP && secure == config.TLSStart {
				continue
			}
			t.Run(string(kind)+" "+string(secure), func(t *testing.T) {
				s := &mailServer{}
				m := serveMail(t, s, kind, secure)
				for range 3 {
					if err := deliver(t, m); err != nil {
						t.Fatal(err)
					}
				}
				want := "from@example.org a@example.org b@example.org\nSubject: x\r\n\r\n.\r\n..\r\nh\xe9llo\r\n"
				if !slices.Equal(s.received, []string{want, want, want}) {
					t.Errorf("received %q", s.received)
				}
				if s.sessions != 1 && secure != config.TLSStart || s.sessions > 2 {
					t.Errorf("%d sessions", s.sessions)
				}
				s.closeAll() // as an idle server does
				if err := deliver(t, m); err != nil || len(s.received) != 4 {
					t.Errorf("after the connection was lost: %v", err)
				}
			})
		}
	}
}

func response(code int) error { return &smtp.SMTPError{Code: code, Message: "scripted"} }

func TestMailerVerdicts(t *testing.T) {
	for _, test := range []struct {
		name string
		kind config.DestKind
		s    *mailServer
		want string
	}{
		{"MAIL 4xx", config.SMTP, &mailServer{mail: response(451)}, "later"},
		{"MAIL 5xx", config.SMTP, &mailServer{mail: response(552)}, "never"},
		{"MAIL wants authentication", config.SMTP, &mailServer{mail: response(530)}, "failed"},
		{"RCPT 4xx", config.SMTP, &mailServer{rcpt: map[string]error{"a@example.org": response(450)}}, "later"},
		{"RCPT 5xx", config.SMTP, &mailServer{rcpt: map[string]error{"b@example.org": response(550)}}, "never"},
		{"RCPT 5xx and 4xx", config.LMTP, &mailServer{rcpt: map[string]error{"a@example.org": response(550), "b@example.org": response(450)}}, "later"},
		{"DATA 4xx", config.SMTP, &mailServer{data: response(452)}, "later"},
		{"DATA 5xx", config.SMTP, &mailServer{data: response(554)}, "never"},
		{"DATA 4xx of LMTP", config.LMTP, &mailServer{status: map[string]error{"b@example.org": response(452)}}, "later"},
		{"DATA 5xx of LMTP", config.LMTP, &mailServer{status: map[string]error{"a@example.org": response(550), "b@example.org": response(550)}}, "never"},
		{"DATA 5xx and 4xx of LMTP", config.LMTP, &mailServer{status: map[string]error{"a@example.org": response(550), "b@example.org": response(450)}}, "later"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := serveMail(t, test.s, test.kind, config.TLSNone)
			for range 2 { // the session remains usable
				err := deliver(t, m)
				if got := verdict(err); got != test.want || !strings.Contains(err.Error(), "scripted") {
					t.Errorf("%s: %v", got, err)
				}
			}
			test.s.mail, test.s.rcpt, test.s.data, test.s.status = nil, nil, nil, nil
			before := len(test.s.received)
			if err := deliver(t, m); err != nil || len(test.s.received) != before+1 {
				t.Errorf("the next message: %v", err)
			}
			if test.want != "failed" && test.s.sessions > 4 {
				t.Errorf("%d sessions", test.s.sessions)
			}
		})
	}
}

// The size of a message does not matter to the server if the header alone is sent.
func TestMailerHeader(t *testing.T) {
	s := &mailServer{}
	m := serveMail(t, s, config.SMTP, config.TLSNone)
	msg := testMessage
	msg.Size, msg.Header = 1<<40, true
	if err := m.deliver(t.Context(), msg, strings.NewReader("Subject: x\r\n\r\n")); err != nil || len(s.received) != 1 {
		t.Error(err)
	}
	if msg.Header = false; verdict(m.deliver(t.Context(), msg, strings.NewReader("Subject: x\r\n\r\n"))) != "never" {
		t.Error("a message that is too large is accepted")
	}
}

func TestMailerFails(t *testing.T) {
	t.Run("no server", func(t *testing.T) {
		m := &mailer{dest: config.Dest{Kind: config.LMTP, Path: filepath.Join(t.TempDir(), "none"), To: []string{"a"}}}
		if err := deliver(t, m); verdict(err) != "failed" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no STARTTLS", func(t *testing.T) {
		s := &mailServer{}
		m := serveMail(t, s, config.SMTP, config.TLSNone)
		m.dest.TLS = config.TLSStart
		if err := deliver(t, m); verdict(err) != "failed" || len(s.received) > 0 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("spool fails", func(t *testing.T) {
		s := &mailServer{}
		m := serveMail(t, s, config.SMTP, config.TLSNone)
		body := struct {
			io.Reader
			io.Seeker
		}{io.MultiReader(strings.NewReader("Subject: half\r\n"), iotest.ErrReader(errors.New("bad disk"))), nil}
		if err := m.deliver(t.Context(), testMessage, body); verdict(err) != "failed" || !strings.Contains(err.Error(), "bad disk") {
			t.Errorf("error %v", err)
		}
		if err := deliver(t, m); err != nil {
			t.Error(err)
		}
		if len(s.received) != 1 || strings.Contains(s.received[0], "half") {
			t.Errorf("received %q", s.received)
		}
	})
	t.Run("greeting 5xx", func(t *testing.T) {
		m := &mailer{dest: config.Dest{Kind: config.SMTP, Addr: say(t, "554 go away\r\n"), To: []string{"a@b"}}}
		if err := deliver(t, m); verdict(err) != "failed" || !strings.Contains(err.Error(), "go away") {
			t.Errorf("error %v", err)
		}
	})
}

// say serves connections with a text, and then reads on.
func say(t *testing.T, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, text)
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// A server that stops does not hold the run.
func TestMailerCanceled(t *testing.T) {
	for name, m := range map[string]*mailer{
		"silent": {dest: config.Dest{Kind: config.SMTP, Addr: say(t, ""), To: []string{"a@b"}}},
		"in DATA": func() *mailer {
			s := &mailServer{block: make(chan struct{})}
			t.Cleanup(func() { close(s.block) })
			return serveMail(t, s, config.SMTP, config.TLSNone)
		}(),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := m.deliver(ctx, testMessage, bytes.NewReader(bytes.Repeat([]byte("x\r\n"), 1<<20)))
		if verdict(err) != "failed" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
