package pop3test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
)

const (
	maxCommand  = 255     // bytes in a command with its CRLF (RFC 2449, section 4)
	maxResponse = 1 << 16 // bytes in a SASL response
)

// The states of a session (RFC 1939, section 3).
type state uint8

const (
	authorization state = 1 << iota
	transaction
	update   // nothing more is read
	anyState = authorization | transaction
)

// A session is the server's side of one connection. One goroutine runs it.
type session struct {
	srv   *Server
	id    int
	raw   net.Conn // below TLS
	conn  net.Conn // raw, or TLS on it
	meter *meter
	r     *bufio.Reader
	w     *bufio.Writer // nil while there is nothing to send

	implicitTLS bool
	answered    int64 // commands whose responses are in w
	cut         bool  // in the middle of a response

	state     state
	user      string // named by USER, if the last command was one
	named     bool
	timestamp string // of the greeting, for APOP

	// The maildrop as it was at login.
	count   int
	numbers []int        // see original
	marked  map[int]bool // by DELE
	locked  bool         // Server.lock is held
}

func newSession(srv *Server, id int, conn net.Conn, m *meter) *session {
	return &session{
		srv:   srv,
		id:    id,
		raw:   conn,
		conn:  conn,
		meter: m,
		r:     bufio.NewReader(conn),
		state: authorization,

		answered: -1, // the greeting is no response to a command
	}
}

func (s *session) serve() {
	err := s.converse()
	if s.locked {
		s.srv.unlock()
	}
	switch {
	case s.cut:
		s.drop()
	case err == nil && s.secure():
		s.conn.Close() // sends close_notify first
	}
	s.raw.Close()
	if err != nil {
		s.log(err.Error())
	}
}

// converse returns nil once the server has ended the session cleanly.
func (s *session) converse() error {
	if s.implicitTLS {
		if err := s.startTLS(); err != nil {
			return err
		}
	}
	s.greet()
	for s.state != update {
		line, err := s.readLine(maxCommand)
		if refusal, ok := err.(syntaxError); ok {
			s.fail(string(refusal))
			continue
		}
		if err != nil {
			return err
		}
		if err := s.obey(line); err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *session) greet() {
	text := s.srv.Greeting
	if text == "" {
		text = "pop3test ready"
	}
	if s.srv.APOP {
		s.timestamp = newTimestamp()
		text += " " + s.timestamp
	}
	if refusal := s.srv.refuses(""); refusal != "" {
		s.state = update
		s.fail(refusal)
		return
	}
	s.ok(text)
}

// A command is one that the server knows.
type command struct {
	in  state // states in which it is allowed
	arg arity
	do  func(s *session, arg string) error // an error ends the session
}

type arity uint8

const (
	none arity = iota
	optional
	required
)

var commands = map[string]command{
	"APOP": {authorization, required, (*session).apop},
	"AUTH": {authorization, required, (*session).auth},
	"CAPA": {anyState, none, (*session).capa},
	"DELE": {transaction, required, (*session).dele},
	"LANG": {anyState, optional, (*session).lang},
	"LIST": {transaction, optional, (*session).list},
	"NOOP": {transaction, none, (*session).noop},
	"PASS": {authorization, required, (*session).pass},
	"QUIT": {anyState, none, (*session).quit},
	"RETR": {transaction, required, (*session).retr},
	"RSET": {transaction, none, (*session).rset},
	"STAT": {transaction, none, (*session).stat},
	"STLS": {authorization, none, (*session).stls},
	"TOP":  {transaction, required, (*session).top},
	"UIDL": {transaction, optional, (*session).uidl},
	"USER": {authorization, required, (*session).userName},
	"UTF8": {authorization, none, (*session).utf8},
}

// obey executes one command line.
func (s *session) obey(line string) error {
	verb, arg, hasArg := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	if verb != "PASS" {
		s.named = false
	}
	if verb == "" { // which means the greeting to Refuse
		s.fail("unknown command")
		return nil
	}
	if refusal := s.srv.refuses(verb); refusal != "" {
		s.fail(refusal)
		if verb == "QUIT" {
			s.state = update
		}
		return nil
	}
	cmd, known := commands[verb]
	switch {
	case !known || s.srv.lacks(verb):
		s.fail("unknown command")
	case cmd.in&s.state == 0:
		s.fail("not in this state")
	case cmd.arg == none && hasArg, cmd.arg == required && arg == "", hasArg && arg == "":
		s.fail("wrong number of arguments")
	default:
		return cmd.do(s, arg)
	}
	return nil
}

// lacks reports whether a verb of the table is not for this server.
func (s *Server) lacks(verb string) bool {
	switch verb {
	case "APOP":
		return !s.APOP
	case "AUTH":
		return len(s.SASL) == 0
	case "CAPA":
		return s.NoCAPA
	case "LANG":
		return len(s.Langs) == 0
	case "STLS":
		return !s.STLS
	case "USER", "PASS":
		return s.NoUSER
	case "UTF8":
		return !s.UTF8
	}
	return false
}

// A syntaxError is a line that is not a command. The session continues.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

const (
	errBareLF  syntaxError = "a line ends with CRLF"
	errTooLong syntaxError = "line too long"
)

// readLine returns a line without its CRLF. It first flushes the responses, unless the next line is already buffered.
func (s *session) readLine(limit int) (string, error) {
	here, _ := s.r.Peek(s.r.Buffered())
	if bytes.IndexByte(here, '\n') < 0 {
		if err := s.flush(); err != nil {
			return "", err
		}
	}
	line, err := s.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		line = slices.Clone(line)
		for err == bufio.ErrBufferFull {
			var more []byte
			more, err = s.r.ReadSlice('\n')
			if len(line) <= limit {
				line = append(line, more...)
			}
		}
	}
	if err == io.EOF && len(line) == 0 {
		return "", errHungUp
	}
	if err != nil {
		return "", err
	}

	text, whole := strings.CutSuffix(string(line), "\r\n")
	text = strings.TrimSuffix(text, "\n")
	s.srv.record(text)
	s.log("C: ", text)
	switch {
	case len(line) > limit:
		return "", errTooLong
	case !whole:
		return "", errBareLF
	}
	return text, nil
}

var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}

// buffer makes s.w ready for a response.
func (s *session) buffer() *bufio.Writer {
	if s.w == nil {
		s.w = writers.Get().(*bufio.Writer)
		s.w.Reset(sender{s})
	}
	return s.w
}

// flush sends the responses and releases the buffer, so that an idle session has none.
func (s *session) flush() error {
	if s.w == nil {
		return nil
	}
	err := s.w.Flush()
	s.w.Reset(nil)
	writers.Put(s.w)
	s.w = nil
	return err
}

func (s *session) ok(text string)   { s.status("+OK ", text) }
func (s *session) fail(text string) { s.status("-ERR ", text) }

func (s *session) status(indicator, text string) {
	s.answered++
	w := s.buffer()
	w.WriteString(indicator)
	w.WriteString(text)
	w.Write(crlf)
	s.log("S: ", indicator, text)
}

// log passes the concatenated texts to Logf.
func (s *session) log(texts ...string) {
	if s.srv.Logf != nil {
		s.srv.Logf("pop3test: session %d: %s", s.id, strings.Join(texts, ""))
	}
}
