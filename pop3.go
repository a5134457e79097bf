package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options configures a [Client]. A nil *Options is equivalent to the zero value, which selects the defaults. Options
// are copied.
type Options struct {
	// TLSConfig configures implicit TLS and STLS. If nil, the certificate is verified and TLS 1.2 is the minimum
	// version. An empty ServerName is set to the host that was dialed.
	TLSConfig *tls.Config

	// Dialer connects to the server. If nil, a zero [net.Dialer] is used.
	Dialer Dialer

	// Timeout limits each wait for the server: every read, and every write outside a batch. Zero means two minutes; a
	// negative value means no limit.
	Timeout time.Duration

	// StallTimeout is how long other commands wait for an open [Message] or batch that is not being read, before they
	// fail with [ErrBusy]. Zero means five seconds; a negative value means no limit.
	StallTimeout time.Duration

	// AllowInsecureLogin permits sending a password over a connection that is not encrypted.
	AllowInsecureLogin bool

	// MaxLineLength limits a status line or a line of a listing, in bytes without CRLF. Zero or less means 16384.
	MaxLineLength int

	// MaxEntries limits the entries of a listing. Zero or less means 1<<24.
	MaxEntries int

	// MaxSpill limits the memory, in bytes, that the unread entries of a listing may take while another command uses
	// the connection. Zero or less means 256 MiB.
	MaxSpill int

	// NoPipelining disables pipelining, for servers that advertise PIPELINING but mishandle it.
	NoPipelining bool

	// Logger receives a warning when unsolicited data is discarded and a debug record for each TLS handshake. If nil,
	// nothing is logged. It is called while a command is in progress and must not call methods of the Client.
	Logger *slog.Logger

	// Observe is called once for each command, after the end of its response, for metrics and traces. If nil, nothing
	// is observed. It may be called by several goroutines at once, and must not call methods of the Client.
	Observe func(ctx context.Context, e Event)

	// DebugWriter receives a transcript of the session, one line per Write, prefixed "C: " or "S: ". Secrets are
	// redacted and messages and listings are summarized as [N octets]. Writes are serialized. If nil, no transcript is
	// written. It is called while a command is in progress and must not call methods of the Client.
	DebugWriter io.Writer
}

// Dialer connects to a server. *net.Dialer implements it. So do the dialers of golang.org/x/net/proxy, but that
// package returns them as a proxy.Dialer, which needs a type assertion: dialer.(proxy.ContextDialer).
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	orDefault(&d.Timeout, 2*time.Minute)
	orDefault(&d.StallTimeout, 5*time.Second)
	d.MaxLineLength = limit(d.MaxLineLength, 16384)
	d.MaxEntries = limit(d.MaxEntries, 1<<24)
	d.MaxSpill = limit(d.MaxSpill, 256<<20)
	if d.Dialer == nil {
		d.Dialer = &net.Dialer{}
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// limit leaves room for counting beyond the largest value.
func limit(n, value int) int {
	if n <= 0 {
		return value
	}
	return min(n, math.MaxInt/2)
}

// A Client is a POP3 session over one connection. Its methods may be called concurrently; commands are queued in FIFO
// order. A negative response is a [*ServerError]. Call [Client.Quit] or [Client.Close] when done.
type Client struct {
	s        *session
	opts     Options
	host     string // for the certificate; "" if unknown
	greeting string

	mu          sync.Mutex
	caps        Capabilities // nil: not known
	refusedCapa error        // why caps is empty, if the server refused CAPA
	challenge   string
}

// Dial connects to a server without TLS and returns after the greeting has been read. The port defaults to 110. If the
// greeting is -ERR, the error is a [*ServerError].
func Dial(ctx context.Context, addr string, opts *Options) (*Client, error) {
	return dial(ctx, addr, "110", opts, false)
}

// DialTLS connects to a server with implicit TLS (RFC 8314) and returns after the greeting has been read. The port
// defaults to 995.
func DialTLS(ctx context.Context, addr string, opts *Options) (*Client, error) {
	return dial(ctx, addr, "995", opts, true)
}

// DialStartTLS connects without TLS and upgrades the connection with STLS (RFC 2595). It fails if the server does not
// offer STLS. The port defaults to 110.
func DialStartTLS(ctx context.Context, addr string, opts *Options) (*Client, error) {
	c, err := Dial(ctx, addr, opts)
	if err != nil {
		return nil, err
	}
	secure := false
	defer func() {
		if !secure { // also if user code panics
			c.Close()
		}
	}()
	if err := c.StartTLS(ctx, nil); err != nil {
		return nil, err
	}
	secure = true
	return c, nil
}

func dial(ctx context.Context, addr, port string, opts *Options, overTLS bool) (*Client, error) {
	o := opts.withDefaults()
	host, given, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	}
	if given == "" {
		given = port
		addr = net.JoinHostPort(host, port)
	}
	nc, err := o.Dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, commandFailed("connecting to "+addr, err)
	}
	c, err := newClient(ctx, nc, o, host, overTLS)
	return c, withPortHint(err, given, overTLS)
}

// NewClient starts a session on an established connection and reads the greeting. A *tls.Conn counts as encrypted. The
// Client takes ownership of conn and clears its deadlines; if NewClient returns an error, conn has been closed.
func NewClient(ctx context.Context, conn net.Conn, opts *Options) (*Client, error) {
	c, err := newClient(ctx, conn, opts.withDefaults(), "", false)
	if _, isTLS := conn.(*tls.Conn); err != nil && conn.RemoteAddr() != nil {
		_, port, _ := net.SplitHostPort(conn.RemoteAddr().String())
		err = withPortHint(err, port, isTLS)
	}
	return c, err
}

func newClient(ctx context.Context, nc net.Conn, o Options, host string, overTLS bool) (*Client, error) {
	c := &Client{opts: o, host: host}
	c.s = newSession(newConn(nc, &o), &o)
	returned := false
	defer c.s.closeOnPanic(&returned)
	err := c.greet(ctx, overTLS)
	returned = true
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Client) greet(ctx context.Context, overTLS bool) error {
	h := &lease{ctx: ctx, name: "greeting", command: "greeting", sent: true}
	if err := c.s.acquire(h); err != nil {
		c.s.shut(err)
		return commandFailed("connecting", ctx.Err())
	}
	err := c.welcome(h, overTLS)
	if err != nil {
		c.s.fail(h, err)
	} else {
		c.s.release(h)
	}
	return err
}

// welcome reads the greeting.
func (c *Client) welcome(h *lease, overTLS bool) error {
	c.s.watch(h)
	c.s.observes(h, h.name)
	if overTLS {
		c.s.answering(h, "TLS handshake")
		if err := c.s.conn.startTLS(h.ctx, c.tlsConfig(nil)); err != nil {
			return c.s.fail(h, err)
		}
		c.s.answering(h, h.name)
	}
	text, err := c.s.answer(h, h.name)
	if err == nil {
		c.greeting, c.challenge = text, challenge(text)
	}
	return err
}

// tlsConfig returns config, or Options.TLSConfig if config is nil, with a ServerName.
func (c *Client) tlsConfig(config *tls.Config) *tls.Config {
	if config == nil {
		config = c.opts.TLSConfig
	}
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = c.host
	}
	return config
}

// Greeting returns the text after the +OK of the greeting.
func (c *Client) Greeting() string { return c.greeting }

// Challenge returns the APOP timestamp of the greeting, "<...>", or "" (RFC 1939, section 7). STLS discards it.
func (c *Client) Challenge() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.challenge
}

// TLSConnectionState returns the state of the TLS connection, and whether there is one.
func (c *Client) TLSConnectionState() (tls.ConnectionState, bool) {
	return c.s.conn.tlsState()
}

// Noop sends NOOP. It is useful to keep a session alive.
func (c *Client) Noop(ctx context.Context) error {
	_, err := c.s.cmd(ctx, "NOOP")
	return err
}

// Stat returns the number of messages in the maildrop and their size in octets, without those marked as deleted.
func (c *Client) Stat(ctx context.Context) (count int, size int64, err error) {
	text, err := c.s.cmd(ctx, "STAT")
	if err != nil {
		return 0, 0, err
	}
	n, rest, ok := cutNumber([]byte(text))
	if size, _, sized := cutNumber(rest); ok && sized && int64(int(n)) == n {
		return int(n), size, nil
	}
	return 0, 0, c.malformed("STAT", text, "invalid message count or size")
}

// List returns the scan listing: the numbers of the messages and their sizes in octets, as reported by the server. ctx
// applies until the listing ends. Other commands may be issued while it is being read.
func (c *Client) List(ctx context.Context) (*Listing[Entry], error) {
	return list(ctx, c, "LIST", entries)
}

// UIDL returns the unique-id listing: the numbers of the messages and their unique-ids. Otherwise it is like
// [Client.List].
func (c *Client) UIDL(ctx context.Context) (*Listing[UID], error) {
	return list(ctx, c, "UIDL", uids)
}

func list[T Entry | UID](ctx context.Context, c *Client, command string, form *form[T]) (*Listing[T], error) {
	l := newListing(c, ctx, command, form)
	if _, err := c.s.open(&l.lease, command, nil); err != nil {
		return nil, err
	}
	l.watch()
	c.s.allowSpill(&l.lease, l.spill)
	return l, nil
}

// Size returns the size of one message in octets (LIST n).
func (c *Client) Size(ctx context.Context, number int) (int64, error) {
	command, line, err := c.one(ctx, "LIST", number)
	if err != nil {
		return 0, err
	}
	e, reason := parseEntry([]byte(line))
	if reason == "" && e.Number != number {
		reason = "response is for another message"
	}
	if reason != "" {
		return 0, c.malformed(command, line, reason)
	}
	return e.Size, nil
}

// UID returns the unique-id of one message (UIDL n).
func (c *Client) UID(ctx context.Context, number int) (string, error) {
	command, line, err := c.one(ctx, "UIDL", number)
	if err != nil {
		return "", err
	}
	u, reason := parseUID([]byte(line))
	if reason == "" && u.Number != number {
		reason = "response is for another message"
	}
	if reason != "" {
		return "", c.malformed(command, line, reason)
	}
	return u.ID, nil
}

// one sends a command about one message that has a single-line response.
func (c *Client) one(ctx context.Context, verb string, number int) (command, text string, err error) {
	command = verb + " " + strconv.Itoa(number)
	if err := checkNumber(command, number); err != nil {
		return command, "", c.s.refused(ctx, err)
	}
	text, err = c.s.cmd(ctx, command)
	return command, text, err
}

// malformed is the error of a +OK whose text is invalid; the session stays in sync.
func (c *Client) malformed(command, line, reason string) error {
	return &ProtocolError{Command: command, Line: c.s.conn.quoted([]byte(line)), Reason: reason}
}

// Retr retrieves a message. The caller must read it to io.EOF or close it; ctx applies until then.
func (c *Client) Retr(ctx context.Context, number int) (*Message, error) {
	command := "RETR " + strconv.Itoa(number)
	if err := checkNumber(command, number); err != nil {
		return nil, c.s.refused(ctx, err)
	}
	return c.open(ctx, number, command)
}

// Top retrieves the header of a message, the blank line, and the first lines of its body.
func (c *Client) Top(ctx context.Context, number, lines int) (*Message, error) {
	command := topCommand(number, lines)
	if err := checkNumber(command, number); err != nil {
		return nil, c.s.refused(ctx, err)
	}
	if lines < 0 {
		return nil, c.s.refused(ctx, invalidArgument(command, fmt.Sprintf("negative line count %d", lines)))
	}
	return c.open(ctx, number, command)
}

func topCommand(number, lines int) string {
	return "TOP " + strconv.Itoa(number) + " " + strconv.Itoa(lines)
}

// open sends a command with a multi-line response and returns the response to be read.
func (c *Client) open(ctx context.Context, number int, command string) (*Message, error) {
	m := &Message{Number: number, s: c.s, body: dotReader{conn: c.s.conn}, own: lease{ctx: ctx, name: c.s.conn.redactCommand(command), hint: "read it to EOF or Close it"}}
	m.lease = &m.own
	var err error
	if m.Status, err = c.s.open(m.lease, command, m); err != nil {
		return nil, err
	}
	return m, nil
}

// Dele marks a message as deleted. It is deleted when [Client.Quit] succeeds.
func (c *Client) Dele(ctx context.Context, number int) error {
	_, _, err := c.one(ctx, "DELE", number)
	return err
}

// Rset unmarks all messages marked as deleted.
func (c *Client) Rset(ctx context.Context) error {
	_, err := c.s.cmd(ctx, "RSET")
	return err
}

// Cmd sends a command with a single-line response and returns the text after +OK. STLS and AUTH are refused: use
// [Client.StartTLS] and [Client.Auth]. PASS is refused if [Client.Pass] would refuse it.
func (c *Client) Cmd(ctx context.Context, command string, args ...string) (text string, err error) {
	line, err := commandLine(command, args)
	if err != nil {
		return "", c.s.refused(ctx, err)
	}
	switch verb := strings.ToUpper(command); verb {
	case "STLS":
		return "", c.s.refused(ctx, invalidArgument(verb, "use StartTLS"))
	case "AUTH":
		return "", c.s.refused(ctx, invalidArgument(verb, "use Auth"))
	case "PASS", "APOP":
		err = c.s.do(ctx, verb, func(h *lease) error {
			if verb == "PASS" && !c.mayShowSecrets() {
				return notSent(verb, ErrInsecureLogin)
			}
			if verb == "APOP" && len(args) > 1 {
				args = args[1:] // after the name
			}
			c.s.conn.keepSecret(append(args, strings.Join(args, " "))...)
			text, err = c.s.ask(h, line, verb+" "+hidden)
			return c.loggedIn(err)
		})
		return text, err
	}
	return c.s.cmd(ctx, line)
}

// CmdMultiline sends a command with a multi-line response, which must be read to io.EOF or closed. A command that logs
// in or starts TLS is refused. AUTH is accepted without arguments: servers that do not know CAPA list their mechanisms
// in response.
func (c *Client) CmdMultiline(ctx context.Context, command string, args ...string) (*Message, error) {
	line, err := commandLine(command, args)
	if err != nil {
		return nil, c.s.refused(ctx, err)
	}
	switch verb := strings.ToUpper(command); verb {
	case "AUTH":
		if len(args) > 0 {
			return nil, c.s.refused(ctx, invalidArgument(verb, "use Auth"))
		}
	case "STLS", "PASS", "APOP":
		return nil, c.s.refused(ctx, invalidArgument(verb, "no multi-line response"))
	}
	return c.open(ctx, 0, line)
}

func commandLine(command string, args []string) (string, error) {
	if command == "" || strings.ContainsAny(command, " \t") {
		return "", invalidArgument("", "command must be a single word")
	}
	if err := checkText("", command); err != nil {
		return "", err
	}
	return strings.Join(append([]string{command}, args...), " "), checkText(command, args...)
}

// checkText refuses arguments that would end the command or start another one.
func checkText(command string, texts ...string) error {
	for _, s := range texts {
		if strings.ContainsAny(s, "\r\n\x00") {
			return invalidArgument(command, "CR, LF or NUL in an argument")
		}
	}
	return nil
}

func checkNumber(command string, number int) error {
	if number < 1 {
		return invalidArgument(command, invalidNumber(number))
	}
	return nil
}

func invalidNumber(n int) string { return fmt.Sprintf("invalid message number %d", n) }

// Quit commits the deletions (the UPDATE state of RFC 1939) and closes the session. It returns nil if the deletions
// were committed and a [*ServerError] if the server kept some of the messages. If the error matches [ErrNotSent], QUIT
// was not sent and nothing was deleted. After any other error the outcome is unknown.
//
// If ctx is done while Quit is queued, QUIT is not sent and the session remains usable. By then, however, Quit may
// have discarded the rest of a [Message] or batch that had not been read for Options.StallTimeout.
func (c *Client) Quit(ctx context.Context) error {
	h := &lease{ctx: ctx, name: "QUIT", quit: true}
	if err := c.s.acquire(h); err != nil {
		return err
	}
	returned := false
	defer c.s.closeOnPanic(&returned)
	_, err := c.s.ask(h, "QUIT", "QUIT")
	h.result = err
	if errors.Is(err, ErrNotSent) {
		c.s.release(h)
	} else {
		c.s.finish(h)
	}
	returned = true
	return err
}

// Close closes the connection without sending QUIT, which discards pending deletions. It does not wait for the
// server. It may be called from any goroutine, and more than once. Calls in progress return [ErrClosed].
func (c *Client) Close() error { return c.s.close() }
