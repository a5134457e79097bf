package faults

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"unicode"
	"unicode/utf8"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/internal/daemon"
)

// meet has an enemy serve one connection, and returns the client's end of it. The enemy closes the connection when
// serve returns.
func meet(t *testing.T, serve func(*enemy)) net.Conn {
	client, server := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() {
		defer server.Close()
		serve(&enemy{Conn: server, in: bufio.NewReader(server), taken: new(atomic.Int64)})
	})
	t.Cleanup(func() {
		client.Close()
		serving.Wait()
	})
	return client
}

// forged is text that could forge log lines or control a terminal: control characters of C0 and C1, bytes that are not
// UTF-8, line separators, and a change of the writing direction.
const forged = "\x1b[2J\x1b]0;x\x07\x00\x08\r\x7f\u0085\u009b2J\u2028\u2029\u202e\x9b\xff level=ERROR msg=forged"

// recorder is a slog.Handler that records texts unchanged: the handlers of slog escape them.
type recorder struct {
	mu    sync.Mutex
	texts []string
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, record.Message)
	record.Attrs(func(a slog.Attr) bool {
		r.texts = append(r.texts, a.Value.String())
		return true
	})
	return nil
}

// texts returns the texts of an error, with joined errors apart.
func errorTexts(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, err := range joined.Unwrap() {
			all = append(all, errorTexts(err)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []string{err.Error()}
}

// TestForgery has a server send control characters in every place. Errors, logs and transcripts show them escaped, each
// on one line.
func TestForgery(t *testing.T) {
	lf := strings.Replace(forged, "\r", "\r \n", 1)
	noop := func(c *pop3.Client) error { return c.Noop(background) }
	for name, test := range map[string]struct {
		says []string // the greeting, and the responses
		ask  func(c *pop3.Client) error
	}{
		"greeting":                  {[]string{"+OK " + forged, "-ERR"}, noop},
		"refusal to greet":          {[]string{"-ERR " + forged}, noop},
		"no greeting":               {[]string{forged}, noop},
		"greeting with LF":          {[]string{"+OK " + lf}, noop},
		"refusal":                   {[]string{"+OK", "-ERR [" + forged + "] " + forged}, noop},
		"refusal with LF":           {[]string{"+OK", "-ERR " + lf}, noop},
		"no status":                 {[]string{"+OK", forged}, noop},
		"challenge to no AUTH":      {[]string{"+OK", "+ " + forged}, noop},
		"unsolicited":               {[]string{"+OK", "+OK\r\n" + forged}, noop},
		"unsolicited with LF":       {[]string{"+OK", "+OK\r\n-ERR x\r\n" + lf}, noop},
		"last words":                {[]string{"+OK", "+OK\r\n-ERR " + forged}, func(c *pop3.Client) error { return errors.Join(noop(c), noop(c)) }},
		"STAT":                      {[]string{"+OK", "+OK " + forged}, func(c *pop3.Client) error { _, _, err := c.Stat(background); return err }},
		"LIST n":                    {[]string{"+OK", "+OK 1 " + forged}, func(c *pop3.Client) error { _, err := c.Size(background, 1); return err }},
		"UIDL n":                    {[]string{"+OK", "+OK 1 " + forged}, func(c *pop3.Client) error { _, err := c.UID(background, 1); return err }},
		"capabilities":              {[]string{"+OK", "+OK " + forged + "\r\n" + forged + "\r\n."}, func(c *pop3.Client) error { return c.StartTLS(background, nil) }},
		"RETR":                      {[]string{"+OK", "+OK " + forged + "\r\n" + lf + "\r\n."}, func(c *pop3.Client) error { m, _ := c.Retr(background, 1); return m.Close() }},
		"batch":                     {[]string{"+OK", "-ERR " + forged, "-ERR " + forged, "-ERR " + forged}, func(c *pop3.Client) error { return c.DeleAll(background, []int{1, 2}) }},
		"challenge":                 {[]string{"+OK", "+ " + base64.StdEncoding.EncodeToString([]byte(lf)), "-ERR " + forged}, func(c *pop3.Client) error { return c.Auth(background, pop3.XOAUTH2("user", "token")) }},
		"challenge that is no such": {[]string{"+OK", "+ " + forged, "-ERR " + forged}, func(c *pop3.Client) error { return c.Auth(background, prompts{}) }},
		"listing": {[]string{"+OK", "+OK " + forged + "\r\n1 " + lf + "\r\n."}, func(c *pop3.Client) error {
			l, err := c.UIDL(background)
			if err == nil {
				for range l.C() {
				}
				err = l.Err()
			}
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := meet(t, func(e *enemy) {
					for i, text := range test.says {
						if i > 0 {
							e.hear()
						}
						e.say(text + "\r\n")
					}
				})
				var debug bytes.Buffer
				log := new(recorder)
				c, err := pop3.NewClient(background, conn, &pop3.Options{
					AllowInsecureLogin: true, Timeout: patience, DebugWriter: &debug, Logger: slog.New(log),
				})
				if err == nil {
					err = test.ask(c)
					c.Close()
				}
				shown := append(errorTexts(err), log.texts...)
				for line := range strings.Lines(debug.String()) {
					if !strings.HasPrefix(line, "C: ") && !strings.HasPrefix(line, "S: ") {
						t.Errorf("the transcript has the line %q", line)
					}
					shown = append(shown, strings.TrimSuffix(line, "\n"))
				}
				for _, text := range shown {
					if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }); i >= 0 {
						t.Errorf("%q is shown as it came, at octet %d", text, i)
					}
				}
				if !slices.ContainsFunc(shown, func(s string) bool { return strings.Contains(s, `\x1b[2J`) || strings.Contains(s, "forged") }) {
					t.Errorf("nothing is shown of it: %q", shown)
				}
			})
		})
	}
}

// TestDowngrade has an on-path attacker prevent TLS, in every way. The client must send nothing but CAPA and STLS.
func TestDowngrade(t *testing.T) {
	const capable = "+OK\r\nSTLS\r\nUSER\r\nSASL PLAIN\r\n.\r\n"
	for name, answers := range map[string][]string{
		"no CAPA":                      {"-ERR"},
		"STLS is not listed":           {"+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n"},
		"STLS is refused":              {capable, "-ERR not now\r\n"},
		"STLS is answered twice":       {capable, "+OK\r\n+OK\r\n"},
		"STLS is answered beforehand":  {capable + "+OK\r\n+OK\r\n", "-ERR\r\n"},
		"STLS, login and all answered": {capable, "+OK\r\n+OK\r\n.\r\n+OK\r\n+OK\r\n"},
		"no handshake":                 {capable, "+OK\r\n", "-ERR what is this\r\n"},
		"an alert for a handshake":     {capable, "+OK\r\n", "\x15\x03\x03\x00\x02\x02\x28"},
		"STLS, and nothing":            {capable, "+OK\r\n", ""},
	} {
		for who, connect := range map[string]func(opts *pop3.Options) error{
			"DialStartTLS": func(opts *pop3.Options) error {
				c, err := pop3.DialStartTLS(background, "localhost", opts)
				if err == nil {
					err = c.Login(background, "user", "secret")
				}
				return err
			},
			"Login": func(opts *pop3.Options) error {
				c, err := pop3.Dial(background, "localhost", opts)
				if err != nil {
					return err
				}
				defer c.Close()
				return c.Login(background, "user", "secret")
			},
		} {
			t.Run(name+"/"+who, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var heard []byte
					var hungUp error
					conn := meet(t, func(e *enemy) {
						e.say(greeting)
						left, said := answers, make([]byte, 4096)
						for n, err := 0, error(nil); ; {
							if n, err = e.Read(said); err != nil {
								hungUp = err
								return
							}
							heard = append(heard, said[:n]...)
							answer := "-ERR\r\n"
							if len(left) > 0 {
								answer, left = left[0], left[1:]
							}
							e.say(answer)
						}
					})
					err := connect(&pop3.Options{Dialer: dialed{conn}, Timeout: patience})
					synctest.Wait()
					if err == nil {
						t.Error("no error")
					}
					if hungUp != io.EOF {
						t.Errorf("%v, and the connection is still there", err)
					}
					clear, records, _ := strings.Cut(string(heard), "STLS\r\n")
					if clear != "CAPA\r\n" || records != "" && records[0] != 22 && records[0] != 21 { // a handshake, an alert
						t.Errorf("the client said %q, and behind STLS %q", clear, records)
					}
				})
			})
		}
	}
}

// TestCloseNotify has a server close TLS cleanly within a message, which must not be taken for the end of the message.
func TestCloseNotify(t *testing.T) {
	dir := t.TempDir()
	authority := daemon.NewAuthority(t, dir)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	conn := meet(t, func(e *enemy) {
		secure := tls.Server(e.Conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		after("+OK\r\nhalf a message\r\n", "")(&enemy{Conn: secure, in: bufio.NewReader(secure), taken: new(atomic.Int64)})
		secure.Close()
	})
	c, err := pop3.DialTLS(background, "localhost", &pop3.Options{Dialer: dialed{conn}, TLSConfig: authority.TLSConfig(), Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, err := c.Retr(background, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(m); string(got) != "half a message\r\n" || !becauseOf(cut, err) {
		t.Errorf("the message reads %q, %v", got, err)
	}
}
