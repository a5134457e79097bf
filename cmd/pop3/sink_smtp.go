package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// A mailer delivers messages to an SMTP or LMTP server, over one connection as long as that lasts. One goroutine uses
// it.
type mailer struct {
	dest   config.Dest
	tls    *tls.Config // to begin with, or nil
	conn   net.Conn    // below client
	client *smtp.Client
}

// mailTimeout bounds one delivery. It is longer than the time that RFC 5321, section 4.5.3.2, grants the last response.
const mailTimeout = 15 * time.Minute

// deliver delivers one message. A 4xx response is marked by fetch.Later and a 5xx response by fetch.Never. Any other
// error means that the server cannot be used, or that it is unknown whether the message was delivered.
func (m *mailer) deliver(ctx context.Context, msg fetch.Message, body io.ReadSeeker) error {
	if !m.alive(ctx) {
		if err := m.connect(ctx); err != nil {
			m.close()
			return fmt.Errorf("%s: %w", m.dest.Kind, cause(ctx, err))
		}
	}
	defer m.watch(ctx)()
	decided, err := m.transact(msg, body)
	if err == nil {
		return nil
	}
	if !decided || m.client.Reset() != nil {
		m.close()
	}
	err = fmt.Errorf("%s: %w", m.dest.Kind, cause(ctx, err))
	var response *smtp.SMTPError
	switch {
	case !decided || !errors.As(err, &response):
		return err
	case isTemporary(err):
		return fetch.Later(err)
	}
	return fetch.Never(err)
}

// cause returns why ctx ended, if it did, because err is then a consequence.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// watch closes the connection when ctx is done, until the function that it returns is called.
func (m *mailer) watch(ctx context.Context) (stop func()) {
	conn := m.conn
	s := context.AfterFunc(ctx, func() { conn.Close() })
	return func() { s() }
}

// close closes the connection, if there is one, without QUIT.
func (m *mailer) close() {
	if m.conn != nil {
		m.conn.Close()
	}
	m.conn, m.client = nil, nil
}

// quit ends the session. The response does not matter, because the messages are delivered.
func (m *mailer) quit() {
	if m.client != nil {
		m.client.CommandTimeout = 5 * time.Second
		m.client.Quit()
	}
	m.close()
}

// alive reports whether there is a connection that the server has not closed.
func (m *mailer) alive(ctx context.Context) bool {
	if m.client == nil {
		return false
	}
	defer m.watch(ctx)()
	if m.client.Noop() != nil {
		m.close()
		return false
	}
	return true
}

func (m *mailer) connect(ctx context.Context) error {
	network, addr := "tcp", m.dest.Addr
	if addr == "" {
		network, addr = "unix", m.dest.Path
	}
	conn, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	m.conn = conn
	defer m.watch(ctx)()
	t := &tls.Config{}
	if m.tls != nil {
		t = m.tls.Clone()
	}
	t.ServerName, _, _ = net.SplitHostPort(m.dest.Addr)
	if m.dest.TLS == config.TLSImplicit {
		conn = tls.Client(conn, t)
	}
	switch {
	case m.dest.Kind == config.LMTP:
		m.client = smtp.NewClientLMTP(conn)
	case m.dest.TLS == config.TLSStart:
		if m.client, err = smtp.NewClientStartTLS(conn, t); err != nil {
			return err
		}
	default:
		m.client = smtp.NewClient(conn)
	}
	name, err := os.Hostname()
	if err != nil || name == "" || m.dest.TLS == config.TLSStart { // the client has introduced itself already
		return m.client.Noop()
	}
	return m.client.Hello(name)
}

// transact sends one message. decided reports whether the server decided about it, so that an error is a refusal of
// this message.
func (m *mailer) transact(msg fetch.Message, body io.ReadSeeker) (decided bool, err error) {
	opts := &smtp.MailOptions{UTF8: !isASCII(m.dest.From)}
	for _, to := range m.dest.To {
		opts.UTF8 = opts.UTF8 || !isASCII(to)
	}
	if msg.Size > 0 && !msg.Header { // not the size of a message of which the header alone is sent
		opts.Size = msg.Size
	}
	if err := m.client.Mail(m.dest.From, opts); err != nil {
		return isRefusal(err), err
	}
	var refusals []error
	for _, to := range m.dest.To {
		if err := m.client.Rcpt(to, nil); err != nil {
			if !isRefusal(err) {
				return false, err
			}
			refusals = append(refusals, fmt.Errorf("<%s>: %w", to, err))
		}
	}
	if refusals != nil { // nothing is sent, so that no recipient receives it twice
		return true, errors.Join(refusals...)
	}
	w, err := m.client.Data()
	if err != nil {
		return isRefusal(err), err
	}
	if _, err := io.Copy(w, body); err != nil {
		return false, err // the connection is closed before the end of the message
	}
	err = w.Close()
	if _, ok := err.(smtp.LMTPDataError); ok { // and not one that is joined with the loss of the connection
		return true, err
	}
	_, ok := err.(*smtp.SMTPError)
	return ok, err
}

// isRefusal reports whether err is a response that refuses this message. Without authentication or TLS a server that
// wants them refuses all messages.
func isRefusal(err error) bool {
	response, ok := err.(*smtp.SMTPError)
	if !ok {
		return false
	}
	switch response.Code {
	case 530, 534, 535, 538:
		return false
	}
	return response.Code/100 == 4 || response.Code/100 == 5
}

// isTemporary reports whether any of the responses that err joins is a 4xx, so that trying again may help.
func isTemporary(err error) bool {
	switch e := err.(type) {
	case *smtp.SMTPError:
		return e.Temporary()
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if isTemporary(err) {
				return true
			}
		}
		return false
	}
	if err := errors.Unwrap(err); err != nil {
		return isTemporary(err)
	}
	return false
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}
