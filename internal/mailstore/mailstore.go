// Package mailstore writes mailboxes for the servers that tests start.
package mailstore

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Message writes the message with index i, counted from 0.
type Message func(w io.Writer, i int) error

// Texts is the Message function of messages in memory.
func Texts(messages []string) Message {
	return func(w io.Writer, i int) error {
		_, err := io.WriteString(w, messages[i])
		return err
	}
}

// Maildir adds count messages to the Maildir dir, creating it if it does not exist. The files are numbered from first
// on, since servers number messages in the order of the time in the names.
func Maildir(dir string, first, count int, message Message) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	for i := range count {
		name := filepath.Join(dir, "cur", fmt.Sprintf("%d.M1P1.test:2,", 1_500_000_000+first+i))
		err := toFile(name, os.O_EXCL, func(w io.Writer) error { return message(w, i) })
		if err != nil {
			return err
		}
	}
	return nil
}

// Mbox appends count messages to the mbox file name. Lines end with LF there. A line "From " after an empty one, which
// would begin another message, is prefixed with ">".
func Mbox(name string, count int, message Message) error {
	return toFile(name, os.O_APPEND, func(w io.Writer) error {
		var b bytes.Buffer
		for i := range count {
			b.Reset()
			if err := message(&b, i); err != nil {
				return err
			}
			text := bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n"))
			text = bytes.ReplaceAll(text, []byte("\n\nFrom "), []byte("\n\n>From "))
			if !bytes.HasSuffix(text, []byte("\n")) {
				text = append(text, '\n')
			}
			if _, err := fmt.Fprintf(w, "From sender@example.org Mon Jan  1 00:00:00 2024\n%s\n", text); err != nil {
				return err
			}
		}
		return nil
	})
}

func toFile(name string, flag int, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Own changes the owner and the group of a tree.
func Own(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}
