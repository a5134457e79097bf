package pop3

import (
	"context"
	"errors"
	"io"
	"net/mail"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// swallow parses a message like a program that does not look at errors.
func swallow(m *Message) {
	if parsed, err := mail.ReadMessage(m); err == nil {
		io.Copy(io.Discard, parsed.Body)
	}
}

// TestCloseAfterTruncation truncates a message after every byte. A parser may hide that; Close must not, however often it is called.
func TestCloseAfterTruncation(t *testing.T) {
	script := parseScript(t, `
		S: +OK
		C: RETR 1
		S: +OK
		S: Subject: one
		S: Content-Type: multipart/mixed; boundary=b
		S:
		S: --b
		S:
		S: ..
		S: --b--
		S: .`)
	start := len("+OK\r\n+OK\r\n")
	hidden := 0
	for cut := start; cut <= script.Octets(); cut++ {
		synctest.Test(t, func(t *testing.T) {
			s := *script
			s.Cut = cut
			c := connect(t, nil, s.Play(t))
			m, err := c.Retr(background, 1)
			must(t, err)
			swallow(m)
			for range 3 {
				err := m.Close()
				if cut == script.Octets() {
					must(t, err)
					continue
				}
				wantError(t, err, io.ErrUnexpectedEOF)
				hidden++
			}
			_, err = m.Read(make([]byte, 1))
			if cut == script.Octets() {
				wantError(t, err, ErrClosed)
			} else {
				wantError(t, err, io.ErrUnexpectedEOF)
			}
		})
	}
	if want := 3 * (script.Octets() - start); hidden != want {
		t.Errorf("%d errors, want %d", hidden, want)
	}
}

// TestBatchAfterTruncation does the same in a batch, where the loop must yield the error if its body ignores it, also that of
// the last message.
func TestBatchAfterTruncation(t *testing.T) {
	for name, transcript := range map[string]string{
		"pipelined": `
			S: +OK
			C: CAPA
			S: +OK
			S: PIPELINING
			S: .
			C: RETR 1
			C: RETR 2
			S: +OK
			S: one
			S: .
			S: +OK
			S: Subject: two
			S:
			S: two
			S: .`,
		"lock step": `
			S: +OK
			C: CAPA
			S: -ERR
			C: RETR 1
			S: +OK
			S: one
			S: .
			C: RETR 2
			S: +OK
			S: Subject: two
			S:
			S: two
			S: .`,
	} {
		t.Run(name, func(t *testing.T) {
			script := parseScript(t, transcript)
			second := len("Subject: two\r\n\r\ntwo\r\n.\r\n")
			for cut := script.Octets() - second; cut <= script.Octets(); cut++ {
				synctest.Test(t, func(t *testing.T) {
					s := *script
					s.Cut = cut
					c := connect(t, nil, s.Play(t))
					var last error
					n := 0
					for m, err := range c.RetrAll(background, []int{1, 2}) {
						last = err
						if err != nil {
							continue
						}
						n++
						swallow(m)
						if n == 2 && cut < script.Octets() {
							wantError(t, m.Close(), io.ErrUnexpectedEOF)
							wantError(t, m.Close(), io.ErrUnexpectedEOF)
						}
					}
					if n != 2 {
						t.Errorf("cut at %d: %d messages", cut, n)
					}
					if cut == script.Octets() {
						must(t, last)
					} else {
						wantError(t, last, io.ErrUnexpectedEOF)
					}
				})
			}
		})
	}
}

// TestCloseAfterFailure has the other ways in which a Read fails.
func TestCloseAfterFailure(t *testing.T) {
	read := func(m *Message) error { _, err := io.ReadAll(m); return err }
	open := func(t *testing.T, ctx context.Context, opts *Options, end string) (*Client, *Message) {
		c := dialogue(t, opts, "\nC: RETR 1\nS: +OK\nS: one\n"+end)
		m, err := c.Retr(ctx, 1)
		must(t, err)
		return c, m
	}
	for name, test := range map[string]struct {
		fail func(t *testing.T) (*Message, error)
		want error
	}{
		"timeout": {func(t *testing.T) (*Message, error) {
			_, m := open(t, background, nil, "!stall")
			return m, read(m)
		}, os.ErrDeadlineExceeded},
		"context": {func(t *testing.T) (*Message, error) {
			ctx, cancel := context.WithTimeout(background, time.Second)
			t.Cleanup(cancel)
			_, m := open(t, ctx, nil, "!stall")
			return m, read(m)
		}, context.DeadlineExceeded},
		"Client.Close": {func(t *testing.T) (*Message, error) {
			c, m := open(t, background, nil, "!stall")
			time.AfterFunc(time.Second, func() { c.Close() })
			return m, read(m)
		}, ErrClosed},
		"WriteTo": {func(t *testing.T) (*Message, error) {
			_, m := open(t, background, nil, "!close")
			_, err := m.WriteTo(io.Discard)
			return m, err
		}, io.ErrUnexpectedEOF},
		"Close itself": {func(t *testing.T) (*Message, error) {
			_, m := open(t, background, nil, "!close")
			return m, m.Close()
		}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := test.fail(t)
				wantError(t, err, test.want)
				for range 3 {
					if again := m.Close(); again != err {
						t.Errorf("Close returns %v after %v", again, err)
					}
				}
			})
		})
	}
}

// TestCloseOfRefusedMessage: the refusal of a message in a batch is what its Close returns, and does not end the loop.
func TestCloseOfRefusedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, noPipelining := range []bool{false, true} {
			c := served(t, &Options{NoPipelining: noPipelining}, pop3test.NewUnstartedServer(pop3test.Messages("one\r\n", "two\r\n")))
			var read []string
			for m, err := range c.RetrAll(background, []int{1, 9, 2}) {
				must(t, err)
				text, readErr := io.ReadAll(m)
				read = append(read, string(text))
				closeErr := m.Close()
				if refused := new(ServerError); errors.As(readErr, &refused) {
					if refused.Number != 9 || closeErr != readErr || m.Close() != readErr {
						t.Errorf("Read: %v, Close: %v", readErr, closeErr)
					}
					continue
				}
				must(t, readErr)
				must(t, closeErr)
			}
			if len(read) != 3 || read[0] != "one\r\n" || read[1] != "" || read[2] != "two\r\n" {
				t.Errorf("read %q", read)
			}
		}
	})
}
