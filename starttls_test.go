package pop3

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

const listSTLS = `
	C: CAPA
	S: +OK
	S: STLS
	S: .
	C: STLS
`

func TestStartTLS(t *testing.T) {
	c := script(t, Options{}, "S: +OK "+rfcChallenge+listSTLS+`
		S: +OK
		!tls
		C: CAPA
		S: +OK
		S: USER
		S: .
		C: NOOP
		S: +OK`)
	if _, ok := c.TLSConnectionState(); ok {
		t.Error("TLS before STLS")
	}
	must(t, c.StartTLS(background, nil))
	if state, ok := c.TLSConnectionState(); !ok || !state.HandshakeComplete || state.Version < tls.VersionTLS12 {
		t.Errorf("TLS state %+v, %v", state, ok)
	}
	if c.Challenge() != "" {
		t.Errorf("a challenge from before TLS: %q", c.Challenge())
	}
	caps, err := c.Capabilities(background)
	if err != nil || !caps.Has("USER") || caps.Has("STLS") {
		t.Errorf("capabilities from before TLS: %v, %v", caps, err)
	}
	if err := c.StartTLS(background, nil); err == nil || errors.Is(err, ErrTLSNotSupported) {
		t.Errorf("STLS under TLS: %v", err)
	}
	must(t, c.Noop(background))
}

// TestInjection has data arrive between the response to STLS and the handshake, where an on-path attacker could inject
// it.
func TestInjection(t *testing.T) {
	for name, injected := range map[string]string{
		"in one write":  `S: +OK\r\n+OK you are logged in`,
		"one byte":      `S- +OK\r\nx`,
		"in another":    "S: +OK\n!wait 0s\nS: +OK you are logged in",
		"a line feed":   `S- +OK\r\n\n`,
		"the next line": `S- +OK\r\n\r\n`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // otherwise the second write may arrive too late to be detected
				c := script(t, Options{}, "S: +OK"+listSTLS+injected+"\n!expect-close")
				err := c.StartTLS(background, nil)
				if protocol := wantProtocolError(t, err); protocol.Command != "STLS" {
					t.Errorf("error %v, want one of STLS", err)
				}
				if _, ok := c.TLSConnectionState(); ok {
					t.Error("it is taken for secure")
				}
				wantError(t, c.Noop(background), ErrClosed)
			})
		})
	}
}

func TestStartTLSRefused(t *testing.T) {
	t.Run("not listed", func(t *testing.T) {
		c := script(t, Options{}, `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: .
			C: NOOP
			S: +OK`)
		wantError(t, c.StartTLS(background, nil), ErrTLSNotSupported)
		must(t, c.Noop(background))
	})
	t.Run("no CAPA", func(t *testing.T) {
		c := script(t, Options{}, `
			S: +OK
			C: CAPA
			S: -ERR`)
		wantError(t, c.StartTLS(background, nil), ErrTLSNotSupported)
	})
	t.Run("-ERR", func(t *testing.T) {
		c := script(t, Options{}, "S: +OK"+listSTLS+`
			S: -ERR not now
			C: NOOP
			S: +OK`)
		refusedWith("STLS", "not now")(t, c.StartTLS(background, nil))
		must(t, c.Noop(background))
	})
	t.Run("no name for the certificate", func(t *testing.T) {
		c := script(t, Options{TLSConfig: &tls.Config{}}, `
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: NOOP
			S: +OK`)
		if err := c.StartTLS(background, nil); err == nil {
			t.Error("no error")
		}
		must(t, c.Noop(background))
	})
}

// TestHandshakeCut checks that a connection closed within the handshake is an unexpected EOF.
func TestHandshakeCut(t *testing.T) {
	for name, answer := range map[string]string{"at once": "", "within a record": "\x16\x03\x03\x00"} {
		client, server := tcpPair(t)
		go func() {
			server.Read(make([]byte, 4096)) // the client's first message
			io.WriteString(server, answer)
			server.(*net.TCPConn).CloseWrite()
		}()
		_, err := DialTLS(background, "localhost", &Options{Dialer: &dialer{conn: client}})
		if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "TLS handshake") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestCertificate has servers whose certificate is not trusted. Nothing more is sent, and the session is closed. The
// error is not that of a lost connection, as a retry would not help.
func TestCertificate(t *testing.T) {
	srv, secure := pop3test.NewServer(nil), pop3test.NewTLSServer(nil)
	defer srv.Close()
	defer secure.Close()
	untrusted := func(what string, err error) {
		t.Helper()
		var wrong *tls.CertificateVerificationError
		if !errors.As(err, &wrong) || errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "TLS handshake") {
			t.Errorf("%s: error %v", what, err)
		}
	}
	other := pop3test.TLSConfig()
	other.ServerName = "example.org"
	for name, config := range map[string]*tls.Config{"unknown authority": nil, "another name": other} {
		opts := &Options{TLSConfig: config}
		_, err := DialTLS(background, secure.Addr, opts)
		untrusted("DialTLS, "+name, err)
		_, err = DialStartTLS(background, srv.Addr, opts)
		untrusted("DialStartTLS, "+name, err)
		c, err := Dial(background, srv.Addr, opts)
		must(t, err)
		untrusted("Login, "+name, c.Login(background, "user", "secret"))
		wantError(t, c.Noop(background), ErrClosed)
	}
	for _, command := range srv.Commands() {
		if command != "CAPA" && command != "STLS" {
			t.Errorf("the client sent %q", command)
		}
	}
}

// TestForgedCertificate has names in a certificate that control a terminal and forge log lines.
func TestForgedCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"\x1b[2J\nforged"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	client, server := tcpPair(t)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	go tls.Server(server, config).Handshake()
	// With RootCAs set, Go verifies the certificate itself; the verifiers of Windows and macOS report no names.
	trust := &tls.Config{RootCAs: x509.NewCertPool()}
	_, err = DialTLS(background, "localhost", &Options{Dialer: &dialer{conn: client}, TLSConfig: trust})
	if cert := new(tls.CertificateVerificationError); !errors.As(err, &cert) || !strings.Contains(err.Error(), `\x1b[2J\nforged`) {
		t.Errorf("error %q", err)
	}
}
