package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"net/textproto"
	"os"
	"slices"
	"strings"

	"golang.org/x/text/encoding/ianaindex"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

var aboutList = []string{
	"List prints number, size, state, unique-id, and subject of each message on the server. The state is new, known, or refused; " +
		"a * marks messages that are due for deletion. Nothing is fetched, deleted, or remembered.",
}

// listFlags are the flags of the verbs that look at one mailbox.
type listFlags struct {
	accountFlags
	debug bool
}

func (f *listFlags) define(flags *flag.FlagSet) {
	f.accountFlags.define(flags)
	f.defineConnection(flags)
	flags.BoolVar(&f.debug, "debug", false, "print the protocol, without passwords, on standard error")
}

func defineList(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &listFlags{}
	f.define(flags)
	asJSON := flags.Bool("json", false, "print a JSON object for each message")
	subjects := flags.Bool("subject", true, "print the subjects, which takes a command for each message")
	return func(ctx context.Context) error {
		m, err := a.open(ctx, f, flags.Args()[:1])
		if err != nil {
			return err
		}
		defer m.client.Close()
		steps, known, err := m.plan(ctx)
		if err != nil {
			return err
		}
		l := &lister{w: bufio.NewWriter(a.stdout), json: *asJSON, known: known}
		if !*asJSON {
			l.widths(steps)
		}
		err = l.list(ctx, m.client, steps, *subjects)
		if flushErr := l.w.Flush(); err == nil && flushErr != nil {
			err = fmt.Errorf("standard output: %w", flushErr)
		}
		if err != nil {
			return kindOfDial(err)
		}
		m.client.Quit(ctx) // nothing is to be committed
		return nil
	}
}

// A mailbox is an account to whose server a session is open.
type mailbox struct {
	*app
	*selection
	account *config.Account
	client  *pop3.Client
}

// open logs in to the account of an operand.
func (a *app) open(ctx context.Context, f *listFlags, operands []string) (*mailbox, error) {
	s, err := a.selectAny(&f.accountFlags, operands, false)
	if err != nil {
		return nil, err
	}
	if len(s.accounts) != 1 {
		return nil, usagef("%d accounts match; one is wanted", len(s.accounts))
	}
	m := &mailbox{app: a, selection: s, account: s.accounts[0]}
	c := a.connector(s, m.account, func(format string, args ...any) { a.warn("warning: "+format, args...) }, a.warn)
	if f.debug {
		c.Debug = &lineSplitter{emit: func(line string) { fmt.Fprintln(a.stderr, clean(line)) }}
	}
	if err := c.Prepare(ctx); err != nil { // the server does not wait for the user
		return nil, err
	}
	if m.client, err = c.Dial(ctx); err != nil {
		return nil, kindOfDial(err)
	}
	return m, nil
}

// plan compares the messages on the server with the state. Without the state, because another run has it open, known is
// false.
func (m *mailbox) plan(ctx context.Context) (steps []fetch.Step, known bool, err error) {
	store, closeStore, err := m.existingStore(m.account)
	known = true
	if errors.Is(err, fetch.ErrLocked) {
		m.warn("another run has the state of %s open: which messages are new is not known", m.account.Name)
		store, closeStore, known = &fetch.MemoryStore{}, func() error { return nil }, false
	} else if err != nil {
		return nil, false, err
	}
	defer closeStore()
	policy := policyOf(m.account, fetch.AllNewFetch)
	policy.NoUIDL = true
	f := &fetch.Fetcher{Account: m.account.Name, Store: store, Policy: policy}
	steps, err = f.Plan(ctx, m.client)
	return steps, known, err
}

// kindOfDial makes an error of a session one of the kinds that exit statuses come from.
func kindOfDial(err error) error {
	var refusal *pop3.ServerError
	if errors.As(err, &refusal) && !refusal.Temporary() && isLogin(refusal.Command) || errors.Is(err, pop3.ErrInsecureLogin) {
		return fmt.Errorf("%w: %w", fetch.ErrLogin, err)
	}
	return fmt.Errorf("%w: %w", fetch.ErrServer, err)
}

// isLogin reports whether a command is part of a login.
func isLogin(command string) bool {
	verb, _, _ := strings.Cut(command, " ")
	return slices.Contains([]string{"USER", "PASS", "APOP", "AUTH"}, verb)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// A lister prints messages.
type lister struct {
	w                     *bufio.Writer
	json                  bool
	known                 bool // the state is known
	numberWidth, uidWidth int
}

// widths measures the columns.
func (l *lister) widths(steps []fetch.Step) {
	for _, s := range steps {
		l.numberWidth = max(l.numberWidth, len(fmt.Sprint(s.Message.Number)))
		l.uidWidth = min(max(l.uidWidth, len(clean(s.Message.Key.UID))), 40)
	}
}

// list prints all messages. Headers arrive in the order of the messages, so each line is printed as soon as it is
// known.
func (l *lister) list(ctx context.Context, c *pop3.Client, steps []fetch.Step, subjects bool) error {
	if !subjects {
		for _, s := range steps {
			if err := l.print(s, nil); err != nil {
				return err
			}
		}
		return nil
	}
	numbers := make([]int, len(steps))
	for i, s := range steps {
		numbers[i] = s.Message.Number
	}
	i := 0
	for m, err := range c.TopAll(ctx, numbers, 0) {
		if err != nil {
			return err
		}
		var refusal *pop3.ServerError
		header, err := readHeader(m)
		if err != nil && !errors.As(err, &refusal) {
			return err
		}
		if err := l.print(steps[i], header); err != nil {
			return err
		}
		i++
	}
	return nil
}

// maxHeader limits the part of a header that is kept.
const maxHeader = 64 << 10

// readHeader returns the fields of a header. The fields before a malformed line are returned.
func readHeader(m io.Reader) (textproto.MIMEHeader, error) {
	text, err := io.ReadAll(io.LimitReader(m, maxHeader))
	if err != nil {
		return nil, err
	}
	fields, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(text))).ReadMIMEHeader()
	return fields, nil
}

// A listed message is a line of the JSON output of list.
type listed struct {
	Number  int    `json:"number"`
	Octets  int64  `json:"octets"` // -1 if unknown
	UID     string `json:"uid"`
	Nth     int    `json:"nth,omitempty"`
	State   string `json:"state"`         // new, known, refused, or unknown
	Due     bool   `json:"due,omitempty"` // for deletion
	Subject string `json:"subject,omitempty"`
	From    string `json:"from,omitempty"`
	Date    string `json:"date,omitempty"`
	Reason  string `json:"reason,omitempty"` // why it was refused
}

func (l *lister) print(s fetch.Step, header textproto.MIMEHeader) error {
	e := listed{
		Number: s.Message.Number, Octets: s.Message.Size, UID: s.Message.Key.UID, Nth: s.Message.Key.Nth, State: "new", Due: s.Delete,
		Subject: decode(header.Get("Subject")), From: decode(header.Get("From")), Date: header.Get("Date"),
	}
	switch {
	case !l.known:
		e.State = "unknown"
	case s.Record.State == fetch.Refused:
		e.State, e.Reason = "refused", s.Record.Reason
	case s.Action == fetch.ActionKnown:
		e.State = "known"
	}
	if l.json {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = l.w.Write(append(line, '\n'))
		return err
	}
	mark := " "
	if e.Due {
		mark = "*"
	}
	uid := cut(clean(e.UID), l.uidWidth)
	subject := clean(e.Subject)
	if e.Reason != "" {
		subject += " (" + clean(e.Reason) + ")"
	}
	_, err := fmt.Fprintf(l.w, "%*d %9s %-7s%s %-*s  %s\n", l.numberWidth, e.Number, bytesText(e.Octets), e.State, mark, l.uidWidth, uid, subject)
	return err
}

// decode decodes the encoded words of a field (RFC 2047), in any character set that the library knows.
func decode(field string) string {
	decoder := &mime.WordDecoder{CharsetReader: func(charset string, input io.Reader) (io.Reader, error) {
		encoding, err := ianaindex.MIME.Encoding(charset)
		if err != nil || encoding == nil {
			return nil, fmt.Errorf("unknown character set %q", charset)
		}
		return encoding.NewDecoder().Reader(input), nil
	}}
	if text, err := decoder.DecodeHeader(field); err == nil {
		return text
	}
	return field
}
