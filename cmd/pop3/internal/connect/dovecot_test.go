package connect

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/internal/dovecot"
)

// Every way to log in works with a real Dovecot, if one is installed.
func TestDovecot(t *testing.T) {
	srv := dovecot.Start(t, dovecot.Options{External: true})
	srv.Deliver("u1", "Subject: x\n\nx\n")
	dir := t.TempDir()
	client := srv.ClientCertificate("u1")
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", client.Certificate[0])
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, keyFile, "PRIVATE KEY", key)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(srv.Token("u1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, auth := range []string{"auto", "user", "apop", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer", "auto with a token", "external"} {
		for _, implicit := range []bool{false, true} {
			name := auth + ", STLS"
			addr := srv.Addr
			if implicit {
				name, addr = auth+", TLS", srv.TLSAddr
			}
			t.Run(name, func(t *testing.T) {
				a := accountOf(t, addr, implicit)
				a.User, a.Auth = "u1", auth
				c := connector(a)
				c.Password, c.TLS = srv.Password("u1"), srv.TLSConfig()
				switch auth {
				case "apop":
					if !implicit {
						t.Skip("the challenge of the greeting is forgotten after STLS")
					}
				case "auto with a token":
					a.Auth = "auto"
					fallthrough
				case "xoauth2", "oauthbearer":
					a.Secret.TokenCommand = config.Command{"cat", token}
				case "external":
					a.ClientCert, a.ClientKey = certFile, keyFile
				}
				if err := dial(t, c); err != nil {
					t.Error(err)
				}
				if auth == "external" || a.Secret.IsToken() {
					return
				}
				again := connector(a) // which has not kept the password
				again.Password, again.TLS = "wrong", srv.TLSConfig()
				if err := dial(t, again); !refused(err) {
					t.Errorf("a wrong password: %v", err)
				}
			})
		}
	}
}
