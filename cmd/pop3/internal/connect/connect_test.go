package connect

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// serve starts a server, over TLS from the first byte if implicit, and returns an account of it.
func serve(t *testing.T, implicit bool, set func(*pop3test.Server)) (*pop3test.Server, *config.Account) {
	t.Helper()
	srv := pop3test.NewUnstartedServer(pop3test.Messages("Subject: x\r\n\r\nx\r\n"))
	if set != nil {
		set(srv)
	}
	if implicit {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv, accountOf(t, srv.Addr, implicit)
}

func accountOf(t *testing.T, addr string, implicit bool) *config.Account {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return &config.Account{Name: "a", Mailbox: config.Mailbox{User: "user", Host: host, Port: port, TLS: implicit}}
}

// connector trusts the server's certificate and knows the password.
func connector(a *config.Account) *Connector {
	base := pop3test.TLSConfig()
	base.ServerName = ""
	return &Connector{Account: a, Password: "secret", TLS: base}
}

// dial logs in and counts the messages.
func dial(t *testing.T, c *Connector) error {
	t.Helper()
	client, err := c.Dial(t.Context())
	if err != nil {
		if client != nil {
			t.Error("a client and an error")
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is shown: %v", err)
		}
		return err
	}
	defer client.Close()
	if n, _, err := client.Stat(t.Context()); n != 1 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
	return client.Quit(t.Context())
}

func TestDial(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		_, a := serve(t, implicit, func(s *pop3test.Server) { s.LoginRequiresTLS = true; s.STLS = true })
		if err := dial(t, connector(a)); err != nil {
			t.Errorf("implicit TLS %v: %v", implicit, err)
		}
	}
}

// Without STLS only an account that permits it logs in, with a warning, once.
func TestInsecure(t *testing.T) {
	srv, a := serve(t, false, func(s *pop3test.Server) { s.STLS = false })
	err := dial(t, connector(a))
	if !errors.Is(err, pop3.ErrTLSNotSupported) || len(srv.Commands()) > 1 {
		t.Errorf("%v after %q", err, srv.Commands())
	}
	a.Insecure = true
	c := connector(a)
	var warnings []string
	c.Warn = func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	for range 2 {
		if err := dial(t, c); err != nil {
			t.Error(err)
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "STLS") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestMechanisms(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	for _, test := range []struct {
		auth  string
		sasl  []string
		token bool
		set   func(*pop3test.Server)
		want  string // the first command of the login
	}{
		{auth: "user", want: "USER user"},
		{auth: "plain", sasl: []string{"PLAIN"}, want: "AUTH PLAIN"},
		{auth: "login", sasl: []string{"LOGIN"}, want: "AUTH LOGIN"},
		{auth: "cram-md5", sasl: []string{"CRAM-MD5"}, want: "AUTH CRAM-MD5"},
		{auth: "apop", set: func(s *pop3test.Server) { s.APOP = true }, want: "APOP user"},
		{auth: "xoauth2", sasl: []string{"XOAUTH2"}, token: true, want: "AUTH XOAUTH2"},
		{auth: "oauthbearer", sasl: []string{"OAUTHBEARER"}, token: true, want: "AUTH OAUTHBEARER"},
		{auth: "", want: "USER user"},
		{auth: "auto", sasl: []string{"LOGIN", "CRAM-MD5"}, set: func(s *pop3test.Server) { s.NoUSER = true }, want: "AUTH CRAM-MD5"},
		{auth: "auto", sasl: []string{"LOGIN"}, set: func(s *pop3test.Server) { s.NoUSER = true }, want: "AUTH LOGIN"},
		{auth: "auto", sasl: []string{"PLAIN"}, set: func(s *pop3test.Server) { s.NoUSER = true }, want: "AUTH PLAIN"},
		{auth: "auto", sasl: []string{"CRAM-MD5"}, set: func(s *pop3test.Server) { s.APOP = true }, want: "APOP user"},
		{auth: "auto", sasl: []string{"PLAIN", "XOAUTH2", "OAUTHBEARER"}, token: true, want: "AUTH XOAUTH2"},
		{auth: "auto", sasl: []string{"OAUTHBEARER"}, token: true, want: "AUTH OAUTHBEARER"},
	} {
		t.Run(test.auth+" "+test.want, func(t *testing.T) {
			srv, a := serve(t, true, func(s *pop3test.Server) {
				s.SASL = test.sasl
				if test.set != nil {
					test.set(s)
				}
			})
			a.Auth = test.auth
			if test.token {
				a.Secret.TokenCommand = config.ShellCommand("echo secret")
			}
			if err := dial(t, connector(a)); err != nil {
				t.Fatal(err)
			}
			for _, line := range srv.Commands() {
				if line != "CAPA" {
					if !strings.HasPrefix(line, test.want) {
						t.Errorf("logged in by %q", line)
					}
					break
				}
			}
		})
	}
}

// If the connection is not encrypted, a mechanism that hides the password is better than USER.
func TestChooseHiding(t *testing.T) {
	srv, a := serve(t, false, func(s *pop3test.Server) { s.STLS, s.SASL = false, []string{"PLAIN", "CRAM-MD5"} })
	a.Insecure = true
	if err := dial(t, connector(a)); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(srv.Commands(), "\n"); !strings.Contains(all, "AUTH CRAM-MD5") || strings.Contains(all, "PASS") {
		t.Errorf("commands\n%s", all)
	}
}

func TestRefused(t *testing.T) {
	_, a := serve(t, true, nil)
	c := connector(a)
	c.Password = "wrong"
	if err := dial(t, c); !refused(err) {
		t.Errorf("error %v", err)
	}
}

// certificate returns a self-signed certificate, and writes it and its key to files.
func certificate(t *testing.T, hosts ...string) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: hosts, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certFile, keyFile
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificates(t *testing.T) {
	cert, certFile, _ := certificate(t, "localhost")
	srv, a := serve(t, true, func(s *pop3test.Server) { s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}} })
	a.Host = "localhost"
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	byCert := Fingerprint(leaf)
	byKey := config.Pin{SPKI: true, Sum: sha256.Sum256(leaf.RawSubjectPublicKeyInfo)}
	wrong := config.Pin{Sum: byKey.Sum} // fingerprint of the key instead of the certificate
	for _, test := range []struct {
		name string
		host string
		ca   string
		pins []config.Pin
		ok   bool
	}{
		{"unknown authority", "localhost", "", nil, false},
		{"CA file", "localhost", certFile, nil, true},
		{"CA file, wrong name", "127.0.0.1", certFile, nil, false},
		{"pin", "127.0.0.1", "", []config.Pin{byCert}, true},
		{"pinned key", "127.0.0.1", "", []config.Pin{wrong, byKey}, true},
		{"wrong pin", "localhost", "", []config.Pin{wrong}, false},
		{"CA file and pin", "localhost", certFile, []config.Pin{byCert}, true},
		{"CA file and wrong pin", "localhost", certFile, []config.Pin{wrong}, false},
		{"CA file and pin, wrong name", "127.0.0.1", certFile, []config.Pin{byCert}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.Host, a.CAFile, a.Pins = test.host, test.ca, test.pins
			before := len(srv.Commands())
			err := dial(t, &Connector{Account: a, Password: "secret"})
			if (err == nil) != test.ok {
				t.Fatalf("error %v", err)
			}
			if test.ok {
				return
			}
			if len(srv.Commands()) > before {
				t.Errorf("commands %q", srv.Commands())
			}
			if bad, ok := Untrusted(err); !ok || Fingerprint(bad) != byCert {
				t.Errorf("the certificate is not in the error %v", err)
			}
			if test.pins != nil && test.host == "localhost" && !errors.Is(err, fetch.ErrServer) {
				t.Errorf("a wrong pin would be tried again: %v", err)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	_, certFile, keyFile := certificate(t)
	_, a := serve(t, true, func(s *pop3test.Server) {
		s.SASL = []string{"EXTERNAL"}
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	})
	a.Auth = "external"
	if err := dial(t, connector(a)); !refused(err) {
		t.Errorf("without a certificate: %v", err)
	}
	a.ClientCert, a.ClientKey = certFile, keyFile
	if err := dial(t, connector(a)); err != nil {
		t.Error(err)
	}
}

func TestFilesOfAccount(t *testing.T) {
	_, certFile, keyFile := certificate(t)
	none := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		a    config.Account
		want string
	}{
		{config.Account{CAFile: certFile, ClientCert: certFile, ClientKey: keyFile}, ""},
		{config.Account{CAFile: none}, "CA file: open "},
		{config.Account{CAFile: keyFile}, "no certificate in"},
		{config.Account{ClientCert: certFile}, "client certificate: "},
		{config.Account{ClientCert: none}, "client certificate: open "},
	} {
		err := CheckFiles(&test.a)
		var setup *SetupError
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || !errors.As(err, &setup)) {
			t.Errorf("%+v: %v", test.a, err)
		}
	}
}

// A server that accepts and stays silent does not hold the connector.
func TestConnectTimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, implicit := range []bool{false, true} {
		a := accountOf(t, listener.Addr().String(), implicit)
		a.Timeout = 50 * time.Millisecond
		if err := dial(t, connector(a)); err == nil || !strings.Contains(err.Error(), "timed out") {
			t.Errorf("implicit TLS %v: %v", implicit, err)
		}
	}
}

// The transcript has no secret.
func TestDebug(t *testing.T) {
	_, a := serve(t, true, func(s *pop3test.Server) { s.SASL = []string{"PLAIN"} })
	a.Auth = "plain"
	c := connector(a)
	var transcript bytes.Buffer
	c.Debug = &transcript
	if err := dial(t, c); err != nil {
		t.Fatal(err)
	}
	if s := transcript.String(); !strings.Contains(s, "C: AUTH PLAIN") || strings.Contains(s, "secret") || strings.Contains(s, "AHVzZXIAc2VjcmV0") {
		t.Errorf("transcript\n%s", s)
	}
}

func TestCanceled(t *testing.T) {
	_, a := serve(t, true, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := connector(a).Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
