package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// A sinkMaker makes the sinks of accounts.
type sinkMaker struct {
	stdout io.Writer
	tls    *tls.Config
	logger *slog.Logger
	tmp    string     // folder of temporary files
	mu     sync.Mutex // of stdout
}

// sink returns the sink of an account, and a function that closes it after the run.
func (s *sinkMaker) sink(a *config.Account) (sink fetch.Sink, closeSink func(), err error) {
	closeSink = func() {}
	d := a.Dest
	once := func(deliver fetch.DeliverFunc, timeout time.Duration) *fetch.Delivery {
		return &fetch.Delivery{Func: deliver, Name: d.String(), Dir: s.tmp, Timeout: timeout}
	}
	switch d.Kind {
	case config.Maildir:
		sink = &fetch.Maildir{Dir: d.Path, CRLF: a.CRLF}
	case config.EML:
		sink = &fetch.EML{Dir: d.Path}
	case config.Mbox:
		sink = &fetch.Mbox{Path: d.Path, Logger: s.logger}
	case config.SMTP, config.LMTP:
		m := &mailer{dest: d, tls: s.tls}
		sink, closeSink = once(m.deliver, mailTimeout), m.quit
	case config.Pipe:
		p := &piper{line: d.Run, crlf: a.CRLF, timeout: pipeTimeout}
		sink = once(p.deliver, 0)
	case config.Stdout:
		sink = once(s.print, 0)
	default:
		return nil, nil, fmt.Errorf("no destination")
	}
	if a.Received {
		sink = &tracing{sink, a.Mailbox}
	}
	return sink, closeSink, nil
}

// print writes a message to standard output in the form of an mbox, which separates the messages.
func (s *sinkMaker) print(ctx context.Context, msg fetch.Message, body io.ReadSeeker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	buffered := bufio.NewWriter(s.stdout)
	w := fetch.NewMboxWriter(buffered, msg.Time)
	_, err := io.Copy(w, body)
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// tracing is a Sink that puts Delivered-To and Received fields before each message.
type tracing struct {
	fetch.Sink
	mailbox config.Mailbox
}

// Stage implements fetch.Sink.
func (t *tracing) Stage(ctx context.Context, m fetch.Message, body io.Reader) (string, error) {
	return t.Sink.Stage(ctx, m, &traced{strings.NewReader(t.fields(m)), body})
}

// fields returns the two fields. The id is the same each time that the message is fetched.
func (t *tracing) fields(m fetch.Message) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	user := printableASCII(t.mailbox.User)
	return "Delivered-To: " + user + "\r\n" +
		"Received: from " + t.mailbox.Host + "\r\n\tby " + printableASCII(host) + " with POP3 id " + m.Key.Digest(m.Account) +
		"\r\n\tfor " + user + "; " + m.Time.Format(time.RFC1123Z) + "\r\n"
}

// printableASCII replaces characters that are invalid in a header field.
func printableASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// traced reads the fields, then the message.
type traced struct {
	fields *strings.Reader
	body   io.Reader
}

func (t *traced) Read(p []byte) (int, error) {
	if t.fields.Len() > 0 {
		return t.fields.Read(p)
	}
	return t.body.Read(p)
}

func (t *traced) WriteTo(w io.Writer) (int64, error) {
	n, err := t.fields.WriteTo(w)
	if err != nil {
		return n, err
	}
	m, err := io.Copy(w, t.body)
	return n + m, err
}
