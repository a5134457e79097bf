package connect

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

// serveSCRAM serves one session over TLS that logs in by a mechanism. The proof that the server knows the password can
// be "good", "forged", or "omitted".
func serveSCRAM(t *testing.T, name, proof string) string {
	hash := scram.SHA1
	if strings.Contains(name, "SHA-256") {
		hash = scram.SHA256
	}
	client, err := hash.NewClient("user", "secret", "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	server, err := hash.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		t.Fatal(err)
	}
	cert, _, _ := certificate(t, "localhost")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}})
		defer conn.Close()
		if conn.Handshake() != nil {
			return
		}
		conversation := server.NewConversation()
		if strings.HasSuffix(name, "-PLUS") {
			conversation = server.NewConversationWithChannelBindingRequired(scram.NewTLSUniqueBinding(conn.ConnectionState().TLSUnique))
		}
		fmt.Fprint(conn, "+OK ready\r\n")
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			line := lines.Text()
			first, isAuth := strings.CutPrefix(line, "AUTH "+name+" ")
			switch {
			case line == "CAPA":
				fmt.Fprintf(conn, "+OK\r\nSASL %s\r\n.\r\n", name)
			case line == "STAT":
				fmt.Fprint(conn, "+OK 1 3\r\n")
			case line == "QUIT":
				fmt.Fprint(conn, "+OK\r\n")
				return
			case isAuth || !conversation.Done():
				text, _ := base64.StdEncoding.DecodeString(first)
				if !isAuth {
					text, _ = base64.StdEncoding.DecodeString(line)
				}
				reply, err := conversation.Step(string(text))
				if err != nil {
					fmt.Fprint(conn, "-ERR [AUTH] refused\r\n")
					return
				}
				if conversation.Done() && proof == "omitted" {
					fmt.Fprint(conn, "+OK logged in\r\n")
					continue
				}
				if conversation.Done() && proof == "forged" {
					reply = "v=" + base64.StdEncoding.EncodeToString([]byte("forged proof of the server"))
				}
				fmt.Fprintf(conn, "+ %s\r\n", base64.StdEncoding.EncodeToString([]byte(reply)))
			default: // the empty response to the proof
				fmt.Fprint(conn, "+OK logged in\r\n")
			}
		}
	}()
	return listener.Addr().String()
}

func TestSCRAM(t *testing.T) {
	for _, name := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"} {
		t.Run(name, func(t *testing.T) {
			login := func(password, proof string) error {
				a := accountOf(t, serveSCRAM(t, name, proof), true)
				a.Auth = strings.ToLower(name)
				return dial(t, &Connector{Account: a, Password: password, TLS: &tls.Config{InsecureSkipVerify: true}})
			}
			if err := login("secret", "good"); err != nil {
				t.Error(err)
			}
			if err := login("wrong", "good"); !refused(err) {
				t.Errorf("a wrong password: %v", err)
			}
			for _, proof := range []string{"forged", "omitted"} {
				if err := login("secret", proof); err == nil {
					t.Errorf("a server is trusted whose proof is %s", proof)
				}
			}
		})
	}
}
