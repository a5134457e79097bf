// Command forward moves a mailbox to an SMTP or LMTP server of this machine or network.
//
//	POP3_USER=joe POP3_PASSWORD=secret go run ./forward pop.example.org localhost:25 joe@example.com
//	POP3_USER=joe POP3_PASSWORD=secret go run ./forward -lmtp pop.example.org localhost:24 joe
//
// A message is deleted only after the SMTP server has accepted it. One that it refuses stays in the mailbox and does not
// keep back the others. If the POP3 connection is lost, no deletion takes effect and the next run forwards the messages
// again: at least once, but not exactly once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/seed-5b1d5243/pop3"
)

func main() {
	log.SetFlags(0)
	lmtp := flag.Bool("lmtp", false, "speak LMTP instead of SMTP")
	flag.Parse()
	if flag.NArg() != 3 {
		log.Fatal("usage: forward [-lmtp] HOST SMTP-HOST:PORT RECIPIENT")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, flag.Arg(0), nil, os.Getenv("POP3_USER"), os.Getenv("POP3_PASSWORD"), flag.Arg(1), *lmtp, flag.Arg(2))
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string, opts *pop3.Options, user, password, target string, lmtp bool, to string) error {
	c, err := pop3.DialTLS(ctx, addr, opts)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, user, password); err != nil {
		return err
	}
	conn, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	out := smtp.NewClient(conn)
	if lmtp {
		out = smtp.NewClientLMTP(conn)
	}
	defer out.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err = forward(ctx, c, out, to)
	return errors.Join(err, c.Quit(ctx)) // also after an error, so that accepted messages are deleted
}

// forward returns the refusals, or the error that ended it.
func forward(ctx context.Context, c *pop3.Client, out *smtp.Client, to string) error {
	listing, err := c.List(ctx)
	if err != nil {
		return err
	}
	var refusals []error
	for e, err := range listing.All() {
		if err != nil {
			return errors.Join(append(refusals, err)...)
		}
		var missing *pop3.ServerError
		var refused *smtp.SMTPError
		switch err := deliver(ctx, c, e.Number, out, to); {
		case err == nil:
			if err := c.Dele(ctx, e.Number); err != nil {
				return errors.Join(append(refusals, err)...)
			}
		case errors.As(err, &missing), errors.As(err, &refused) && refused.Code != 421: // 421: the server closes
			refusals = append(refusals, fmt.Errorf("message %d stays: %w", e.Number, err))
			if err := out.Reset(); err != nil {
				return errors.Join(append(refusals, err)...)
			}
		default:
			return errors.Join(append(refusals, err)...)
		}
	}
	return errors.Join(append(refusals, out.Quit())...)
}

// deliver returns nil only if the SMTP server has accepted the complete message.
func deliver(ctx context.Context, c *pop3.Client, number int, out *smtp.Client, to string) error {
	m, err := c.Retr(ctx, number)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := out.Mail("", nil); err != nil { // no sender, so that nothing bounces to the mailing lists of the world
		return err
	}
	if err := out.Rcpt(to, nil); err != nil {
		return err
	}
	w, err := out.Data()
	if err != nil {
		return err
	}
	if _, err := m.WriteTo(w); err != nil {
		out.Close() // w.Close would send the final dot, and half a message would count as complete
		return err
	}
	return w.Close()
}
