package connect

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
)

// tlsConfig returns the TLS configuration of the account.
func (c *Connector) tlsConfig() (*tls.Config, error) {
	a := c.Account
	t := &tls.Config{}
	if c.TLS != nil {
		t = c.TLS.Clone()
	}
	t.MinVersion = tls.VersionTLS12
	if strings.HasSuffix(a.Auth, "-plus") {
		t.MaxVersion = tls.VersionTLS12 // for tls-unique, the channel binding that servers implement
	}
	if a.CAFile != "" {
		pem, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, setupError("CA file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, setupError("CA file: no certificate in %s", a.CAFile)
		}
	}
	if a.ClientCert != "" {
		key := a.ClientKey
		if key == "" {
			key = a.ClientCert
		}
		cert, err := tls.LoadX509KeyPair(a.ClientCert, key)
		if err != nil {
			return nil, setupError("client certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	if len(a.Pins) > 0 {
		t.InsecureSkipVerify = a.CAFile == "" // a pin alone takes the place of an authority
		t.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || !Pinned(a.Pins, state.PeerCertificates[0]) {
				return &PinError{state.PeerCertificates}
			}
			return nil
		}
	}
	return t, nil
}

// CheckFiles reports errors in the TLS files of the account.
func CheckFiles(a *config.Account) error {
	_, err := (&Connector{Account: a}).tlsConfig()
	return err
}

// A PinError reports a certificate that has none of the pinned fingerprints.
type PinError struct{ Certificates []*x509.Certificate }

func (e *PinError) Error() string {
	return "the certificate has another fingerprint than the pinned one"
}

// Is makes a Fetcher give up.
func (e *PinError) Is(target error) bool { return (&SetupError{}).Is(target) }

// Pinned reports whether a certificate has one of the fingerprints.
func Pinned(pins []config.Pin, cert *x509.Certificate) bool {
	for _, p := range pins {
		if p == Fingerprint(cert) || p.SPKI && p.Sum == sha256.Sum256(cert.RawSubjectPublicKeyInfo) {
			return true
		}
	}
	return false
}

// Fingerprint returns the pin of a certificate.
func Fingerprint(cert *x509.Certificate) config.Pin { return config.Pin{Sum: sha256.Sum256(cert.Raw)} }

// Untrusted returns the certificate that made a handshake fail.
func Untrusted(err error) (*x509.Certificate, bool) {
	var pin *PinError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &pin) && len(pin.Certificates) > 0:
		return pin.Certificates[0], true
	case errors.As(err, &verification) && len(verification.UnverifiedCertificates) > 0:
		return verification.UnverifiedCertificates[0], true
	}
	return nil, false
}

// VersionName returns the version and the cipher suite of a connection.
func VersionName(state tls.ConnectionState) string {
	return fmt.Sprintf("%s, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
}
