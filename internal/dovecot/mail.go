package dovecot

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Maildir is the folder cur of a user's Maildir, a message a file. Other formats have none.
func (s *Server) Maildir(user string) string {
	return filepath.Join(s.dir, "mail", user, "Maildir", "cur")
}

// Deliver adds messages to a user's mailbox in the order given. Lines may end at LF or CRLF; they
// come back with CRLF. Nobody may be logged in as that user meanwhile.
func (s *Server) Deliver(user string, messages ...string) {
	s.t.Helper()
	s.DeliverFunc(user, len(messages), func(w io.Writer, i int) error {
		_, err := io.WriteString(w, messages[i])
		return err
	})
}

// DeliverFunc adds count messages, each written by a call of message with its index from 0.
func (s *Server) DeliverFunc(user string, count int, message func(w io.Writer, i int) error) {
	s.t.Helper()
	var err error
	switch s.format {
	case "maildir":
		err = s.toMaildir(user, count, message)
	case "mbox":
		err = s.toMbox(user, count, message)
	default:
		err = s.importMbox(user, count, message)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) toMaildir(user string, count int, message func(io.Writer, int) error) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		s.mkdir(filepath.Join("mail", user, "Maildir", sub))
	}
	have, err := os.ReadDir(s.Maildir(user))
	if err != nil {
		return err
	}
	for i := range count {
		// Dovecot numbers new files in the order of the time in their names.
		name := fmt.Sprintf("%d.M1P1.test:2,", 1_500_000_000+len(have)+i)
		if err := writeFile(filepath.Join(s.Maildir(user), name), 0, message, i); err != nil {
			return err
		}
	}
	s.own(filepath.Join("mail", user))
	return nil
}

func (s *Server) toMbox(user string, count int, message func(io.Writer, int) error) error {
	s.mkdir(filepath.Join("mail", user))
	name := filepath.Join(s.dir, "mail", user, "inbox")
	for i := range count {
		if err := writeFile(name, os.O_APPEND, asMbox(message), i); err != nil {
			return err
		}
	}
	s.own(filepath.Join("mail", user))
	return nil
}

// importMbox has Dovecot itself read the messages: nobody else writes its own formats.
func (s *Server) importMbox(user string, count int, message func(io.Writer, int) error) error {
	source := filepath.Join("import", user)
	s.mkdir(source)
	name := filepath.Join(s.dir, source, "inbox")
	for i := range count {
		if err := writeFile(name, os.O_APPEND, asMbox(message), i); err != nil {
			return err
		}
	}
	s.own("import")
	doveadm, err := exec.LookPath("doveadm")
	if err != nil {
		doveadm = "/usr/bin/doveadm"
	}
	cmd := exec.Command(doveadm, "-c", filepath.Join(s.dir, "dovecot.conf"), "import", "-u", user,
		"mbox:"+filepath.Join(s.dir, source)+":INBOX="+name, "", "ALL")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("doveadm import: %v\n%s", err, out)
	}
	return os.RemoveAll(filepath.Join(s.dir, source))
}

// writeFile has message i written to a file.
func writeFile(name string, flag int, message func(io.Writer, int) error, i int) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return err
	}
	if err := message(f, i); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// asMbox puts a message between a From_ line and an empty one. Lines of it that look like
// From_ lines would break it in two; Dovecot takes only those with a date for one.
func asMbox(message func(io.Writer, int) error) func(io.Writer, int) error {
	return func(w io.Writer, i int) error {
		var b bytes.Buffer
		b.WriteString("From sender@example.org Mon Jan  1 00:00:00 2024\n")
		if err := message(&b, i); err != nil {
			return err
		}
		text := strings.ReplaceAll(b.String(), "\r\n", "\n")
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		_, err := io.WriteString(w, text+"\n")
		return err
	}
}
