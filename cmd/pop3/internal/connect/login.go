package connect

import (
	"context"
	"net"
	"net/smtp"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"github.com/seed-5b1d5243/pop3"
)

// login logs in as configured in the account. If renew is set, a token is replaced by a new one.
func (c *Connector) login(ctx context.Context, client *pop3.Client, renew bool) error {
	a := c.Account
	if a.Auth == "external" {
		return client.Auth(ctx, sasl.NewExternalClient(""))
	}
	secret, err := c.credential(ctx, renew)
	if err != nil {
		return err
	}
	auth := a.Auth
	if auth == "" || auth == "auto" {
		if auth, err = c.choose(ctx, client); err != nil {
			return err
		}
	}
	switch auth {
	case "auto":
		err = client.Login(ctx, a.User, secret)
	case "user":
		if err = client.User(ctx, a.User); err == nil {
			err = client.Pass(ctx, secret)
		}
	case "apop":
		err = client.APOP(ctx, a.User, secret)
	default:
		var mech pop3.SASL
		if mech, err = c.mechanism(client, auth, secret); err != nil {
			return &SetupError{err}
		}
		err = client.Auth(ctx, mech)
	}
	if refused(err) {
		c.forget()
	}
	return err
}

// choose returns the way to log in, "auto" for that of Client.Login.
func (c *Connector) choose(ctx context.Context, client *pop3.Client) (string, error) {
	caps, err := client.Capabilities(ctx)
	if err != nil {
		return "", err
	}
	list := caps["SASL"]
	if c.Account.Secret.IsToken() {
		if slices.Contains(list, "OAUTHBEARER") && !slices.Contains(list, "XOAUTH2") {
			return "oauthbearer", nil
		}
		return "xoauth2", nil
	}
	if client.Challenge() != "" {
		return "auto", nil
	}
	_, encrypted := client.TLSConnectionState()
	usable := []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"} // these keep the password secret
	if encrypted {
		if caps.Has("USER") || slices.Contains(list, "PLAIN") {
			return "auto", nil
		}
		usable = append(usable, "LOGIN")
	}
	for _, name := range usable {
		if slices.Contains(list, name) {
			return strings.ToLower(name), nil
		}
	}
	return "auto", nil
}

// mechanism returns a SASL mechanism by its name.
func (c *Connector) mechanism(client *pop3.Client, name, secret string) (pop3.SASL, error) {
	user := c.Account.User
	switch name {
	case "plain":
		return sasl.NewPlainClient("", user, secret), nil
	case "login":
		return sasl.NewLoginClient(user, secret), nil
	case "cram-md5":
		return cramMD5{smtp.CRAMMD5Auth(user, secret)}, nil
	case "xoauth2":
		return pop3.XOAUTH2(user, secret), nil
	case "oauthbearer":
		_, portText, _ := net.SplitHostPort(c.Account.Addr())
		port, _ := strconv.Atoi(portText)
		return sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: user, Token: secret, Host: c.Account.Host, Port: port}), nil
	}
	hash := scram.SHA1
	if strings.Contains(name, "sha-256") {
		hash = scram.SHA256
	}
	mech, err := hash.NewClient(user, secret, "")
	if err != nil {
		return nil, err
	}
	conversation := mech.NewConversation()
	if strings.HasSuffix(name, "-plus") {
		state, _ := client.TLSConnectionState()
		conversation = mech.NewConversationWithChannelBinding(scram.NewTLSUniqueBinding(state.TLSUnique))
	}
	return &scramSASL{strings.ToUpper(name), conversation}, nil
}

// cramMD5 is the CRAM-MD5 of net/smtp as a pop3.SASL.
type cramMD5 struct{ smtp.Auth }

func (c cramMD5) Start() (string, []byte, error)        { return c.Auth.Start(&smtp.ServerInfo{}) }
func (c cramMD5) Next(challenge []byte) ([]byte, error) { return c.Auth.Next(challenge, true) }

// scramSASL is a conversation as a pop3.SASL.
type scramSASL struct {
	name         string
	conversation *scram.ClientConversation
}

func (s *scramSASL) Start() (string, []byte, error) {
	first, err := s.conversation.Step("")
	return s.name, []byte(first), err
}

func (s *scramSASL) Next(challenge []byte) ([]byte, error) {
	response, err := s.conversation.Step(string(challenge))
	return []byte(response), err
}

// Done reports whether the server has proven that it knows the password.
func (s *scramSASL) Done() bool { return s.conversation.Valid() }
