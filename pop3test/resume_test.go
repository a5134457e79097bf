package pop3test

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
)

// resumes performs the transcript twice, the second time with the tickets of the first, and expects the second TLS
// session to be resumed.
func resumes(t *testing.T, connect func() *client, transcript string) {
	t.Helper()
	cache := tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		c := connect()
		c.conf.ClientSessionCache = cache
		c.talk(transcript)
		if got := c.Conn.(*tls.Conn).ConnectionState().DidResume; got != (i == 1) {
			t.Errorf("session %d resumed: %t", i+1, got)
		}
		c.Conn.(*tls.Conn).NetConn().Close()
	}
}

func TestResume(t *testing.T) {
	const stls = "S: +OK pop3test ready\nC: STLS\nS: +OK begin TLS\n!tls\nC: CAPA\nS- +OK"
	for name, config := range map[string]*tls.Config{
		"default":        nil,
		"no certificate": {MinVersion: tls.VersionTLS13},
		"TLS 1.2":        {MaxVersion: tls.VersionTLS12},
		"complete":       {Certificates: []tls.Certificate{certificate()}},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewUnstartedServer(nil)
			s.TLS = config
			defer s.Close()
			t.Run("STLS, pipe", func(t *testing.T) { resumes(t, func() *client { return pipe(t, s) }, stls) })
			t.Run("TLS, pipe", func(t *testing.T) {
				resumes(t, func() *client { return newClient(t, s.PipeTLS()) }, "!tls\n"+login)
			})
			s.Start()
			t.Run("STLS, TCP", func(t *testing.T) { resumes(t, func() *client { return dial(t, s) }, stls) })
		})
	}
	t.Run("in a bubble", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := NewUnstartedServer(nil)
			defer s.Close()
			resumes(t, func() *client { return pipe(t, s) }, stls)
		})
	})
	t.Run("not at another server", func(t *testing.T) {
		cache := tls.NewLRUClientSessionCache(1)
		for range 2 {
			s := NewUnstartedServer(nil)
			defer s.Close()
			c := pipe(t, s)
			c.conf.ClientSessionCache = cache
			c.talk(stls)
			if c.Conn.(*tls.Conn).ConnectionState().DidResume {
				t.Error("resumed")
			}
		}
	})
}

// Each play of a script is a new connection to the same server.
func TestScriptResume(t *testing.T) {
	s, err := ParseScript("!tls\nS: +OK ready\nC: NOOP\nS: +OK")
	if err != nil {
		t.Fatal(err)
	}
	const transcript = "!tls\nS: +OK ready\nC: NOOP\nS: +OK"
	resumes(t, func() *client { return newClient(t, s.Play(t)) }, transcript)
	other := *s
	other.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	resumes(t, func() *client { return newClient(t, other.Play(t)) }, transcript)
}
