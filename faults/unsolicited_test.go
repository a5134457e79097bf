package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

// says checks a response.
func says(want string) func(string, error) error {
	return func(text string, err error) error {
		if err == nil && text != want {
			err = brokenf("the answer is %q, want %q", text, want)
		}
		return err
	}
}

// refusedWith checks a refusal.
func refusedWith(err error, text string) error {
	var no *pop3.ServerError
	switch {
	case err == nil:
		return brokenf("no refusal, want %q", text)
	case errors.As(err, &no) && no.Text == text:
		return nil
	case no != nil:
		return brokenf("refused with %q, want %q", no.Text, text)
	}
	return err
}

// reads checks a message.
func reads(m *pop3.Message, err error) error {
	if err != nil {
		return err
	}
	text, err := io.ReadAll(m)
	if want := drop[m.Number-1]; err == nil && string(text) != want {
		err = brokenf("message %d reads %q, want %q", m.Number, text, want)
	}
	return err
}

// readsAll checks messages; those that are not in the maildrop must be refused.
func readsAll(pause func(), messages iter.Seq2[*pop3.Message, error], numbers ...int) error {
	n := 0
	for m, err := range messages {
		switch {
		case err != nil:
			return err
		case n == len(numbers) || m.Number != numbers[n]:
			return brokenf("the batch yields message %d", m.Number)
		case m.Number > len(drop):
			_, err = io.ReadAll(m)
			err = refusedWith(err, fmt.Sprint("no message ", m.Number))
		default:
			err = reads(m, nil)
		}
		if err != nil {
			return err
		}
		n++
		pause()
	}
	if n < len(numbers) {
		return brokenf("the batch ends after %d messages", n)
	}
	return nil
}

// route is how a client is connected.
type route struct {
	name    string
	bubble  bool // over net.Pipe; otherwise over TCP
	tls     bool // implicit TLS
	connect func(route net.Conn, opts *pop3.Options) (*pop3.Client, error)
}

func given(conn net.Conn, opts *pop3.Options) (*pop3.Client, error) {
	return pop3.NewClient(background, conn, opts)
}

func dialedTLS(conn net.Conn, opts *pop3.Options) (*pop3.Client, error) {
	opts.Dialer = dialed{conn}
	return pop3.DialTLS(background, "localhost", opts)
}

func givenTLS(conn net.Conn, opts *pop3.Options) (*pop3.Client, error) {
	return pop3.NewClient(background, tls.Client(conn, opts.TLSConfig), opts)
}

// Connections at which a look takes a wait are met in bubbles alone: on a busy machine it may end too early.
var routes = []route{
	{"pipe", true, false, given},
	{"TLS on a pipe", true, true, dialedTLS},
	{"a tls.Conn on a pipe", true, true, givenTLS},
	{"TCP", false, false, given},
	{"TCP in blocking mode", false, false, func(conn net.Conn, opts *pop3.Options) (*pop3.Client, error) {
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			return nil, err
		}
		file.Fd()
		file.Close()
		return given(conn, opts)
	}},
	{"TLS", false, true, dialedTLS},
}

// unsolicited is the data that a server sends without a command in flight.
var unsolicited = []string{
	"+OK 1 1\r\n",
	"-ERR Disconnected for inactivity\r\n",
	"+OK still there?\r\nSubject: no message\r\n.\r\n",
	"-ERR cut",
	"\r\n",
	"+ \r\n",
}

// lineByLine is a connection of which each Read returns at most one line, as if each line were a packet.
type lineByLine struct {
	net.Conn
	rest []byte
}

func (c *lineByLine) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		buf := make([]byte, 4096)
		n, err := c.Conn.Read(buf)
		if c.rest = buf[:n]; err != nil {
			return 0, err
		}
	}
	line := c.rest
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	n := copy(p, line)
	c.rest = c.rest[n:]
	return n, nil
}

// alwaysProbed are the commands before which a client probes even if the last response ended just now. It also does so
// before the first command, and before each command of a batch that goes one at a time.
var alwaysProbed = []string{"PASS", "APOP", "AUTH", "QUIT"}

// visit is a session with unsolicited data.
type visit struct {
	route
	steps      []step
	pipelining bool // the server lists it
	text       string
	closes     bool
	at         int  // the point at which the data arrives
	attached   bool // it is written together with a response, and read separately
	hurries    bool // it arrives where a client must always probe, and the next command follows at once
}

func (v visit) String() string {
	return fmt.Sprintf("%s, pipelining %v: %q at %d (closes: %v, attached: %v, hurries: %v)", v.route.name, v.pipelining, v.text, v.at, v.closes, v.attached, v.hurries)
}

// journal counts log records.
type journal struct {
	mu sync.Mutex
	n  int
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Level >= slog.LevelWarn {
		j.n++
	}
	return nil
}

// play runs the session, and reports whether the point was reached.
func (v visit) play(t *testing.T) (reached bool) {
	t.Helper()
	s := &idler{pipelining: v.pipelining, config: serverTLS()}
	if v.attached {
		s.after, s.more, s.closes = v.at, v.text, v.closes
	}
	client, server := net.Pipe()
	if !v.bubble {
		client, server = tcpPair(t)
	}
	defer client.Close()
	s.raw, s.conn = server, server
	if v.tls {
		s.conn = tls.Server(server, s.config)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	defer func() {
		client.Close()
		server.Close()
		<-done
	}()
	log := new(journal)
	opts := &pop3.Options{AllowInsecureLogin: true, TLSConfig: &tls.Config{InsecureSkipVerify: true}, Logger: slog.New(log)}
	conn := client
	if v.attached {
		conn = &lineByLine{Conn: client}
	}
	var c *pop3.Client
	connecting := start(func() (err error) { c, err = v.connect(conn, opts); return err })
	if !connecting.ends(t, fmt.Sprintf("%v: connecting", v)) || connecting.err != nil {
		t.Errorf("%v: %v", v, connecting.err)
		return false
	}
	defer func() { start(c.Close).ends(t, fmt.Sprintf("%v: Close", v)) }()

	points := 0
	pause := func(always bool) {
		if v.hurries && !always {
			return
		}
		if points++; points == v.at && !v.attached {
			reached = true
			v.interrupt(s, client)
		}
		if (reached || v.attached) && !v.hurries {
			time.Sleep(time.Millisecond) // the pause after which a client must probe
		}
	}
	for i, step := range v.steps {
		always := i == 0 || slices.ContainsFunc(alwaysProbed, func(verb string) bool { return strings.HasPrefix(step.name, verb) })
		batch := strings.HasSuffix(step.name, "All")
		pause(always || batch && !v.pipelining)
		within := func() {
			if !batch || !v.pipelining { // otherwise commands are in flight
				pause(batch)
			}
		}
		call := start(func() error { return step.do(c, within) })
		if !call.ends(t, fmt.Sprintf("%v: %s", v, step.name)) {
			return reached
		}
		err := call.err
		if v.attached {
			s.mu.Lock()
			reached = s.happens
			s.mu.Unlock()
		}
		if err != nil {
			v.judge(t, step.name, err, reached)
			return reached
		}
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if last := v.attached && s.answers == v.at; reached && !last && log.n == 0 {
		t.Errorf("%v: not noticed", v)
	}
	return reached
}

// interrupt sends unsolicited data while no command is in flight, and returns when it has arrived.
func (v visit) interrupt(s *idler, client net.Conn) {
	s.rests()
	say := func() {
		s.say(v.text)
		if v.closes {
			s.hangUp()
		}
	}
	if v.bubble {
		go say()
		synctest.Wait()
		return
	}
	say()
	octets := len(v.text)
	if v.tls {
		octets += recordLength - 1
	}
	arrived(client.(*net.TCPConn), octets)
}

// judge checks that the error of a step is that of a closed session and quotes the server's last line.
func (v visit) judge(t *testing.T, step string, err error, reached bool) {
	t.Helper()
	lines := strings.Fields(v.text)
	last := ""
	if len(lines) > 0 {
		last = lines[len(lines)-1]
	}
	switch {
	case errors.As(err, new(*broken)):
		t.Errorf("%v: %s: %v", v, step, err)
	case !reached || !v.closes:
		t.Errorf("%v: %s: %v", v, step, err)
	case errors.As(err, new(*pop3.ServerError)):
		t.Errorf("%v: %s: taken for an answer: %v", v, step, err)
	case !errors.Is(err, pop3.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF):
		t.Errorf("%v: %s: %v", v, step, err)
	case !strings.Contains(err.Error(), last):
		t.Errorf("%v: %s: %v lacks what the server said last", v, step, err)
	}
}

// TestUnsolicited has a server send unsolicited data at every point at which no command is in flight. It is never taken
// for a response.
func TestUnsolicited(t *testing.T) {
	visits := 0
	for _, scene := range []struct {
		name       string
		steps      []step
		pipelining bool
		clear      bool // at first
	}{
		{"by hand", byHand, false, false},
		{"PASS first", passFirst, false, false},
		{"AUTH first", byAuth, false, false},
		{"QUIT first", quitFirst, false, false},
		{"login", byLogin, false, false},
		{"after STLS", afterSTLS, false, true},
		{"reading", reading, false, false},
		{"one by one", deleting, false, false},
		{"sent ahead", deleting, true, false},
	} {
		t.Run(scene.name, func(t *testing.T) {
			for _, route := range routes {
				if route.tls && scene.clear || !route.bubble && !canSeeArrivals {
					continue
				}
				t.Run(route.name, func(t *testing.T) {
					for _, text := range unsolicited {
						for _, closes := range []bool{false, true} {
							v := visit{route: route, steps: scene.steps, pipelining: scene.pipelining, text: text, closes: closes}
							v.everywhere(t, &visits)
							v.hurries = true
							v.everywhere(t, &visits)
							if v.hurries = false; route.bubble && !route.tls {
								v.attached = true
								v.everywhere(t, &visits)
							}
						}
					}
				})
			}
		})
	}
	t.Logf("%d visits", visits)
}

// everywhere runs the session for each point.
func (v visit) everywhere(t *testing.T, visits *int) {
	t.Helper()
	every := 1
	if testing.Short() && !v.bubble {
		every = 9
	}
	enough := 1
	if v.attached {
		enough = 3 // CAPA and STLS have nothing attached
	}
	missed := 0
	for v.at = 1 + *visits%every; missed < enough && !t.Failed(); v.at += every {
		*visits++
		reached := false
		if v.bubble {
			synctest.Test(t, func(t *testing.T) { reached = v.play(t) })
		} else {
			reached = v.play(t)
		}
		if missed++; reached {
			missed = 0
		}
	}
}
