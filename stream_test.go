package pop3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// dotted is a message with all cases of dot-stuffing, and dottedText is its text.
const (
	dotted = `
		C: RETR 1
		S: +OK dots follow
		S: Subject: dots
		S:
		S: ..
		S: ...
		S: .unstuffed by the server
		S- bare\n.\n..\nline feeds\r.\r\n
		S: .\r
		S:
		S: .`
	dottedText = "Subject: dots\r\n\r\n.\r\n..\r\n.unstuffed by the server\r\nbare\n.\n..\nline feeds\r.\r\n.\r\r\n\r\n"
)

func parseScript(t testing.TB, transcript string) *pop3test.Script {
	t.Helper()
	s, err := pop3test.ParseScript(transcript)
	must(t, err)
	return s
}

// readers are the ways to read a message.
var readers = map[string]func(m *Message) (string, error){
	"Read": func(m *Message) (string, error) {
		b, err := io.ReadAll(m)
		return string(b), err
	},
	"OneByteReader": func(m *Message) (string, error) {
		b, err := io.ReadAll(iotest.OneByteReader(m))
		return string(b), err
	},
	"WriteTo": func(m *Message) (string, error) {
		var b strings.Builder
		n, err := m.WriteTo(&b)
		if n != int64(b.Len()) {
			err = fmt.Errorf("WriteTo returns %d, wrote %d bytes", n, b.Len())
		}
		return b.String(), err
	},
	"Read, then WriteTo": func(m *Message) (string, error) {
		p := make([]byte, 3)
		n, err := io.ReadFull(m, p)
		if err != nil {
			return string(p[:n]), err
		}
		var b strings.Builder
		_, err = m.WriteTo(&b)
		return string(p) + b.String(), err
	},
}

func TestMessage(t *testing.T) {
	script := parseScript(t, "S: +OK"+dotted+`
		C: NOOP
		S: +OK`)
	for name, read := range readers {
		for _, dribble := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/dribble=%v", name, dribble), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := *script
					s.Dribble = dribble
					c := connect(t, nil, s.Play(t))
					m, err := c.Retr(background, 1)
					must(t, err)
					if m.Number != 1 || m.Status != "dots follow" {
						t.Errorf("Number %d, Status %q", m.Number, m.Status)
					}
					if got, err := read(m); got != dottedText || err != nil {
						t.Errorf("got %q, %v\nwant %q", got, err, dottedText)
					}
					for range 2 { // io.EOF is sticky
						if n, err := m.Read(make([]byte, 1)); n != 0 || err != io.EOF {
							t.Errorf("after the end: %d, %v", n, err)
						}
						if n, err := m.WriteTo(io.Discard); n != 0 || err != nil {
							t.Errorf("after the end: %d, %v", n, err)
						}
					}
					must(t, c.Noop(background)) // without Close
					must(t, m.Close())
					_, err = m.Read(make([]byte, 1))
					wantError(t, err, ErrClosed)
				})
			})
		}
	}
}

// A truncated message never looks complete, and no truncation causes a hang.
func TestMessageCut(t *testing.T) {
	script := parseScript(t, "S: +OK"+dotted)
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			for cut := len("+OK\r\n"); cut <= script.Octets(); cut++ {
				synctest.Test(t, func(t *testing.T) {
					s := *script
					s.Cut = cut
					start := time.Now()
					c := connect(t, nil, s.Play(t))
					var got string
					m, err := c.Retr(background, 1)
					if err == nil {
						got, err = read(m)
					}
					switch {
					case cut == script.Octets():
						if got != dottedText || err != nil {
							t.Errorf("complete: %q, %v", got, err)
						}
					case !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
						t.Errorf("cut at %d: read %q, error %v, want an unexpected EOF", cut, got, err)
					case !strings.HasPrefix(dottedText, got):
						t.Errorf("cut at %d: read %q", cut, got)
					}
					if m != nil && cut < script.Octets() {
						_, err := m.Read(make([]byte, 1))
						wantError(t, err, io.ErrUnexpectedEOF)
					}
					if err := c.Noop(background); err == nil || cut < script.Octets() {
						wantError(t, err, ErrClosed)
					}
					lasted(t, time.Since(start), 0)
				})
			}
		})
	}
}

// Closing the connection would undo every DELE.
func TestMessageCloseDrains(t *testing.T) {
	for read := range len(dottedText) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, dotted+`
				C: NOOP
				S: +OK`)
			m, err := c.Retr(background, 1)
			must(t, err)
			p := make([]byte, read)
			if _, err := io.ReadFull(m, p); err != nil || string(p) != dottedText[:read] {
				t.Errorf("read %q, %v", p, err)
			}
			must(t, m.Close())
			must(t, m.Close())
			_, err = m.Read(p[:])
			if read > 0 {
				wantError(t, err, ErrClosed)
			}
			_, err = m.WriteTo(io.Discard)
			wantError(t, err, ErrClosed)
			must(t, c.Noop(background))
		})
	}
}

func TestMessageCloseOverACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: +OK
			S: one
			!close`)
		m, err := c.Retr(background, 1)
		must(t, err)
		wantError(t, m.Close(), io.ErrUnexpectedEOF)
		wantError(t, c.Noop(background), ErrClosed, io.ErrUnexpectedEOF)
	})
}

// Close from another goroutine while WriteTo is blocked.
func TestMessageCloseDuringWriteTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: +OK
			S: one
			S: two
			S: .
			C: NOOP
			S: +OK`)
		m, err := c.Retr(background, 1)
		must(t, err)
		w := make(blockingWriter)
		written := stuckIn(w, m)
		if _, err := m.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("Read during WriteTo: %v", err)
		}
		must(t, m.Close())
		must(t, c.Noop(background))
		close(w)
		wantError(t, <-written, ErrClosed)
	})
}

// failingWriter accepts n bytes and then fails.
type failingWriter struct {
	bytes.Buffer
	n   int
	err error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.n)
	w.n -= n
	w.Buffer.Write(p[:n])
	if n < len(p) {
		return n, w.err
	}
	return n, nil
}

func TestWriteToFails(t *testing.T) {
	full := errors.New("disk full")
	for taken := range len(dottedText) {
		for err, want := range map[error]error{full: full, nil: io.ErrShortWrite} {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, dotted+`
					C: NOOP
					S: +OK`)
				m, openErr := c.Retr(background, 1)
				must(t, openErr)
				w := &failingWriter{n: taken, err: err}
				n, err := m.WriteTo(w)
				wantError(t, err, want)
				if n != int64(taken) || w.String() != dottedText[:taken] {
					t.Errorf("WriteTo: %d bytes, %q, want %q", n, w, dottedText[:taken])
				}
				readAll(t, m, nil, dottedText[taken:]) // the message is still open
				must(t, c.Noop(background))
			})
		}
	}
}

type panickingWriter struct{}

func (panickingWriter) Write([]byte) (int, error) { panic("no more") }

// If a Writer panics, the message can be closed and the session remains usable.
func TestWriteToPanics(t *testing.T) {
	c := dialogue(t, nil, `
		C: RETR 1
		S: +OK
		S: one
		S: .
		C: NOOP
		S: +OK`)
	m, err := c.Retr(background, 1)
	must(t, err)
	func() {
		defer func() {
			if got := recover(); got != "no more" {
				t.Errorf("recovered %v", got)
			}
		}()
		m.WriteTo(panickingWriter{})
	}()
	must(t, m.Close())
	must(t, c.Noop(background))
}

func TestLongMessage(t *testing.T) {
	const lines = 300_000
	const script = `
		C: RETR 1
		S: +OK
		!repeat 300000 .. 90 dots and no end
		S- x
		S: .`
	const line = ". 90 dots and no end\r\n"
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{MaxLineLength: 10}, script+`
			S: 
			S: .`)
		m, err := c.Retr(background, 1)
		must(t, err)
		want := strings.Repeat(line, lines) + "x.\r\n\r\n"
		var b strings.Builder
		n, err := m.WriteTo(&b)
		if err != nil || n != int64(len(want)) || b.String() != want {
			t.Errorf("WriteTo: %d bytes, %v; want %d", n, err, len(want))
		}
	})
}

// Lines of a message may have any length.
func TestLongLine(t *testing.T) {
	long := strings.Repeat("x", 500_000)
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, "\nC: RETR 1\nS: +OK\nS: "+long+"\nS: .")
		m, err := c.Retr(background, 1)
		readAll(t, m, err, long+"\r\n")
	})
}

func TestEmptyMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: +OK
			S: .
			C: TOP 1 0
			S: +OK
			S: .
			C: XLONG a b
			S: +OK and
			S: more
			S: .`)
		m, err := c.Retr(background, 1)
		must(t, err)
		if n, err := m.Read(nil); n != 0 || err != nil {
			t.Errorf("Read(nil) = %d, %v", n, err)
		}
		readAll(t, m, err, "")
		m, err = c.Top(background, 1, 0)
		readAll(t, m, err, "")
		m, err = c.CmdMultiline(background, "XLONG", "a", "b")
		readAll(t, m, err, "more\r\n")
		if m.Number != 0 || m.Status != "and" {
			t.Errorf("CmdMultiline: Number %d, Status %q", m.Number, m.Status)
		}
	})
}

// A malformed status line closes the session; -ERR does not.
func TestRefusedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: RETR 1
			S: -ERR [SYS/TEMP] not now
			C: RETR 2
			S: +OKAY
			!expect-close`)
		m, err := c.Retr(background, 1)
		if e := new(ServerError); m != nil || !errors.As(err, &e) || e.Command != "RETR 1" || e.Code != CodeSysTemp {
			t.Errorf("%v, %v", m, err)
		}
		if m, err := c.Retr(background, 2); m != nil || !isProtocolError(err) {
			t.Errorf("%v, %v, want a *ProtocolError", m, err)
		}
		wantError(t, c.Noop(background), ErrClosed)
	})
}
