package pop3test

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
)

// capa is RFC 2449, section 5.
func (s *session) capa(string) error {
	srv := s.srv
	s.ok("capability list follows")
	line := func(when bool, text string) {
		if when {
			s.w.WriteString(text)
			s.w.Write(crlf)
		}
	}
	after := s.state == transaction || !srv.CapsAfterLogin
	login := s.secure() || !srv.LoginRequiresTLS
	line(after, "TOP")
	line(after, "UIDL")
	line(login && !srv.NoUSER, "USER")
	line(login && len(srv.SASL) > 0, "SASL "+strings.Join(srv.SASL, " "))
	line(true, "RESP-CODES")
	line(true, "AUTH-RESP-CODE")
	line(after && srv.Pipelining, "PIPELINING")
	line(srv.STLS && !s.secure() && s.state == authorization, "STLS")
	line(srv.UTF8, "UTF8 USER")
	line(len(srv.Langs) > 0, "LANG")
	for _, c := range srv.Caps {
		line(true, c)
	}
	line(true, "IMPLEMENTATION pop3test")
	s.w.Write(terminator)
	return nil
}

// utf8 is RFC 6856, section 2.1. Messages are served as they are in any case.
func (s *session) utf8(string) error {
	s.ok("UTF8 enabled")
	return nil
}

// lang is RFC 6856, section 3.
func (s *session) lang(tag string) error {
	if tag == "" {
		s.ok("language listing follows")
		for _, l := range s.srv.Langs {
			s.w.WriteString(l)
			s.w.Write(crlf)
		}
		s.w.Write(terminator)
		return nil
	}
	i := slices.IndexFunc(s.srv.Langs, func(l string) bool {
		known, _, _ := strings.Cut(l, " ")
		return tag == "*" || strings.EqualFold(tag, known)
	})
	if i < 0 {
		s.fail("no such language")
		return nil
	}
	s.ok(s.srv.Langs[i])
	return nil
}

// stls is RFC 2595, section 4.
func (s *session) stls(string) error {
	if s.secure() {
		s.fail("TLS is active already")
		return nil
	}
	s.ok("begin TLS")
	return s.startTLS()
}

// startTLS discards plaintext sent after STLS: it may have been injected.
func (s *session) startTLS() error {
	s.meter.off.Store(true)
	if err := s.flush(); err != nil {
		return err
	}
	// Both sides of TLS may write at the same time, for instance an alert. Over net.Pipe, which has no buffer, they
	// would deadlock.
	s.raw = newReadAhead(s.raw, 0)
	conn := tls.Server(s.raw, s.srv.tls.config(s.srv.TLS))
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return err
	}
	s.conn = conn
	s.r.Reset(conn)
	return nil
}

func (s *session) secure() bool { return s.conn != s.raw }
