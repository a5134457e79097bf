package fetch

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/seed-5b1d5243/pop3"
)

// A maildrop is a POP3 server whose responses a test can replace.
type maildrop struct {
	caps []string // of CAPA, besides TOP and UIDL

	// hook, if not nil, may replace the response to a command. session counts from 1.
	hook func(session int, line string) *response

	mu       sync.Mutex
	mails    []mail
	sessions int
	commands []string
}

type mail struct {
	uid, text string
	size      string // for LIST, if not the true size
}

// A response replaces that of a maildrop.
type response struct {
	text   string // with CRLF line endings; if empty, the usual response
	hangUp bool   // close the connection then
	stall  bool   // do nothing until the client closes the connection
	after  func() // called after the usual effect
}

func negative(text string) *response { return &response{text: "-ERR " + text + "\r\n"} }

// mails returns n messages, with unique-ids and sizes that differ.
func mails(n int) []mail {
	list := make([]mail, n)
	for i := range list {
		list[i] = newMail(i + 1)
	}
	return list
}

func newMail(n int) mail {
	return mail{uid: fmt.Sprintf("uid%d", n), text: fmt.Sprintf("Subject: %d\r\n\r\n.body %d%s\r\n", n, n, strings.Repeat("x", n%50))}
}

// set replaces the messages.
func (d *maildrop) set(mails ...mail) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mails = slices.Clone(mails)
}

// left returns the unique-ids of the messages.
func (d *maildrop) left() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var uids []string
	for _, m := range d.mails {
		uids = append(uids, m.uid)
	}
	return uids
}

// sent returns the commands that begin with one of the verbs.
func (d *maildrop) sent(verbs ...string) (commands []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.commands {
		verb, _, _ := strings.Cut(line, " ")
		if slices.Contains(verbs, verb) {
			commands = append(commands, line)
		}
	}
	return commands
}

// pipe returns the client's end of a new session.
func (d *maildrop) pipe() net.Conn {
	client, server := net.Pipe()
	d.mu.Lock()
	d.sessions++
	s := &maildropSession{d: d, n: d.sessions, mails: slices.Clone(d.mails), deleted: map[string]bool{}, conn: server}
	d.mu.Unlock()
	go s.serve()
	return client
}

// Dial opens a session in the TRANSACTION state.
func (d *maildrop) Dial(ctx context.Context) (*pop3.Client, error) {
	c, err := pop3.NewClient(ctx, d.pipe(), &pop3.Options{AllowInsecureLogin: true})
	if err != nil {
		return nil, err
	}
	if err := c.Login(ctx, "joe", "secret"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

type maildropSession struct {
	d       *maildrop
	n       int
	mails   []mail
	deleted map[string]bool
	conn    net.Conn
}

// serve answers commands. A goroutine writes the responses, because a client that pipelines over a net.Pipe may be writing too.
func (s *maildropSession) serve() {
	defer s.conn.Close()
	responses := make(chan []byte, 1<<16)
	written := make(chan bool)
	go func() {
		defer close(written)
		for text := range responses {
			s.conn.Write(text)
		}
	}()
	defer func() { <-written }()
	defer close(responses)
	responses <- []byte("+OK ready\r\n")
	lines := bufio.NewReader(s.conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.d.mu.Lock()
		s.d.commands = append(s.d.commands, line)
		s.d.mu.Unlock()
		var r *response
		if s.d.hook != nil {
			r = s.d.hook(s.n, line)
		}
		if r == nil {
			r = &response{}
		}
		if r.stall {
			io.Copy(io.Discard, lines)
			return
		}
		text := r.text
		if text == "" && !r.hangUp {
			text = s.answer(line)
		}
		if r.after != nil {
			r.after()
		}
		responses <- []byte(text)
		if r.hangUp || line == "QUIT" {
			return
		}
	}
}

// answer returns the usual response.
func (s *maildropSession) answer(line string) string {
	words := strings.Fields(line)
	var m mail
	if len(words) > 1 && words[0] != "USER" && words[0] != "PASS" {
		n, err := strconv.Atoi(words[1])
		if err != nil || n < 1 || n > len(s.mails) || s.deleted[words[1]] {
			return "-ERR no such message\r\n"
		}
		m = s.mails[n-1]
	}
	switch words[0] {
	case "CAPA":
		return "+OK\r\nUIDL\r\nTOP\r\nPIPELINING\r\nUSER\r\n" + lines(s.d.caps) + ".\r\n"
	case "UIDL":
		return s.listing(func(m mail) string { return m.uid })
	case "LIST":
		return s.listing(mail.listed)
	case "RETR":
		return "+OK\r\n" + stuffed(m.text) + ".\r\n"
	case "TOP":
		header, _, _ := strings.Cut(m.text, "\r\n\r\n")
		return "+OK\r\n" + stuffed(header+"\r\n\r\n") + ".\r\n"
	case "DELE":
		s.deleted[words[1]] = true
	case "QUIT":
		s.commit()
	}
	return "+OK\r\n"
}

func lines(list []string) string {
	var b strings.Builder
	for _, line := range list {
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

func stuffed(text string) string {
	return strings.TrimPrefix(strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n.."), "\r\n")
}

func (m mail) listed() string {
	if m.size != "" {
		return m.size
	}
	return strconv.Itoa(len(m.text))
}

func (s *maildropSession) listing(column func(m mail) string) string {
	var b strings.Builder
	b.WriteString("+OK\r\n")
	for i, m := range s.mails {
		fmt.Fprintf(&b, "%d %s\r\n", i+1, column(m))
	}
	return b.String() + ".\r\n"
}

// commit removes the deleted messages from the maildrop.
func (s *maildropSession) commit() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for n := range s.deleted {
		i, _ := strconv.Atoi(n)
		gone := s.mails[i-1]
		if at := slices.Index(s.d.mails, gone); at >= 0 {
			s.d.mails = slices.Delete(s.d.mails, at, at+1)
		}
	}
}

// on returns a hook that replaces the response to one command, in every session.
func on(line string, r *response) func(int, string) *response {
	return func(_ int, got string) *response {
		if got == line {
			return r
		}
		return nil
	}
}

func TestMaildropServer(t *testing.T) {
	d := &maildrop{mails: mails(3)}
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range c.RetrAll(t.Context(), []int{1, 3}) {
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(m); string(text) != newMail(m.Number).text || err != nil {
			t.Errorf("message %d: %q, %v", m.Number, text, err)
		}
	}
	if err := c.DeleAll(t.Context(), []int{2}); err != nil {
		t.Error(err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	if left := d.left(); !slices.Equal(left, []string{"uid1", "uid3"}) {
		t.Errorf("left %q", left)
	}
}
