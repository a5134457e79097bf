package pop3

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An idler responds to commands, and sends unsolicited data after a minute without commands. Its output is buffered
// without limit, so that it never waits for the client.
type idler struct {
	capa  string // the response to CAPA
	noise string
	hangs bool // it closes the connection after the unsolicited data
}

const idlerPatience = time.Minute

func (s idler) serve(conn net.Conn) {
	said := make(chan string, 10_000)
	go func() {
		defer conn.Close()
		for text := range said {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}()
	commands := make(chan string, 1000)
	go func() {
		defer close(commands)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			commands <- lines.Text()
		}
	}()
	defer close(said)
	said <- "+OK ready\r\n"
	for {
		idle := time.NewTimer(idlerPatience)
		select {
		case command, open := <-commands:
			idle.Stop()
			if !open {
				return
			}
			said <- s.answer(command)
		case <-idle.C:
			said <- s.noise
			if s.hangs {
				return
			}
		}
	}
}

func (s idler) answer(command string) string {
	words := strings.Fields(command)
	switch words[0] {
	case "CAPA":
		return s.capa
	case "RETR", "TOP":
		return "+OK\r\n" + idlerMessage(words[1]) + ".\r\n"
	}
	return "+OK\r\n"
}

func idlerMessage(number any) string { return fmt.Sprintf("Subject: %v\r\n\r\nmessage\r\n", number) }

// batchModes are the ways in which a batch is sent.
var batchModes = map[string]struct {
	capa string
	opts Options
}{
	"pipelined":    {"+OK\r\nPIPELINING\r\n.\r\n", Options{}},
	"not listed":   {"+OK\r\nUSER\r\n.\r\n", Options{}},
	"NoPipelining": {"+OK\r\nPIPELINING\r\n.\r\n", Options{NoPipelining: true}},
	"no CAPA":      {"-ERR\r\n", Options{}},
}

const pausedMessages = 150 // in each loop of eachPause

// eachPause calls test for the loops of RetrAll and TopAll in each mode, over messages. At one of them the body of the
// loop pauses for so long that the server sends unsolicited data.
func eachPause(t *testing.T, noise string, hangs bool, test func(t *testing.T, c *Client, run func(each func(m *Message, err error) bool), pausesAt int)) {
	for mode, m := range batchModes {
		for _, verb := range []string{"RETR", "TOP"} {
			for _, at := range []int{1, 3, 40, pausedMessages - 1, pausedMessages} {
				for _, where := range []string{"before reading", "after reading"} {
					t.Run(fmt.Sprintf("%s/%s/%d/%s", mode, verb, at, where), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							client, server := net.Pipe()
							go idler{m.capa, noise, hangs}.serve(server)
							c := connect(t, &m.opts, client)
							loop := c.RetrAll(background, upTo(pausedMessages))
							if verb == "TOP" {
								loop = c.TopAll(background, upTo(pausedMessages), 1)
							}
							test(t, c, func(each func(m *Message, err error) bool) {
								for m, err := range loop {
									if m.Number == at && where == "before reading" {
										time.Sleep(2 * idlerPatience)
									}
									if !each(m, err) {
										return
									}
									if m.Number == at && where == "after reading" {
										time.Sleep(2 * idlerPatience)
									}
								}
							}, at)
						})
					})
				}
			}
		}
	}
}

// TestUnsolicitedWithinABatch checks that data that a server sends while a loop pauses becomes part of no message.
func TestUnsolicitedWithinABatch(t *testing.T) {
	for _, noise := range []string{"+OK still there?\r\n", "-ERR 1\r\n+OK 2\r\n.\r\n"} {
		eachPause(t, noise, false, func(t *testing.T, c *Client, run func(func(m *Message, err error) bool), at int) {
			next := 1
			var failed error
			run(func(m *Message, err error) bool {
				if err != nil {
					failed = err
					return false
				}
				if m.Number != next && m.Number < pausedMessages {
					t.Errorf("message %d, want %d", m.Number, next)
				}
				next++
				readAll(t, m, nil, idlerMessage(m.Number))
				return true
			})
			if next != pausedMessages+1 {
				t.Errorf("%d messages", next-1)
			}
			if isSurplus(failed) {
				return
			}
			must(t, failed)
			must(t, c.Noop(background))
		})
	}
}

// isSurplus reports whether a pipelined batch found one response too many after all commands had been sent. It cannot
// know which one is unsolicited.
func isSurplus(err error) bool {
	protocol := new(ProtocolError)
	return errors.As(err, &protocol) && protocol.Reason == "more responses than commands"
}

// TestLastLineWithinABatch checks that the last line of a server that closes the connection is not taken for the
// refusal of a message.
func TestLastLineWithinABatch(t *testing.T) {
	for _, noise := range []string{"-ERR Disconnected for inactivity\r\n", "-ERR Disconnected for inactivity"} {
		eachPause(t, noise, true, func(t *testing.T, c *Client, run func(func(m *Message, err error) bool), at int) {
			read := 0
			var failed error
			run(func(m *Message, err error) bool {
				if err != nil {
					failed = err
					return false
				}
				readAll(t, m, nil, idlerMessage(m.Number))
				read++
				return true
			})
			if failed == nil && at == pausedMessages { // found by the next command
				failed = c.Noop(background)
			}
			if !isSurplus(failed) {
				wantError(t, failed, io.ErrUnexpectedEOF)
			}
			if isServerError(failed) || failed != nil && !strings.Contains(failed.Error(), strings.TrimSpace(noise)) {
				t.Errorf("error %v lacks the server's last line", failed)
			}
			if read < at || read > at+256 {
				t.Errorf("%d messages were read", read)
			}
			wantError(t, c.Noop(background), ErrClosed)
		})
	}
}

func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}
