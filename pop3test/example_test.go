package pop3test_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/textproto"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func Example() {
	srv := pop3test.NewServer(pop3test.Messages(
		"Subject: one\r\n\r\nThis is the first.\r\n",
		"Subject: two\r\n\r\n.. - .-- ---\r\n",
	))
	defer srv.Close()

	conn, err := textproto.Dial("tcp", srv.Addr)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	conn.ReadLine() // greeting
	for _, command := range []string{"USER user", "PASS secret", "DELE 1", "RETR 2", "QUIT"} {
		conn.PrintfLine("%s", command)
		status, err := conn.ReadLine()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status)
		if command == "RETR 2" {
			lines, err := conn.ReadDotLines()
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(lines[2])
		}
	}
	fmt.Println(len(srv.Deleted()), "deleted,", len(srv.Remaining()), "left")

	// Output:
	// +OK send PASS
	// +OK logged in
	// +OK message deleted
	// +OK message follows
	// .. - .-- ---
	// +OK bye
	// 1 deleted, 1 left
}

func ExampleServer_Refuse() {
	srv := pop3test.NewUnstartedServer(nil)
	srv.Refuse = func(verb string, n int) string {
		if verb == "PASS" && n == 1 {
			return "[IN-USE] try again"
		}
		return ""
	}
	srv.Start()
	defer srv.Close()

	conn, err := textproto.Dial("tcp", srv.Addr)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	conn.ReadLine() // greeting
	for _, command := range []string{"USER user", "PASS secret", "USER user", "PASS secret"} {
		conn.PrintfLine("%s", command)
		status, err := conn.ReadLine()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status)
	}

	// Output:
	// +OK send PASS
	// -ERR [IN-USE] try again
	// +OK send PASS
	// +OK logged in
}

// A client that dials by itself talks to a Server without a port. The same works within a testing/synctest bubble.
func ExampleServer_DialContext() {
	srv := pop3test.NewUnstartedServer(pop3test.Messages("Subject: one\r\n"))
	defer srv.Close()

	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, "mail.example.org", &pop3.Options{Dialer: srv, TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}
	count, size, err := c.Stat(ctx)
	fmt.Println(count, size, err)

	// Output: 1 14 <nil>
}

// Test how a client handles a connection that is lost within a message.
func ExampleCutAt() {
	drop := pop3test.Messages("Subject: one\r\n\r\nThis is the first.\r\n")
	drop = pop3test.CutAt(drop, 1, 14)
	srv := pop3test.NewUnstartedServer(drop)
	defer srv.Close()

	ctx := context.Background()
	c, err := pop3.Dial(ctx, "mail.example.org", &pop3.Options{Dialer: srv, TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}
	m, err := c.Retr(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(m)
	fmt.Printf("%q, complete: %t, cut: %t\n", text, err == nil, errors.Is(err, io.ErrUnexpectedEOF))

	// Output: "Subject: one\r\n", complete: false, cut: true
}
