package pop3

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// A forgotten Close must not lose deletions.
func TestQuitDrainsOpenMessage(t *testing.T) {
	const transcript = `
		C: DELE 1
		S: +OK
		C: RETR 2
		S: +OK
		S: two
		S: .. and more
		S: .
		C: QUIT
		S: +OK bye
		!close`
	t.Run("Read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, transcript)
			must(t, c.Dele(background, 1))
			m, err := c.Retr(background, 2)
			must(t, err)
			if _, err := m.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			must(t, c.Quit(background))
			_, err = m.Read(make([]byte, 1))
			wantError(t, err, ErrClosed)
			wantError(t, m.Close(), ErrClosed)
		})
	})
	t.Run("Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, nil, transcript)
			must(t, c.Dele(background, 1))
			m, err := c.Retr(background, 2)
			must(t, err)
			must(t, c.Quit(background))
			must(t, m.Close())
			_, err = m.Read(make([]byte, 1))
			wantError(t, err, ErrClosed)
		})
	})
	for name, response := range map[string]string{
		"WriteTo": `
			S: +OK
			S: two
			S: .. and more
			S: .`,
		"WriteTo of the last bytes": `
			S: +OK\r\nall of it\r\n.`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, "\nC: RETR 2"+response+`
					C: QUIT
					S: +OK bye
					!close`)
				m, err := c.Retr(background, 2)
				must(t, err)
				w := make(blockingWriter)
				written := stuckIn(w, m)
				must(t, c.Quit(background))
				close(w)
				wantError(t, <-written, ErrClosed)
			})
		})
	}
}

// The buffer that a Writer has borrowed does not change while the rest of the message is discarded.
func TestDrainKeepsWriterBuffer(t *testing.T) {
	for name, discard := range map[string]func(c *Client, m *Message) error{
		"Quit":  func(c *Client, m *Message) error { return c.Quit(background) },
		"Close": func(c *Client, m *Message) error { return errors.Join(m.Close(), c.Quit(background)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, `
					C: RETR 1
					S: +OK
					S: aaaaaaaa
					!repeat 20000 bbbbbbbb
					S: .
					C: QUIT
					S: +OK
					!close`)
				m, err := c.Retr(background, 1)
				must(t, err)
				w := &lateWriter{wake: make(chan struct{})}
				written := stuckIn(w, m)
				must(t, discard(c, m))
				close(w.wake)
				wantError(t, <-written, ErrClosed)
				if want := "aaaaaaaa\r\n"; w.got != want {
					t.Errorf("wrote %.40q, want %q", w.got, want)
				}
			})
		})
	}
}

// lateWriter reads its input long after Write was called.
type lateWriter struct {
	wake chan struct{}
	got  string
}

func (w *lateWriter) Write(p []byte) (int, error) {
	<-w.wake
	w.got += string(p)
	return len(p), nil
}

// Quit's ctx applies while it waits for the rest of a message that arrives slowly, or never.
func TestQuitContextBoundsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, &Options{Timeout: -1}, `
			C: RETR 1
			S: +OK
			S: one
			!stall`)
		m, err := c.Retr(background, 1)
		must(t, err)
		ctx, cancel := context.WithTimeout(background, time.Minute)
		defer cancel()
		wantError(t, c.Quit(ctx), context.DeadlineExceeded)
		_, err = m.Read(make([]byte, 1))
		wantError(t, err, ErrClosed)
		must(t, c.Close())
		wantError(t, c.Quit(background), ErrClosed)
	})
}

func TestQuit(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		check        func(t *testing.T, err error)
	}{
		{"committed", "S: +OK bye\n!expect-close", func(t *testing.T, err error) { must(t, err) }},
		{"some kept", "S: -ERR [SYS/TEMP] some messages not removed\n!expect-close", func(t *testing.T, err error) {
			refusedWith("QUIT", "some messages not removed")(t, err)
			if e := new(ServerError); !errors.As(err, &e) || !e.Temporary() {
				t.Errorf("error %v, want a temporary *ServerError", err)
			}
		}},
		{"unknown", "!close", func(t *testing.T, err error) {
			wantError(t, err, io.ErrUnexpectedEOF)
			if isServerError(err) {
				t.Errorf("unknown outcome reported as a refusal: %v", err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialogue(t, nil, "\nC: DELE 1\nS: +OK\nC: QUIT\n"+tt.answer)
				must(t, c.Dele(background, 1))
				tt.check(t, c.Quit(background))
				wantError(t, c.Noop(background), ErrClosed)
				wantError(t, c.Quit(background), ErrClosed)
				must(t, c.Close())
			})
		})
	}
}

// Data that arrived before QUIT never counts as its response, however short the pause was.
func TestQuitProbesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialogue(t, nil, `
			C: DELE 1
			S: +OK
			S: +OK noise
			C: QUIT
			S: -ERR some deleted messages not removed
			!close`)
		must(t, c.Dele(background, 1))
		synctest.Wait()
		refusedWith("QUIT", "some deleted messages not removed")(t, c.Quit(background))
	})
}
