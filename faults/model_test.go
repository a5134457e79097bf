package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/internal/dovecot"
	"github.com/seed-5b1d5243/pop3/pop3test"
	"pgregory.net/rapid"
)

// model is a maildrop as RFC 1939 describes it.
type model struct {
	texts, uids []string
	marked      []bool
}

func newModel(texts, uids []string) *model {
	return &model{texts, uids, make([]bool, len(texts))}
}

func (m *model) has(n int) bool { return n >= 1 && n <= len(m.texts) && !m.marked[n-1] }

// numbers returns the numbers of the messages that are not marked.
func (m *model) numbers() (numbers []int) {
	for i := range m.texts {
		if !m.marked[i] {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

func (m *model) size() (total int64) {
	for _, n := range m.numbers() {
		total += int64(len(m.texts[n-1]))
	}
	return total
}

// top returns the response to TOP for a message.
func (m *model) top(n, lines int) string {
	header, body, _ := strings.Cut(m.texts[n-1], "\r\n\r\n")
	all := strings.SplitAfter(body, "\r\n")
	return header + "\r\n\r\n" + strings.Join(all[:min(lines, len(all))], "")
}

// commit is QUIT.
func (m *model) commit() *model {
	var texts, uids []string
	for _, n := range m.numbers() {
		texts, uids = append(texts, m.texts[n-1]), append(uids, m.uids[n-1])
	}
	return newModel(texts, uids)
}

// op is a step of a random sequence.
type op struct {
	Do      string
	N, K    int
	Numbers []int
}

// machine runs steps against a server and the model, which must agree.
type machine struct {
	model  *model
	dial   func() (net.Conn, error)
	opts   *pop3.Options
	user   string
	secret string
	refuse *atomic.Bool // whether the server refuses QUIT; if nil, never

	conn  *faultConn
	c     *pop3.Client
	armed kind // the fault that may have happened
}

func (m *machine) connect() error {
	conn, err := m.dial()
	if err != nil {
		return err
	}
	m.conn = newFaultConn(conn, fault{})
	m.armed = nothing
	clear(m.model.marked)
	if m.c, err = pop3.NewClient(background, m.conn, m.opts); err != nil {
		return err
	}
	return m.c.Login(background, m.user, m.secret)
}

// errLost ends a step whose session a fault, or the step itself, has ended.
var errLost = errors.New("session lost")

// agree checks that the server refuses exactly if the model refuses. Once a fault is armed, the connection may be lost.
func (m *machine) agree(err error, allowed bool) error {
	switch {
	case err == nil && allowed, err != nil && !allowed && errors.As(err, new(*pop3.ServerError)):
		return nil
	case err != nil && becauseOf(m.armed, err):
		return errLost
	}
	return brokenf("%v; the model allows it: %v", err, allowed)
}

// text checks that the message is complete and equal to the model's.
func (m *machine) text(msg *pop3.Message, err error, allowed bool, want func() string) error {
	if err := m.agree(err, allowed); err != nil || !allowed {
		return err
	}
	got, err := io.ReadAll(msg)
	if err := m.agree(err, true); err != nil {
		return err
	}
	if string(got) != want() {
		return brokenf("message %d reads %q, want %q", msg.Number, got, want())
	}
	return nil
}

func (m *machine) retr(n int) error {
	msg, err := m.c.Retr(background, n)
	return m.text(msg, err, m.model.has(n), func() string { return m.model.texts[n-1] })
}

func (m *machine) dele(n int) error {
	has := m.model.has(n)
	err := m.agree(m.c.Dele(background, n), has)
	if err == nil && has {
		m.model.marked[n-1] = true
	}
	return err
}

func (m *machine) refuses() bool { return m.refuse != nil && m.refuse.Load() }

// step runs one step.
func (m *machine) step(o op) error {
	ctx, has := background, m.model.has(o.N)
	switch o.Do {
	case "stat":
		count, size, err := m.c.Stat(ctx)
		if err := m.agree(err, true); err != nil {
			return err
		}
		if count != len(m.model.numbers()) || size != m.model.size() {
			return brokenf("%d %d, want %d %d", count, size, len(m.model.numbers()), m.model.size())
		}
	case "list", "list and retr", "list and dele":
		want := m.model.numbers()
		l, err := m.c.List(ctx)
		if err := m.agree(err, true); err != nil {
			return err
		}
		var got []int
		for e := range l.C() {
			got = append(got, e.Number)
			if !m.model.has(e.Number) || e.Size != int64(len(m.model.texts[e.Number-1])) {
				return brokenf("%v", e)
			}
			switch {
			case o.Do == "list and retr":
				err = m.retr(e.Number)
			case o.Do == "list and dele" && e.Number%2 == o.K%2:
				err = m.dele(e.Number)
			}
			if err != nil {
				return err
			}
		}
		if err := m.agree(l.Err(), true); err != nil {
			return err
		}
		if !slices.Equal(got, want) {
			return brokenf("%v, want %v", got, want)
		}
	case "uidl", "stop":
		l, err := m.c.UIDL(ctx)
		if err := m.agree(err, true); err != nil {
			return err
		}
		var got []int
		for u, err := range l.All() {
			if err := m.agree(err, true); err != nil {
				return err
			}
			got = append(got, u.Number)
			if !m.model.has(u.Number) || u.ID != m.model.uids[u.Number-1] {
				return brokenf("%v", u)
			}
			if o.Do == "stop" && len(got) == o.K {
				return nil
			}
		}
		if !slices.Equal(got, m.model.numbers()) {
			return brokenf("%v, want %v", got, m.model.numbers())
		}
	case "size":
		size, err := m.c.Size(ctx, o.N)
		if err == nil && has && size != int64(len(m.model.texts[o.N-1])) {
			return brokenf("%d", size)
		}
		return m.agree(err, has)
	case "uid":
		uid, err := m.c.UID(ctx, o.N)
		if err == nil && has && uid != m.model.uids[o.N-1] {
			return brokenf("%q", uid)
		}
		return m.agree(err, has)
	case "retr":
		return m.retr(o.N)
	case "top":
		msg, err := m.c.Top(ctx, o.N, o.K)
		return m.text(msg, err, has, func() string { return m.model.top(o.N, o.K) })
	case "close message":
		msg, err := m.c.Retr(ctx, o.N)
		if err := m.agree(err, has); err != nil || !has {
			return err
		}
		_, err = io.CopyN(io.Discard, msg, int64(o.K))
		if err != io.EOF {
			if err := m.agree(err, true); err != nil {
				return err
			}
		}
		return m.agree(msg.Close(), true)
	case "dele":
		return m.dele(o.N)
	case "deleall":
		allowed := true
		for _, n := range o.Numbers {
			if !m.model.has(n) {
				allowed = false
			} else {
				m.model.marked[n-1] = true
			}
		}
		err := m.c.DeleAll(ctx, o.Numbers)
		if joined, ok := err.(interface{ Unwrap() []error }); ok { // the error that closed the session comes last
			all := joined.Unwrap()
			err = all[len(all)-1]
		}
		return m.agree(err, allowed)
	case "retrall", "topall":
		messages, text := m.c.RetrAll(ctx, o.Numbers), func(n int) string { return m.model.texts[n-1] }
		if o.Do == "topall" {
			messages, text = m.c.TopAll(ctx, o.Numbers, o.K%3), func(n int) string { return m.model.top(n, o.K%3) }
		}
		i := 0
		for msg, err := range messages {
			if err := m.agree(err, true); err != nil {
				return err
			}
			n := o.Numbers[i]
			if msg.Number != n {
				return brokenf("message %d, want %d", msg.Number, n)
			}
			got, err := io.ReadAll(msg)
			if err := m.agree(err, m.model.has(n)); err != nil {
				return err
			}
			if err == nil && m.model.has(n) && string(got) != text(n) {
				return brokenf("message %d reads %q", n, got)
			}
			if i++; i == o.K {
				return nil
			}
		}
		if i != len(o.Numbers) {
			return brokenf("%d messages of %d", i, len(o.Numbers))
		}
	case "rset":
		err := m.agree(m.c.Rset(ctx), true)
		if err == nil {
			clear(m.model.marked)
		}
		return err
	case "refuse":
		if m.refuse != nil {
			m.refuse.Store(!m.refuse.Load())
		}
	case "quit":
		if m.armed != nothing { // the outcome would be unknown
			return nil
		}
		if err := m.agree(m.c.Quit(ctx), !m.refuses()); err != nil {
			return err
		}
		if !m.refuses() {
			m.model = m.model.commit()
		}
		return errLost
	case "noop":
		return m.agree(m.c.Noop(ctx), true)
	case "capa":
		_, err := m.c.RefreshCapabilities(ctx)
		return m.agree(err, true)
	case "done before":
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if err := m.c.Dele(gone, 1); !errors.Is(err, context.Canceled) && !errors.Is(err, pop3.ErrClosed) {
			return brokenf("%v", err)
		}
	case "close":
		m.c.Close()
		return errLost
	case "fault":
		if m.armed != nothing { // one for each session
			return nil
		}
		m.armed = []kind{cut, reset, halfClose, stall, lose}[o.K%5]
		if m.opts.Timeout != patience && (m.armed == stall || m.armed == lose) {
			m.armed = cut // on a real clock
		}
		m.conn.arm(fault{kind: m.armed, up: o.Numbers != nil && m.armed != halfClose || m.armed == lose, after: 1 + 7*o.N, single: o.K%2 == 0})
	}
	return nil
}

// run runs all steps and ends with QUIT. It returns the possible contents of the maildrop.
func (m *machine) run(ops []op) (left []*model, err error) {
	if err := m.connect(); err != nil {
		return nil, err
	}
	defer func() { m.c.Close() }()
	for i, o := range ops {
		err := m.step(o)
		if err == errLost {
			if err := m.c.Noop(background); !errors.Is(err, pop3.ErrClosed) {
				return nil, fmt.Errorf("step %d %+v: afterwards NOOP says %v", i, o, err)
			}
			m.c.Close()
			err = m.connect()
		}
		if err != nil {
			return nil, fmt.Errorf("step %d %+v: %w", i, o, err)
		}
	}
	after := m.model.commit()
	if m.refuses() {
		after = m.model
	}
	switch err := m.agree(m.c.Quit(background), !m.refuses()); err {
	case nil:
		return []*model{after}, nil
	case errLost: // unknown
		return []*model{m.model, after}, nil
	default:
		return nil, fmt.Errorf("QUIT: %w", err)
	}
}

var steps = []string{
	"stat", "list", "list and retr", "list and dele", "uidl", "stop", "size", "uid", "retr", "top", "close message", "dele", "dele", "deleall",
	"retrall", "topall", "rset", "noop", "capa", "done before", "close", "fault", "fault", "refuse", "quit",
}

// sequence draws a maildrop and steps for it.
func sequence(t *rapid.T) (texts []string, ops []op) {
	line := rapid.SampledFrom([]string{"", ".", "..", ".a", "text", strings.Repeat("long ", 300)})
	message := rapid.Custom(func(t *rapid.T) string {
		lines := rapid.SliceOfN(line, 0, 5).Draw(t, "lines")
		return "Subject: x\r\n\r\n" + strings.Join(append(lines, ""), "\r\n")
	})
	number := rapid.IntRange(1, 7)
	step := rapid.Custom(func(t *rapid.T) op {
		return op{
			Do: rapid.SampledFrom(steps).Draw(t, "do"), N: number.Draw(t, "n"), K: rapid.IntRange(0, 9).Draw(t, "k"),
			Numbers: rapid.SliceOfN(number, 0, 5).Draw(t, "numbers"),
		}
	})
	return rapid.SliceOfN(message, 0, 6).Draw(t, "messages"), rapid.SliceOfN(step, 12, 60).Draw(t, "steps")
}

// TestModel compares random sequences, with faults, on pop3test with the model. Each runs in a bubble.
func TestModel(t *testing.T) {
	sequences, ran := 0, 0
	check := func(r *rapid.T) {
		texts, ops := sequence(r)
		sequences++
		ran += len(ops)
		var err error
		synctest.Test(t, func(*testing.T) {
			srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
			defer srv.Close()
			srv.STLS = false
			var refuse atomic.Bool
			srv.Refuse = func(verb string, _ int) string {
				if verb == "QUIT" && refuse.Load() {
					return "not now"
				}
				return ""
			}
			m := &machine{
				model: newModel(texts, srv.Remaining()), user: "user", secret: "secret",
				dial: func() (net.Conn, error) { return srv.Pipe(), nil },
				opts: &pop3.Options{AllowInsecureLogin: true, Timeout: patience}, refuse: &refuse,
			}
			var left []*model
			if left, err = m.run(ops); err == nil {
				got := srv.Remaining()
				if !slices.ContainsFunc(left, func(l *model) bool { return slices.Equal(l.uids, got) }) {
					err = brokenf("%v is left, want %v", got, left[0].uids)
				}
			}
		})
		if err != nil {
			r.Fatal(err)
		}
	}
	for range 20 { // of -rapid.checks sequences each
		rapid.Check(t, check)
	}
	t.Logf("%d sequences, %d steps", sequences, ran)
}

// TestDovecotModel does the same with Dovecot, over TCP.
func TestDovecotModel(t *testing.T) {
	const users = 2000
	srv := dovecot.Start(t, dovecot.Options{Users: users})
	sequences, ran := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		texts, ops := sequence(r)
		sequences++
		if sequences > users {
			r.Skip("no maildrop is left")
		}
		if testing.Short() && sequences > 30 {
			return
		}
		ran += len(ops)
		user := fmt.Sprint("u", sequences)
		srv.Deliver(user, texts...)
		m := &machine{
			user: user, secret: srv.Password(user),
			dial: func() (net.Conn, error) { return net.Dial("tcp", srv.Addr) },
			opts: &pop3.Options{AllowInsecureLogin: true, TLSConfig: srv.TLSConfig(), Timeout: time.Minute},
		}
		uids, err := m.uids()
		if err != nil || len(uids) != len(texts) {
			r.Fatalf("%d messages are listed, %d were delivered: %v", len(uids), len(texts), err)
		}
		m.model = newModel(texts, uids)
		left, err := m.run(ops)
		if err != nil {
			r.Fatal(err)
		}
		if len(left) > 1 {
			return // Dovecot may not have finished yet
		}
		if got, err := m.uids(); err != nil || !slices.Equal(got, left[0].uids) {
			r.Fatalf("%v is left, want %v; %v", got, left[0].uids, err)
		}
	})
	t.Logf("%d sequences, %d steps", min(sequences, users), ran)
}

// uids lists the maildrop in a separate session.
func (m *machine) uids() (uids []string, err error) {
	conn, err := m.dial()
	if err != nil {
		return nil, err
	}
	c, err := pop3.NewClient(background, conn, m.opts)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Login(background, m.user, m.secret); err != nil {
		return nil, err
	}
	l, err := c.UIDL(background)
	if err != nil {
		return nil, err
	}
	for u, err := range l.All() {
		if err != nil {
			return nil, err
		}
		uids = append(uids, u.ID)
	}
	return uids, c.Quit(background)
}
