package interop

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/interop/servers"
)

var (
	update = flag.Bool("update", false, "write MATRIX.md from this run")
	only   = flag.String("server", "", "test this server alone")
)

// TestMain runs all servers at the same time, since they are idle most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "16")
	os.Exit(m.Run())
}

// A conformance case. Its name is a row of the matrix.
type testCase struct {
	name string
	run  func(*env)
}

var testCases = slices.Concat(connecting, loggingIn, mechanisms, reading, deleting, sharing, batches, sizes, fetching)

// TestServers runs every case against every server. The servers run in parallel. The cases of one server run one after
// the other, each with its own user.
func TestServers(t *testing.T) {
	var m matrix
	t.Run("all", func(t *testing.T) {
		for _, name := range servers.Names() {
			if *only != "" && *only != name {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := servers.Start(t, name)
				for _, tc := range testCases {
					t.Run(tc.name, func(t *testing.T) {
						ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
						defer cancel()
						e := &env{T: t, Server: s, ctx: ctx}
						defer func() { m.set(name, tc.name, e) }()
						tc.run(e)
					})
				}
			})
		}
	})
	if *update && *only == "" && !t.Failed() {
		m.write(t, "MATRIX.md")
	}
}

// env is one case at one server.
type env struct {
	*testing.T
	*servers.Server
	ctx     context.Context
	missing bool     // the server does not offer it
	notes   []string // remarks for the matrix
}

// lacks ends the case: the server does not support it.
func (e *env) lacks() {
	e.Helper()
	e.missing = true
	e.SkipNow()
}

// note adds a remark to the cell of the matrix.
func (e *env) note(text string) {
	if !slices.Contains(e.notes, text) {
		e.notes = append(e.notes, text)
	}
}

func (e *env) options() *pop3.Options {
	return &pop3.Options{TLSConfig: e.TLSConfig(), AllowInsecureLogin: true}
}

// dial connects without TLS.
func (e *env) dial() *pop3.Client {
	e.Helper()
	c, err := pop3.Dial(e.ctx, e.Addr, e.options())
	return e.opened(c, err)
}

// dialTLS connects to the port for TLS.
func (e *env) dialTLS() *pop3.Client {
	e.Helper()
	c, err := pop3.DialTLS(e.ctx, e.TLSAddr, e.options())
	return e.opened(c, err)
}

func (e *env) opened(c *pop3.Client, err error) *pop3.Client {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { c.Close() })
	return c
}

// login opens a session of user without TLS. A server that locks the mailbox may take a moment to notice that the last
// session was dropped.
func (e *env) login(user string) *pop3.Client {
	e.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c := e.dial()
		err := c.User(e.ctx, user)
		if err == nil {
			err = c.Pass(e.ctx, e.Password(user))
		}
		if err == nil {
			return c
		}
		if refused, ok := as[*pop3.ServerError](err); !ok || !refused.Temporary() || time.Now().After(deadline) {
			e.Fatalf("%s: %v", user, err)
		}
		c.Close()
	}
}

// left opens a session of user that finds n messages. Courier responds to QUIT before it deletes, so a session that
// begins right after the response may still find the deleted messages.
func (e *env) left(user string, n int) *pop3.Client {
	e.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c := e.login(user)
		got := e.count(c)
		if got == n {
			return c
		}
		if time.Now().After(deadline) {
			e.Fatalf("%d messages left, want %d", got, n)
		}
		c.Close()
	}
}

// open is login as a new user with these messages.
func (e *env) open(messages ...string) (c *pop3.Client, user string) {
	e.Helper()
	user = e.NewUser(e.T, messages...)
	return e.login(user), user
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// refused fails the case unless err is the server's -ERR.
func (e *env) refused(err error) *pop3.ServerError {
	e.Helper()
	refused, ok := as[*pop3.ServerError](err)
	if !ok {
		e.Fatalf("got %v, want -ERR", err)
	}
	return refused
}

// text reads a message to its end.
func (e *env) text(m *pop3.Message, err error) string {
	e.Helper()
	e.must(err)
	text, err := io.ReadAll(m)
	e.must(err)
	return e.message(text)
}

// message is a message without the text that the server appends.
func (e *env) message(text []byte) string {
	if e.Separator {
		text = bytes.TrimSuffix(text, []byte("\r\n"))
	}
	return string(text)
}

// count asks for the number of messages.
func (e *env) count(c *pop3.Client) int {
	e.Helper()
	n, _, err := c.Stat(e.ctx)
	e.must(err)
	return n
}

// some are n short messages, as stored.
func some(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = header("some", i+1) + "\nbody of message " + strings.Repeat("x", i) + "\n"
	}
	return texts
}

// as is like errors.As, but returns the target.
func as[T error](err error) (target T, ok bool) {
	ok = errors.As(err, &target)
	return target, ok
}
