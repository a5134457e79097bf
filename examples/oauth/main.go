// Command oauth lists the subjects of a mailbox whose provider wants OAuth 2.0 instead of a password.
//
//	OAUTH_CLIENT_ID=… OAUTH_CLIENT_SECRET=… OAUTH_TOKEN_URL=https://provider.example/token \
//	POP3_USER=joe@example.org go run ./oauth pop.example.org token.json
//
// The file contains the token as JSON, with at least a refresh_token; the provider's documentation says how to get the
// first one. Access tokens are renewed when they expire, and once more if the server refuses one before that. A new
// token replaces the file, because some providers let a refresh token be used only once.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/mail"
	"os"
	"os/signal"

	"github.com/seed-5b1d5243/pop3"
	"golang.org/x/oauth2"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: oauth HOST TOKEN-FILE")
	}
	config := &oauth2.Config{
		ClientID:     os.Getenv("OAUTH_CLIENT_ID"),
		ClientSecret: os.Getenv("OAUTH_CLIENT_SECRET"),
		Endpoint:     oauth2.Endpoint{TokenURL: os.Getenv("OAUTH_TOKEN_URL")},
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], nil, os.Getenv("POP3_USER"), config, os.Args[2], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string, opts *pop3.Options, user string, config *oauth2.Config, file string, out io.Writer) error {
	c, err := login(ctx, addr, opts, user, config, file)
	if err != nil {
		return err
	}
	defer c.Close()
	count, _, err := c.Stat(ctx)
	if err != nil {
		return err
	}
	for n := 1; n <= count; n++ {
		m, err := c.Top(ctx, n, 0)
		if err != nil {
			return err
		}
		header, err := mail.ReadMessage(m)
		if err := errors.Join(err, m.Close()); err != nil {
			return err
		}
		fmt.Fprintln(out, header.Header.Get("Subject"))
	}
	return c.Quit(ctx)
}

// login opens a session with the saved token, or with a new one if the server refuses that.
func login(ctx context.Context, addr string, opts *pop3.Options, user string, config *oauth2.Config, file string) (*pop3.Client, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	token := new(oauth2.Token)
	if err := json.Unmarshal(data, token); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for renewed := false; ; renewed = true {
		if token, err = config.TokenSource(ctx, token).Token(); err != nil { // asks the provider if token has expired
			return nil, err
		}
		if err := save(file, token); err != nil {
			return nil, err
		}
		c, err := pop3.DialTLS(ctx, addr, opts)
		if err != nil {
			return nil, err
		}
		if err = c.Auth(ctx, pop3.XOAUTH2(user, token.AccessToken)); err == nil {
			return c, nil
		}
		c.Close()
		var refused *pop3.ServerError
		if renewed || !errors.As(err, &refused) || refused.Temporary() {
			return nil, err
		}
		token = &oauth2.Token{RefreshToken: token.RefreshToken} // without an access token it counts as expired
	}
}

// save replaces the file at once, so that a crash does not lose the only refresh token.
func save(file string, token *oauth2.Token) error {
	data, err := json.Marshal(token)
	if err != nil {
		return err
	}
	temp := file + ".tmp"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, file)
}
