package dovecot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/seed-5b1d5243/pop3/internal/mailstore"
)

// Maildir returns the folder cur of a user's Maildir, which contains one file per message. Other formats have no such
// folder.
func (s *Server) Maildir(user string) string {
	return filepath.Join(s.dir, "mail", user, "Maildir", "cur")
}

// Deliver adds messages to a user's mailbox in the order given. Lines may end with LF or CRLF; they are served with
// CRLF. The user must not be logged in meanwhile.
func (s *Server) Deliver(user string, messages ...string) {
	s.t.Helper()
	s.DeliverFunc(user, len(messages), mailstore.Texts(messages))
}

// DeliverFunc adds count messages, each written by a call of message.
func (s *Server) DeliverFunc(user string, count int, message mailstore.Message) {
	s.t.Helper()
	s.mkdir(filepath.Join("mail", user))
	home := filepath.Join(s.dir, "mail", user)
	var err error
	switch s.format {
	case "maildir":
		err = mailstore.Maildir(filepath.Join(home, "Maildir"), s.delivered, count, message)
		s.delivered += count
	case "mbox":
		err = mailstore.Mbox(filepath.Join(home, "inbox"), count, message)
	default:
		err = s.importMbox(user, count, message)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.own(filepath.Join("mail", user))
}

// importMbox has Dovecot import the messages, since only Dovecot writes its own formats.
func (s *Server) importMbox(user string, count int, message mailstore.Message) error {
	s.mkdir("import")
	source := filepath.Join(s.dir, "import")
	if err := mailstore.Mbox(filepath.Join(source, "inbox"), count, message); err != nil {
		return err
	}
	s.own("import")
	doveadm, err := exec.LookPath("doveadm")
	if err != nil {
		doveadm = "/usr/bin/doveadm"
	}
	s.own(filepath.Join("mail", user))
	cmd := exec.Command(doveadm, "-c", filepath.Join(s.dir, "dovecot.conf"), "import", "-u", user,
		"mbox:"+source+":INBOX="+filepath.Join(source, "inbox"), "", "ALL")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("doveadm import: %v\n%s", err, out)
	}
	return os.RemoveAll(source)
}
