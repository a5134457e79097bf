package servers

import (
	"bytes"
	"fmt"
	"net"
	"net/textproto"
	"path/filepath"

	"github.com/seed-5b1d5243/pop3/internal/mailstore"
)

var recipes = map[string]recipe{
	"courier":     {"/usr/lib/courier/courier/courierpop3d", toMaildir(mailGID)},
	"cyrus":       {"/usr/sbin/cyrmaster", toLMTP},
	"mailutils":   {"/usr/sbin/pop3d", toMbox(inHome)},
	"popa3d":      {"/usr/sbin/popa3d", toMbox(func(dir, user string) string { return filepath.Join(dir, "spool", user) })},
	"solid-pop3d": {"/usr/sbin/solid-pop3d", toMbox(inHome)},
	"twisted":     {"/usr/lib/python3/dist-packages/twisted/mail/pop3.py", toMaildir(0)},
}

// deliverer delivers count messages to a user of the server in dir.
type deliverer func(dir, user string, count int, message mailstore.Message) error

func inHome(dir, user string) string { return filepath.Join(dir, "mail", user, "mbox") }

func toMaildir(uid int) deliverer {
	return func(dir, user string, count int, message mailstore.Message) error {
		home := filepath.Join(dir, "mail", user)
		if err := mailstore.Maildir(filepath.Join(home, "Maildir"), 0, count, message); err != nil {
			return err
		}
		return mailstore.Own(home, uid, mailGID)
	}
}

func toMbox(name func(dir, user string) string) deliverer {
	return func(dir, user string, count int, message mailstore.Message) error {
		mbox := name(dir, user)
		if err := mailstore.Mbox(mbox, count, message); err != nil {
			return err
		}
		return mailstore.Own(mbox, userUID(user), mailGID)
	}
}

// toLMTP is the delivery for Cyrus, which also creates the mailbox.
func toLMTP(dir, user string, count int, message mailstore.Message) error {
	conn, err := net.Dial("unix", filepath.Join(dir, "run/socket/lmtp"))
	if err != nil {
		return err
	}
	c := textproto.NewConn(conn)
	defer c.Close()
	say := func(want int, format string, args ...any) {
		if err == nil && format != "" {
			err = c.PrintfLine(format, args...)
		}
		if err == nil {
			_, _, err = c.ReadResponse(want)
		}
	}
	say(220, "")
	say(250, "LHLO localhost")
	for i := range count {
		var text bytes.Buffer
		if err := message(&text, i); err != nil {
			return err
		}
		say(250, "MAIL FROM:<sender@example.org>")
		say(250, "RCPT TO:<%s>", user)
		say(354, "DATA")
		if err != nil {
			return err
		}
		w := c.DotWriter()
		w.Write(text.Bytes())
		err = w.Close()
		say(250, "") // one response per recipient
	}
	say(221, "QUIT")
	if err != nil {
		return fmt.Errorf("LMTP: %w", err)
	}
	return nil
}
