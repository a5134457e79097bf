package interop

import (
	"context"
	"log"
	"net/smtp"
	"os"

	"github.com/emersion/go-sasl"
	"github.com/seed-5b1d5243/pop3"
	"github.com/xdg-go/scram"
)

// scramSASL adapts the conversations of xdg-go/scram to pop3.SASL.
type scramSASL struct {
	mechanism string
	*scram.ClientConversation
}

func (s scramSASL) Start() (string, []byte, error) {
	first, err := s.Step("")
	return s.mechanism, []byte(first), err
}

// Next returns an empty response to the server's last message, its signature, after verifying it.
func (s scramSASL) Next(challenge []byte) ([]byte, error) {
	response, err := s.Step(string(challenge))
	return []byte(response), err
}

// cramMD5 adapts net/smtp's CRAM-MD5 to pop3.SASL.
type cramMD5 struct{ smtp.Auth }

func (c cramMD5) Start() (string, []byte, error) { return c.Auth.Start(nil) }

func (c cramMD5) Next(challenge []byte) ([]byte, error) { return c.Auth.Next(challenge, true) }

var (
	_ pop3.SASL = sasl.Client(nil) // the mechanisms of emersion/go-sasl need no adapter
	_ pop3.SASL = scramSASL{}
	_ pop3.SASL = cramMD5{}
)

// Use mechanisms of other modules. The mechanisms of github.com/emersion/go-sasl implement pop3.SASL. The conversations
// of github.com/xdg-go/scram and net/smtp's CRAM-MD5 need an adapter of a few lines.
func Example_mechanisms() {
	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, "pop.example.org", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	user, password := "user", os.Getenv("PASSWORD")
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		log.Fatal(err)
	}
	caps, err := c.Capabilities(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var mechanism pop3.SASL = sasl.NewPlainClient("", user, password)
	for _, name := range caps["SASL"] {
		if name == "SCRAM-SHA-256" {
			mechanism = scramSASL{name, client.NewConversation()}
		}
	}
	if err := c.Auth(ctx, mechanism); err != nil {
		log.Fatal(err)
	}
}
