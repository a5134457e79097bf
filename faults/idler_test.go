package faults

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

// idler is a server that can be made to send unsolicited data. All of its responses are distinct.
type idler struct {
	config     *tls.Config
	pipelining bool

	after  int    // the response, counted from 1 at the greeting, after which it sends more
	more   string // in the same write
	closes bool   // and closes the connection

	mu      sync.Mutex
	shakes  bool // performs handshakes
	raw     net.Conn
	conn    net.Conn // raw, or TLS on it
	answers int
	happens bool // more was sent
}

const challenge = "<1.2@example.org>"

var drop = []string{"one\r\n", "two\r\n\r\n", "three\r\n"}

// serve runs one session until either side closes it.
func (s *idler) serve() {
	defer s.raw.Close()
	r := bufio.NewReader(s.conn)
	s.answer("", "+OK ready "+challenge+"\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, arg, _ := strings.Cut(line, " ")
		switch verb {
		case "QUIT":
			s.answer(line, "+OK QUIT\r\n")
			return
		case "AUTH":
			s.say("+ \r\n")
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			s.answer(line, "+OK AUTH\r\n")
		case "STLS":
			secure := tls.Server(s.raw, s.config)
			s.mu.Lock()
			s.shakes = true
			s.mu.Unlock()
			s.answer(line, "+OK STLS\r\n")
			if secure.Handshake() != nil {
				return
			}
			s.mu.Lock()
			s.conn, s.shakes = secure, false
			s.mu.Unlock()
			r.Reset(secure)
		default:
			s.answer(line, s.reply(verb, arg))
		}
	}
}

// reply is the server's response to a command.
func (s *idler) reply(verb, arg string) string {
	ok := strings.TrimSpace("+OK "+verb+" "+arg) + "\r\n"
	multi := func(lines ...string) string { return ok + strings.Join(append(lines, ".", ""), "\r\n") }
	switch verb {
	case "CAPA":
		lines := []string{"USER", "SASL X-PROMPTS", "STLS"}
		if s.pipelining {
			lines = append(lines, "PIPELINING")
		}
		return multi(lines...)
	case "PASS", "APOP":
		if !strings.HasSuffix(arg, "secret") && verb == "PASS" || strings.HasPrefix(arg, "nobody") {
			return "-ERR [AUTH] wrong\r\n"
		}
		return "+OK " + verb + "\r\n"
	case "STAT":
		return "+OK 3 23\r\n"
	case "LIST", "UIDL":
		if arg != "" {
			return "+OK " + arg + " 10" + arg + "\r\n"
		}
		return multi("1 101", "2 102", "3 103")
	case "RETR", "TOP":
		var n int
		if fmt.Sscan(arg, &n); n > len(drop) {
			return "-ERR no message " + arg + "\r\n"
		}
		return ok + drop[n-1] + ".\r\n"
	case "LANG":
		if arg == "" {
			return multi("de Deutsch")
		}
	case "XMULTI":
		return multi("x")
	}
	return ok
}

// answer responds to a command, and sends more if it is due.
func (s *idler) answer(line, text string) {
	s.mu.Lock()
	s.answers++
	now := s.answers == s.after && !s.pipelining
	switch line {
	case "CAPA", "STLS", "UIDL": // the next command may follow before the client must look
		now = false
	}
	s.mu.Unlock()
	if !now {
		s.say(text)
		return
	}
	s.mu.Lock()
	s.happens = true
	s.mu.Unlock()
	s.say(text + s.more)
	if s.closes {
		s.hangUp()
	}
}

func (s *idler) say(text string) { io.WriteString(s.writer(), text) }

func (s *idler) writer() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// rests returns when the server waits for a command. The client may complete a handshake earlier.
func (s *idler) rests() {
	for shakes := true; shakes; runtime.Gosched() {
		s.mu.Lock()
		shakes = s.shakes
		s.mu.Unlock()
	}
}

// hangUp closes the server's side, so that the data sent before arrives.
func (s *idler) hangUp() {
	if tcp, ok := s.raw.(*net.TCPConn); ok {
		tcp.CloseWrite()
		return
	}
	s.raw.Close()
}

// serverTLS is the idler's side of TLS, with a certificate that is not trusted.
var serverTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

// tcpPair connects two ends over the loopback interface.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		defer l.Close()
		client, err = net.Dial("tcp", l.Addr().String())
	}
	if err == nil {
		server, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// step is a call of a client while no command is in flight.
type step struct {
	name string
	do   func(c *pop3.Client, pause func()) error // pause is called if no command is in flight within the step
}

// steps of a session, and their expected results.
var (
	byHand = []step{
		{"USER", func(c *pop3.Client, _ func()) error { return c.User(background, "user") }},
		{"PASS, wrong", func(c *pop3.Client, _ func()) error { return refusedWith(c.Pass(background, "mistake"), "wrong") }},
		{"USER", func(c *pop3.Client, _ func()) error { return says("USER user")(c.Cmd(background, "USER", "user")) }},
		{"PASS, by Cmd", func(c *pop3.Client, _ func()) error {
			_, err := c.Cmd(background, "PASS", "mistake")
			return refusedWith(err, "wrong")
		}},
		{"APOP, wrong", func(c *pop3.Client, _ func()) error {
			return refusedWith(c.APOP(background, "nobody", "secret"), "wrong")
		}},
		{"APOP", func(c *pop3.Client, _ func()) error { return c.APOP(background, "user", "secret") }},
		{"QUIT", quit},
	}
	byAuth = []step{
		{"AUTH", func(c *pop3.Client, _ func()) error { return c.Auth(background, prompts{}) }},
		{"QUIT", quit},
	}
	passFirst = []step{
		{"PASS", func(c *pop3.Client, _ func()) error { return refusedWith(c.Pass(background, "mistake"), "wrong") }},
		{"USER", func(c *pop3.Client, _ func()) error { return c.User(background, "user") }},
		{"PASS", func(c *pop3.Client, _ func()) error { return c.Pass(background, "secret") }},
	}
	byLogin = []step{
		{"login", func(c *pop3.Client, _ func()) error { return c.Login(background, "user", "secret") }},
		{"NOOP", noop},
	}
	afterSTLS = append([]step{
		{"STLS", func(c *pop3.Client, _ func()) error { return c.StartTLS(background, nil) }},
	}, append(passFirst, byAuth...)...)
	quitFirst = []step{{"QUIT", quit}}
	reading   = []step{
		{"CAPA", func(c *pop3.Client, _ func()) error {
			caps, err := c.RefreshCapabilities(background)
			if err == nil && (!caps.Has("STLS") || len(caps) > 4) {
				err = brokenf("capabilities %v", caps)
			}
			return err
		}},
		{"LANG", func(c *pop3.Client, _ func()) error { return c.Lang(background, "de") }},
		{"LANG", func(c *pop3.Client, _ func()) error {
			langs, err := c.Langs(background)
			if err == nil && (len(langs) != 1 || langs[0].Tag != "de") {
				err = brokenf("languages %v", langs)
			}
			return err
		}},
		{"UTF8", func(c *pop3.Client, _ func()) error { return c.UTF8(background) }},
		{"STAT", func(c *pop3.Client, _ func()) error {
			n, size, err := c.Stat(background)
			if err == nil && (n != 3 || size != 23) {
				err = brokenf("STAT returns %d %d", n, size)
			}
			return err
		}},
		{"LIST", func(c *pop3.Client, _ func()) error {
			l, err := c.List(background)
			if err != nil {
				return err
			}
			entries, err := l.Slice()
			if err == nil && fmt.Sprint(entries) != "[{1 101} {2 102} {3 103}]" {
				err = brokenf("LIST returns %v", entries)
			}
			return err
		}},
		{"UIDL, with RETR in the loop", func(c *pop3.Client, pause func()) error {
			l, err := c.UIDL(background)
			if err != nil {
				return err
			}
			n := 0
			for u, err := range l.All() {
				if n++; err == nil && u.ID != fmt.Sprint(100+n) {
					err = brokenf("UIDL returns %v", u)
				}
				if err != nil {
					return err
				}
				pause()
				if err := reads(c.Retr(background, u.Number)); err != nil {
					return err
				}
			}
			return nil
		}},
		{"LIST n", func(c *pop3.Client, _ func()) error {
			size, err := c.Size(background, 2)
			if err == nil && size != 102 {
				err = brokenf("LIST 2 returns %d", size)
			}
			return err
		}},
		{"UIDL n", func(c *pop3.Client, _ func()) error {
			uid, err := c.UID(background, 3)
			if err == nil && uid != "103" {
				err = brokenf("UIDL 3 returns %q", uid)
			}
			return err
		}},
		{"RETR", func(c *pop3.Client, _ func()) error { return reads(c.Retr(background, 2)) }},
		{"TOP", func(c *pop3.Client, _ func()) error { return reads(c.Top(background, 1, 9)) }},
		{"RETR, refused", func(c *pop3.Client, _ func()) error {
			_, err := c.Retr(background, 9)
			return refusedWith(err, "no message 9")
		}},
		{"Cmd", func(c *pop3.Client, _ func()) error { return says("XSINGLE 1")(c.Cmd(background, "XSINGLE", "1")) }},
		{"CmdMultiline", func(c *pop3.Client, _ func()) error {
			m, err := c.CmdMultiline(background, "XMULTI")
			if err != nil {
				return err
			}
			text, err := io.ReadAll(m)
			if err == nil && string(text) != "x\r\n" {
				err = brokenf("XMULTI returns %q", text)
			}
			return err
		}},
	}
	deleting = []step{
		{"RetrAll", func(c *pop3.Client, pause func()) error {
			return readsAll(pause, c.RetrAll(background, []int{3, 9, 1, 2}), 3, 9, 1, 2)
		}},
		{"TopAll", func(c *pop3.Client, pause func()) error {
			return readsAll(pause, c.TopAll(background, []int{1, 2, 3}, 9), 1, 2, 3)
		}},
		{"DeleAll", func(c *pop3.Client, _ func()) error { return c.DeleAll(background, []int{1, 2}) }},
		{"DELE", func(c *pop3.Client, _ func()) error { return c.Dele(background, 3) }},
		{"RSET", func(c *pop3.Client, _ func()) error { return c.Rset(background) }},
		{"NOOP", noop},
		{"QUIT", quit},
	}
)

func noop(c *pop3.Client, _ func()) error { return says("NOOP")(c.Cmd(background, "NOOP")) }
func quit(c *pop3.Client, _ func()) error { return c.Quit(background) }
