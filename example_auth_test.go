package pop3_test

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// Log in with the best method that the server supports, and with a time limit for each wait and for the whole login.
func ExampleClient_Login() {
	srv := pop3test.NewTLSServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig(), Timeout: 20 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	err = c.Login(ctx, "user", "a mistake")
	var refused *pop3.ServerError
	if errors.As(err, &refused) {
		fmt.Println(refused.Code, refused.Text)
		err = c.Login(ctx, "user", "secret") // the session remains usable
	}
	fmt.Println(err)

	// Output:
	// AUTH wrong user name or password
	// <nil>
}

// Connect without TLS and upgrade the connection, or fail.
func ExampleDialStartTLS() {
	srv := pop3test.NewServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pop3.DialStartTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, encrypted := c.TLSConnectionState()
	fmt.Println("encrypted:", encrypted)
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}
	count, size, err := c.Stat(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(count, "message,", size, "octets")

	// Output:
	// encrypted: true
	// 1 message, 32 octets
}

// Use an established connection, here an in-memory pipe.
func ExampleNewClient() {
	srv := pop3test.NewUnstartedServer(pop3test.Messages("Subject: hello\r\n\r\n"))
	srv.STLS = false
	defer srv.Close()

	ctx := context.Background()
	c, err := pop3.NewClient(ctx, srv.Pipe(), &pop3.Options{AllowInsecureLogin: true})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Greeting())
	fmt.Println(c.Login(ctx, "user", "secret"))

	// Output:
	// pop3test ready
	// <nil>
}

// Log in with an OAuth 2.0 bearer token.
func ExampleXOAUTH2() {
	srv := pop3test.NewUnstartedServer(nil)
	srv.SASL = []string{"XOAUTH2"}
	srv.Password = "ya29.a-token"
	srv.StartTLS()
	defer srv.Close()

	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	err = c.Auth(ctx, pop3.XOAUTH2("user", "one that has expired"))
	var refused *pop3.ServerError
	if errors.As(err, &refused) && !refused.Temporary() {
		// Not every server sends pop3.CodeAuth: Microsoft's sends no response code.
		fmt.Println(refused.Detail)
		err = c.Auth(ctx, pop3.XOAUTH2("user", "ya29.a-token")) // a refreshed one
	}
	fmt.Println(err)

	// Output:
	// {"status":"invalid_token","schemes":"bearer","scope":"mail"}
	// <nil>
}

// cramMD5 is a SASL mechanism (RFC 2195). The mechanisms of github.com/emersion/go-sasl implement pop3.SASL too.
type cramMD5 struct{ user, secret string }

func (c cramMD5) Start() (mechanism string, initial []byte, err error) { return "CRAM-MD5", nil, nil }

func (c cramMD5) Next(challenge []byte) (response []byte, err error) {
	mac := hmac.New(md5.New, []byte(c.secret))
	mac.Write(challenge)
	return fmt.Appendf(nil, "%s %x", c.user, mac.Sum(nil)), nil
}

// Authenticate with a custom mechanism. The type cramMD5 has the methods
//
//	func (c cramMD5) Start() (mechanism string, initial []byte, err error) {
//		return "CRAM-MD5", nil, nil
//	}
//
//	func (c cramMD5) Next(challenge []byte) (response []byte, err error) {
//		mac := hmac.New(md5.New, []byte(c.secret))
//		mac.Write(challenge)
//		return fmt.Appendf(nil, "%s %x", c.user, mac.Sum(nil)), nil
//	}
func ExampleClient_Auth() {
	srv := pop3test.NewUnstartedServer(nil)
	srv.SASL = []string{"CRAM-MD5"}
	srv.StartTLS()
	defer srv.Close()

	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	caps, err := c.Capabilities(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(caps["SASL"])
	fmt.Println(c.Auth(ctx, cramMD5{"user", "secret"}))

	// Output:
	// [CRAM-MD5]
	// <nil>
}

// Decide how to proceed after a failed login.
func ExampleServerError() {
	srv := pop3test.NewUnstartedServer(nil)
	srv.Exclusive = true
	srv.StartTLS()
	defer srv.Close()

	ctx := context.Background()
	first := login(ctx, srv)
	defer first.Close()

	second, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	err = second.Login(ctx, "user", "secret")
	var refused *pop3.ServerError
	switch {
	case err == nil:
		fmt.Println("logged in")
	case errors.Is(err, pop3.ErrInsecureLogin):
		fmt.Println("nothing was sent: this server has no TLS")
	case errors.As(err, &refused) && refused.Temporary():
		fmt.Println("try again later:", refused.Code)
	case errors.As(err, &refused):
		fmt.Println("ask for another password:", refused.Text)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		fmt.Println("connect again:", err)
	default:
		log.Fatal(err)
	}

	// Output:
	// try again later: IN-USE
}
