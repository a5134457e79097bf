package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/seed-5b1d5243/pop3"
)

// clientMode, in the environment, makes this program one of its own clients.
const clientMode = "POP3_BENCH_CLIENT"

// runOurs is a client process with the arguments ADDR COUNT CA DIR, the last two possibly empty.
func runOurs(mode string, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%s: %d arguments", mode, len(args))
	}
	addr, ca, dir := args[0], args[2], args[3]
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var config *tls.Config
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		config = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	switch mode {
	case "raw":
		commands := make([]string, count)
		for n := range commands {
			commands[n] = "RETR " + strconv.Itoa(n+1)
		}
		return readRaw(addr, commands, config)
	case "listings":
		return readRaw(addr, []string{"UIDL", "LIST"}, config)
	}

	ctx := context.Background()
	dial := pop3.Dial
	if config != nil {
		dial = pop3.DialTLS
	}
	c, err := dial(ctx, addr, &pop3.Options{TLSConfig: config, AllowInsecureLogin: true})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		return err
	}
	numbers := make([]int, count)
	for i := range numbers {
		numbers[i] = i + 1
	}
	switch mode {
	case "retr":
		for _, n := range numbers {
			m, err := c.Retr(ctx, n)
			if err != nil {
				return err
			}
			if _, err := m.WriteTo(os.Stdout); err != nil {
				return err
			}
		}
	case "retrall":
		for m, err := range c.RetrAll(ctx, numbers) {
			if err != nil {
				return err
			}
			if _, err := m.WriteTo(os.Stdout); err != nil {
				return err
			}
		}
	case "maildir":
		for m, err := range c.RetrAll(ctx, numbers) {
			if err != nil {
				return err
			}
			if err := deliver(m, dir); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("no client is called %q", mode)
	}
	return c.Quit(ctx)
}

// readRaw is the reference: it sends commands with multi-line responses directly, searches only for the end of the
// response, and discards all data.
func readRaw(addr string, commands []string, config *tls.Config) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if config != nil {
		conn = tls.Client(conn, config)
	}
	buf := make([]byte, 64<<10)
	until := func(end string) error {
		var tail []byte
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return err
			}
			tail = append(tail, buf[max(0, n-len(end)):n]...)
			tail = tail[max(0, len(tail)-len(end)):]
			if string(tail) == end {
				return nil
			}
		}
	}
	ask := func(command, end string) error {
		if _, err := io.WriteString(conn, command); err != nil {
			return err
		}
		return until(end)
	}
	if err := until("\r\n"); err != nil {
		return err
	}
	for _, command := range []string{"USER user\r\n", "PASS secret\r\n"} {
		if err := ask(command, "\r\n"); err != nil {
			return err
		}
	}
	for _, command := range commands {
		if err := ask(command+"\r\n", "\r\n.\r\n"); err != nil {
			return err
		}
	}
	return ask("QUIT\r\n", "\r\n")
}

// deliver stores a message as mpop does: in tmp, with LF line ends, synced, then moved to new.
func deliver(m *pop3.Message, dir string) error {
	name := strconv.Itoa(m.Number) + "." + strconv.Itoa(os.Getpid()) + ".bench"
	tmp := filepath.Join(dir, "tmp", name)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &lfWriter{w: f}
	if _, err := m.WriteTo(w); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, "new", name))
}

// lfWriter writes each CRLF as LF.
type lfWriter struct {
	w   io.Writer
	buf []byte
	cr  bool // a CR has not been written yet
}

func (l *lfWriter) Write(p []byte) (int, error) {
	n := len(p)
	l.buf = l.buf[:0]
	if l.cr && n > 0 && p[0] != '\n' {
		l.buf = append(l.buf, '\r')
	}
	if n > 0 {
		l.cr = p[n-1] == '\r'
	}
	if l.cr {
		p = p[:n-1]
	}
	for {
		i := bytes.Index(p, []byte("\r\n"))
		if i < 0 {
			break
		}
		l.buf = append(l.buf, p[:i]...)
		l.buf = append(l.buf, '\n')
		p = p[i+2:]
	}
	l.buf = append(l.buf, p...)
	if _, err := l.w.Write(l.buf); err != nil {
		return 0, err
	}
	return n, nil
}

// flush writes a pending CR.
func (l *lfWriter) flush() error {
	if !l.cr {
		return nil
	}
	_, err := io.WriteString(l.w, "\r")
	return err
}
