package pop3test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"
)

// TLSConfig returns a client configuration that trusts the certificate of this package. The certificate is created once
// per process and is valid for localhost, 127.0.0.1 and ::1. Its ServerName is localhost, for connections without an
// address.
func TLSConfig() *tls.Config { return clientConfig(certificate()) }

func clientConfig(cert tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	if leaf, err := x509.ParseCertificate(cert.Certificate[0]); err == nil {
		pool.AddCert(leaf)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// A serverTLS keeps the server's side of TLS from one session to the next, so that a client can resume its TLS
// sessions: the keys of the session tickets belong to the configuration.
type serverTLS struct {
	mu    sync.Mutex
	given *tls.Config // the source of config
	made  *tls.Config
}

// config returns the configuration to use for the one given, which may be nil or lack a certificate.
func (s *serverTLS) config(given *tls.Config) *tls.Config {
	if given != nil && (len(given.Certificates) > 0 || given.GetCertificate != nil || given.GetConfigForClient != nil) {
		return given
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil || s.given != given {
		s.given, s.made = given, given.Clone()
		if given == nil {
			s.made = new(tls.Config)
		}
		s.made.Certificates = []tls.Certificate{certificate()}
	}
	return s.made
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("pop3test: making a key: " + err.Error())
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "pop3test"},
		// Within a testing/synctest bubble the year is 2000.
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic("pop3test: making a certificate: " + err.Error())
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})
