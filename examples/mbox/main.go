// Command mbox exports a mailbox to a new mbox file. It deletes nothing from the server.
//
//	POP3_USER=joe POP3_PASSWORD=secret go run ./mbox pop.example.org mail.mbox
//
// The file appears only if every message is in it. Lines that begin with From are quoted reversibly, as mboxrd does, and
// lines end with LF.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: mbox HOST FILE")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], nil, os.Getenv("POP3_USER"), os.Getenv("POP3_PASSWORD"), os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string, opts *pop3.Options, user, password, name string) error {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s: %w", name, fs.ErrExist), err)
	}
	c, err := pop3.DialTLS(ctx, addr, opts)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, user, password); err != nil {
		return err
	}

	temp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails after the rename
	defer temp.Close()
	w := bufio.NewWriterSize(temp, 1<<16)
	if err := export(ctx, c, w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), name); err != nil {
		return err
	}
	return c.Quit(ctx)
}

func export(ctx context.Context, c *pop3.Client, w *bufio.Writer) error {
	listing, err := c.List(ctx)
	if err != nil {
		return err
	}
	var numbers []int
	for e, err := range listing.All() {
		if err != nil {
			return err
		}
		numbers = append(numbers, e.Number)
	}
	for m, err := range c.RetrAll(ctx, numbers) {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "From MAILER-DAEMON %s\n", time.Now().UTC().Format(time.ANSIC))
		if err := copyQuoted(w, m); err != nil { // also if the server refuses the message: the export would lack it
			return err
		}
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
	}
	return nil
}

// copyQuoted copies lines of any length. It returns nil only if r ended with io.EOF.
func copyQuoted(w *bufio.Writer, r io.Reader) error {
	lines := bufio.NewReaderSize(r, 1<<16)
	for atStart := true; ; {
		line, more, err := lines.ReadLine()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if atStart && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
			w.WriteByte('>')
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		if atStart = !more; atStart {
			w.WriteByte('\n')
		}
	}
}
