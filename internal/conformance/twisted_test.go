package conformance

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// TestTwisted covers the features of Twisted's POP3Client, by its names for them.
func TestTwisted(t *testing.T) {
	// Of a server with two messages, the first with a dot to be stuffed.
	const first, second = "Subject: one\r\n\r\n.\r\n..b\r\n", "Subject: two\r\n\r\nc\r\nd\r\n"
	loggedIn := func(t *testing.T) *pop3.Client {
		return served(t, pop3test.NewUnstartedServer(pop3test.Messages(first, second)))
	}

	t.Run("connectionMade, state_WELCOME, serverGreeting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := script(t, pop3.Options{}, `
				!wait 1m
				S: +OK Hello!`)
			if c.Greeting() != "Hello!" {
				t.Errorf("greeting %q", c.Greeting())
			}
		})
	})
	t.Run("serverChallenge", func(t *testing.T) {
		if c := script(t, pop3.Options{}, "S: +OK Hello! "+rfcChallenge+" go on"); c.Challenge() != rfcChallenge {
			t.Errorf("challenge %q", c.Challenge())
		}
	})
	t.Run("startedTLS, startTLS", func(t *testing.T) {
		c := script(t, pop3.Options{}, "S: +OK"+listSTLS+"S: +OK\n!tls\nC: NOOP\nS: +OK")
		_, before := c.TLSConnectionState()
		must(t, c.StartTLS(background, nil))
		if _, after := c.TLSConnectionState(); before || !after {
			t.Errorf("TLS before: %v, after: %v", before, after)
		}
		must(t, c.Noop(background))
	})
	t.Run("allowInsecureLogin, login", func(t *testing.T) {
		for _, allow := range []bool{false, true} {
			transcript := "S: +OK\nC: CAPA\nS: -ERR"
			if allow {
				transcript += "\nC: USER u\nS: +OK\nC: PASS p\nS: +OK"
			}
			err := script(t, pop3.Options{AllowInsecureLogin: allow}, transcript).Login(background, "u", "p")
			if allow != (err == nil) || !allow && !errors.Is(err, pop3.ErrInsecureLogin) {
				t.Errorf("allowed: %v, error %v", allow, err)
			}
		}
	})
	t.Run("apop, user, password", func(t *testing.T) {
		c := script(t, pop3.Options{AllowInsecureLogin: true}, "S: +OK "+rfcChallenge+`
			C: USER mrose
			S: +OK
			C: PASS p q
			S: -ERR [AUTH]
			C: APOP mrose `+rfcDigest+`
			S: +OK`)
		must(t, c.User(background, "mrose"))
		wantRefusal(t, c.Pass(background, "p q"), "PASS ****", "")
		must(t, c.APOP(background, "mrose", "tanstaaf"))
	})
	t.Run("timeout, timeoutConnection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := dialogue(t, &pop3.Options{Timeout: time.Minute}, "\nC: NOOP\n!stall")
			start := time.Now()
			wantError(t, c.Noop(background), os.ErrDeadlineExceeded)
			if took := time.Since(start); took < time.Minute || took > time.Minute+time.Second {
				t.Errorf("took %v, want a minute", took)
			}
		})
	})
	t.Run("MAX_LENGTH, lineLengthExceeded", func(t *testing.T) {
		c := dialogue(t, &pop3.Options{MaxLineLength: 20}, "\nC: NOOP\nS: +OK 4567890123456789\nC: NOOP\nS: +OK 45678901234567890\n!expect-close")
		must(t, c.Noop(background))
		wantError(t, c.Noop(background), pop3.ErrLineTooLong)
	})
	t.Run("sendShort, state SHORT", func(t *testing.T) {
		c := dialogue(t, nil, "\nC: X a b\nS: +OK c d")
		if text, err := c.Cmd(background, "X", "a", "b"); text != "c d" || err != nil {
			t.Errorf("Cmd = %q, %v", text, err)
		}
	})
	t.Run("sendLong, states LONG_INITIAL and LONG, consumer", func(t *testing.T) {
		c := loggedIn(t)
		m, err := c.CmdMultiline(background, "RETR", "1")
		must(t, err)
		var b strings.Builder
		if n, err := io.Copy(&b, m); n != int64(len(first)) || err != nil || b.String() != first {
			t.Errorf("CmdMultiline reads %q, %d, %v", b.String(), n, err)
		}
	})
	t.Run("_blocked, _unblock, _blockedQueue, _waiting", func(t *testing.T) {
		c := loggedIn(t)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if n := i%2 + 1; n == 1 {
					m, err := c.Retr(background, n)
					readAll(t, m, err, first)
				} else if size, err := c.Size(background, n); size != int64(len(second)) || err != nil {
					t.Errorf("Size = %d, %v", size, err)
				}
			})
		}
		all.Wait()
	})
	t.Run("capabilities(useCache)", func(t *testing.T) {
		c := dialogue(t, nil, "\nC: CAPA\nS: +OK\nS: A b\nS: .\nC: CAPA\nS: +OK\nS: C\nS: .")
		for range 2 {
			if caps, err := c.Capabilities(background); !caps.Has("A") || err != nil {
				t.Errorf("Capabilities = %v, %v", caps, err)
			}
		}
		if caps, err := c.RefreshCapabilities(background); caps.Has("A") || !caps.Has("C") || err != nil {
			t.Errorf("RefreshCapabilities = %v, %v", caps, err)
		}
	})
	t.Run("stat", func(t *testing.T) {
		if n, size, err := loggedIn(t).Stat(background); n != 2 || size != int64(len(first+second)) || err != nil {
			t.Errorf("Stat = %d, %d, %v", n, size, err)
		}
	})
	t.Run("listSize, listUID", func(t *testing.T) {
		c := loggedIn(t)
		sizes, err := c.List(background)
		must(t, err)
		want := []int64{int64(len(first)), int64(len(second))}
		for e := range sizes.C() {
			if e.Size != want[e.Number-1] {
				t.Errorf("message %d: %d bytes", e.Number, e.Size)
			}
			uid, err := c.UID(background, e.Number) // the consumer may use the session
			if uid == "" || err != nil {
				t.Errorf("UID = %q, %v", uid, err)
			}
		}
		must(t, sizes.Err())
		uids, err := c.UIDL(background)
		must(t, err)
		count := 0
		for u, err := range uids.All() {
			must(t, err)
			if count++; u.Number != count || u.ID == "" {
				t.Errorf("entry %d: %+v", count, u)
			}
		}
		if count != 2 {
			t.Errorf("%d unique-ids", count)
		}
	})
	t.Run("retrieve(index, lines)", func(t *testing.T) {
		c := loggedIn(t)
		m, err := c.Retr(background, 1)
		readAll(t, m, err, first)
		m, err = c.Top(background, 2, 1)
		readAll(t, m, err, "Subject: two\r\n\r\nc\r\n")
		m, err = c.Top(background, 2, 0)
		readAll(t, m, err, "Subject: two\r\n\r\n")
	})
	t.Run("delete, reset, noop, quit", func(t *testing.T) {
		srv := pop3test.NewUnstartedServer(pop3test.Messages(first, second))
		c := served(t, srv)
		must(t, c.Dele(background, 1))
		must(t, c.Rset(background))
		must(t, c.Dele(background, 2))
		must(t, c.Noop(background))
		must(t, c.Quit(background))
		if srv.Close(); len(srv.Deleted()) != 1 || len(srv.Remaining()) != 1 {
			t.Errorf("deleted: %q, remaining: %q", srv.Deleted(), srv.Remaining())
		}
	})
	t.Run("connectionLost", func(t *testing.T) {
		c := dialogue(t, nil, "\nC: NOOP\n!close")
		wantError(t, c.Noop(background), io.ErrUnexpectedEOF)
		wantError(t, c.Noop(background), pop3.ErrClosed, net.ErrClosed, io.ErrUnexpectedEOF)
	})
	t.Run("ServerErrorResponse", func(t *testing.T) {
		wantRefusal(t, loggedIn(t).Dele(background, 9), "DELE 9", "no such message")
	})
	t.Run("TLSError", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := script(t, pop3.Options{}, "S: +OK"+listSTLS+"S: +OK\n!stall")
			ctx, cancel := context.WithTimeout(background, time.Second)
			defer cancel()
			wantError(t, c.StartTLS(ctx, nil), context.DeadlineExceeded)
			wantError(t, c.Noop(background), pop3.ErrClosed)
		})
	})
	t.Run("TLSNotSupportedError", func(t *testing.T) {
		wantError(t, loggedIn(t).StartTLS(background, nil), pop3.ErrTLSNotSupported)
	})
	t.Run("InsecureAuthenticationDisallowed", func(t *testing.T) {
		wantError(t, dialogue(t, nil, "").Pass(background, "p"), pop3.ErrInsecureLogin)
	})
}
