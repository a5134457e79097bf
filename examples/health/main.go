// Command health checks a POP3 server the way a user meets it: connection, certificate, login, and the newest message.
//
//	POP3_USER=joe POP3_PASSWORD=secret go run ./health pop.example.org
//
// It prints one line and exits with the status that Nagios and its relatives expect: 0 for OK, 1 for a warning, 2 for
// critical. Nothing is deleted, and no message is marked as read.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

const (
	timeout    = 30 * time.Second    // of the whole check
	expiryWarn = 14 * 24 * time.Hour // time before the certificate expires
)

type status int

const (
	ok status = iota
	warning
	critical
)

func (s status) String() string { return [...]string{"OK", "WARNING", "CRITICAL"}[s] }

func main() {
	if len(os.Args) != 2 {
		fmt.Println("usage: health HOST")
		os.Exit(3)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	s, text := check(ctx, os.Args[1], nil, os.Getenv("POP3_USER"), os.Getenv("POP3_PASSWORD"), time.Now())
	cancel()
	fmt.Printf("POP3 %v: %s\n", s, text)
	os.Exit(int(s))
}

func check(ctx context.Context, addr string, opts *pop3.Options, user, password string, now time.Time) (status, string) {
	start := time.Now()
	c, err := pop3.DialTLS(ctx, addr, opts)
	if err != nil {
		return critical, err.Error()
	}
	defer c.Close()
	connected := time.Since(start)

	if err := c.Login(ctx, user, password); err != nil {
		var refused *pop3.ServerError
		if errors.As(err, &refused) && refused.Temporary() { // such as another session that holds the mailbox
			return warning, err.Error()
		}
		return critical, err.Error()
	}
	count, size, err := c.Stat(ctx)
	if err != nil {
		return critical, err.Error()
	}
	if count > 0 {
		m, err := c.Top(ctx, count, 0)
		if err != nil {
			return critical, err.Error()
		}
		if err := m.Close(); err != nil { // reads it to the end
			return critical, err.Error()
		}
	}
	if err := c.Quit(ctx); err != nil {
		return critical, err.Error()
	}

	text := fmt.Sprintf("%d messages, %d octets; connected in %v, done in %v",
		count, size, connected.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	if tls, ok := c.TLSConnectionState(); ok {
		if left := tls.PeerCertificates[0].NotAfter.Sub(now); left < expiryWarn {
			return warning, fmt.Sprintf("certificate expires in %d days; %s", left/(24*time.Hour), text)
		}
	}
	return ok, text
}
