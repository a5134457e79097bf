package pop3

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// swallowers read a message, and say nothing of an error.
var swallowers = map[string]func(m *Message){
	"net/mail": func(m *Message) {
		if msg, err := mail.ReadMessage(m); err == nil {
			io.ReadAll(msg.Body)
			msg.Header.AddressList("To")
		}
	},
	"header only": func(m *Message) { mail.ReadMessage(m) },
	"Scanner": func(m *Message) {
		for s := bufio.NewScanner(m); s.Scan(); {
		}
	},
	"Copy":    func(m *Message) { io.Copy(io.Discard, m) },
	"CopyN":   func(m *Message) { io.CopyN(io.Discard, m, 10) },
	"WriteTo": func(m *Message) { m.WriteTo(io.Discard) },
	"nothing": func(*Message) {},
	"beyond the end": func(m *Message) {
		for range 3 {
			io.ReadAll(m)
		}
	},
}

const parsed = "From: <a@b>\\r\\nTo: <c@d>\\r\\nSubject: cut\\r\\n\\r\\n..body\\r\\nlast line\\r\\n."

// responsesToCut are responses with a message, the last of them being the one to be cut, and how the message is opened.
var responsesToCut = map[string]struct {
	before, message string
	opts            Options
	each            func(c *Client, each func(m *Message, err error) bool)
}{
	"Retr": {"", "\nC: RETR 1\nS: +OK\nS: " + parsed, Options{}, func(c *Client, each func(*Message, error) bool) { each(c.Retr(background, 1)) }},
	"Top":  {"", "\nC: TOP 1 9\nS: +OK\nS: " + parsed, Options{}, func(c *Client, each func(*Message, error) bool) { each(c.Top(background, 1, 9)) }},
	"CmdMultiline": {"", "\nC: X\nS: +OK\nS: " + parsed, Options{}, func(c *Client, each func(*Message, error) bool) {
		each(c.CmdMultiline(background, "X"))
	}},
	"pipelined":       {"\nC: CAPA\nS: +OK\nS: PIPELINING\nS: .\nC: RETR 1\nC: RETR 2\nS: +OK\nS: one\nS: .", "\nS: +OK\nS: " + parsed, Options{}, retrTwo},
	"one at a time":   {"\nC: CAPA\nS: -ERR\nC: RETR 1\nS: +OK\nS: one\nS: .", "\nC: RETR 2\nS: +OK\nS: " + parsed, Options{}, retrTwo},
	"NoPipelining":    {"\nC: RETR 1\nS: +OK\nS: one\nS: .", "\nC: RETR 2\nS: +OK\nS: " + parsed, Options{NoPipelining: true}, retrTwo},
	"TopAll, refused": {"\nC: TOP 1 9\nS: -ERR", "\nC: TOP 2 9\nS: +OK\nS: " + parsed, Options{NoPipelining: true}, topTwo},
}

func retrTwo(c *Client, each func(m *Message, err error) bool) {
	c.RetrAll(background, []int{1, 2})(each)
}
func topTwo(c *Client, each func(m *Message, err error) bool) {
	c.TopAll(background, []int{1, 2}, 9)(each)
}

// TestCloseAfterTruncation: whatever a parser has swallowed, Close tells of a message that is not complete, again and again, and the
// loop of a batch ends with it.
func TestCloseAfterTruncation(t *testing.T) {
	for response, r := range responsesToCut {
		for parser, parse := range swallowers {
			t.Run(response+"/"+parser, func(t *testing.T) {
				start := parseScript(t, "S: +OK"+r.before+strings.SplitAfter(r.message, "S: +OK")[0]).Octets()
				script := parseScript(t, "S: +OK"+r.before+r.message)
				for cut := start; cut <= script.Octets(); cut++ {
					synctest.Test(t, func(t *testing.T) {
						s := *script
						s.Cut = cut
						complete := cut == script.Octets()
						c := connect(t, &r.opts, s.Play(t))
						told := false
						r.each(c, func(m *Message, err error) bool {
							if m.Number == 1 && strings.Contains(r.before, " 1") {
								m.Close()
								return true
							}
							if told {
								wantError(t, err, io.ErrUnexpectedEOF)
								return true
							}
							must(t, err)
							parse(m)
							closed := m.Close()
							told = closed != nil
							if told == complete || told && !errors.Is(closed, io.ErrUnexpectedEOF) {
								t.Errorf("cut at %d of %d: Close returned %v", cut, script.Octets(), closed)
							}
							if again := m.Close(); again != closed {
								t.Errorf("cut at %d: Close returned %v, and then %v", cut, closed, again)
							}
							_, err = m.Read(make([]byte, 1))
							if complete {
								wantError(t, err, ErrClosed)
							} else {
								wantError(t, err, io.ErrUnexpectedEOF)
							}
							return true
						})
						if told == complete {
							t.Errorf("cut at %d: told %v", cut, told)
						}
					})
				}
			})
		}
	}
}

// TestBatchAfterTruncation: so does the loop of a batch whose body ignores all errors.
func TestBatchAfterTruncation(t *testing.T) {
	for response, r := range responsesToCut {
		if r.before == "" {
			continue
		}
		for parser, parse := range swallowers {
			t.Run(response+"/"+parser, func(t *testing.T) {
				start := parseScript(t, "S: +OK"+r.before).Octets()
				script := parseScript(t, "S: +OK"+r.before+r.message)
				for cut := start; cut < script.Octets(); cut++ {
					synctest.Test(t, func(t *testing.T) {
						s := *script
						s.Cut = cut
						c := connect(t, &r.opts, s.Play(t))
						var last error
						r.each(c, func(m *Message, err error) bool {
							last = err
							parse(m)
							return true
						})
						wantError(t, last, io.ErrUnexpectedEOF)
					})
				}
			})
		}
	}
}

// TestCloseAfterFailure returns the error of Read, whatever it was.
func TestCloseAfterFailure(t *testing.T) {
	const begun = "\nC: RETR 1\nS: +OK\nS: one\n"
	for name, tt := range map[string]struct {
		transcript string
		opts       Options
		fail       func(c *Client, cancel func())
		want       error
	}{
		"cut":      {begun + "!close", Options{}, nil, io.ErrUnexpectedEOF},
		"timeout":  {begun + "!stall", Options{Timeout: time.Second}, nil, os.ErrDeadlineExceeded},
		"canceled": {begun + "!stall", Options{}, func(_ *Client, cancel func()) { cancel() }, context.Canceled},
		"Close":    {begun + "!stall", Options{}, func(c *Client, _ func()) { c.Close() }, ErrClosed},
		"Quit": {begun + "S: .\nC: QUIT\nS: +OK\n!close", Options{}, func(c *Client, _ func()) {
			if err := c.Quit(background); err != nil {
				panic(err)
			}
		}, ErrClosed},
	} {
		for when, early := range map[string]bool{"Read": false, "before": true} {
			t.Run(name+"/"+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := dialogue(t, &tt.opts, tt.transcript)
					ctx, cancel := context.WithCancel(background)
					defer cancel()
					m, err := c.Retr(ctx, 1)
					must(t, err)
					if _, err := m.Read(make([]byte, 1)); err != nil {
						t.Error(err)
					}
					if early && tt.fail == nil {
						t.Skip("only a Read finds that")
					}
					if tt.fail != nil {
						if early || name == "Quit" {
							tt.fail(c, cancel)
							synctest.Wait()
						} else {
							time.AfterFunc(time.Second, func() { tt.fail(c, cancel) })
						}
					}
					var failed error
					if !early {
						_, failed = io.ReadAll(m)
						wantError(t, failed, tt.want)
					}
					for range 3 {
						closed := m.Close()
						switch {
						case !early && closed != failed:
							t.Errorf("Close returned %v after %v", closed, failed)
						case early && tt.want == ErrClosed && closed != nil: // nothing was missed: the caller gave up the message
							t.Errorf("Close returned %v", closed)
						case early && tt.want != ErrClosed:
							wantError(t, closed, tt.want)
						}
					}
				})
			})
		}
	}
}

// TestCloseOfRefusedMessage returns the refusal, with or without a Read.
func TestCloseOfRefusedMessage(t *testing.T) {
	for mode, m := range batchModes {
		for parser, parse := range swallowers {
			t.Run(mode+"/"+parser, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := pop3test.NewUnstartedServer(pop3test.Messages("one\r\n", "two\r\n", "three\r\n"))
					srv.Refuse = func(verb string, n int) string {
						if verb == "RETR" && n == 2 {
							return "[SYS/TEMP] not this one"
						}
						return ""
					}
					srv.Pipelining, srv.NoCAPA = mode == "pipelined", mode == "no CAPA"
					opts := m.opts
					c := served(t, &opts, srv)
					var closed []string
					for m, err := range c.RetrAll(background, []int{1, 2, 3}) {
						must(t, err)
						parse(m)
						closed = append(closed, fmt.Sprint(m.Close(), m.Close()))
					}
					const refusal = "pop3: RETR 2: -ERR [SYS/TEMP] not this one"
					if want := []string{"<nil> <nil>", refusal + " " + refusal, "<nil> <nil>"}; fmt.Sprint(closed) != fmt.Sprint(want) {
						t.Errorf("Close returned %q, want %q", closed, want)
					}
					must(t, c.Noop(background))
				})
			})
		}
	}
}
