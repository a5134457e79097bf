package pop3test

import (
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"strings"
)

// A Maildrop holds the messages that a session finds after login, numbered from 1. A message keeps its number. New
// messages may be added at the end; sessions that begin later see them. A Maildrop must be safe for concurrent use.
type Maildrop interface {
	// Count returns the number of messages.
	Count() int

	// Size returns the size of message n in octets, as LIST gives it.
	Size(n int) int64

	// UID returns the unique-id of message n: 1 to 70 octets from 0x21 to 0x7E.
	UID(n int) string

	// WriteMessage writes the bytes of message n. Lines end with CRLF and are not dot-stuffed: the server does the
	// dot-stuffing. An error before the first byte is sent to the client after -ERR. After a later error the server
	// closes the connection, so that the message is truncated.
	WriteMessage(w io.Writer, n int) error
}

// Messages returns a Maildrop of the given texts, whose lines end with CRLF. If a text does not end with CRLF, it is
// appended, because POP3 requires it. All other bytes are served as given.
func Messages(texts ...string) Maildrop {
	m := make(messages, len(texts))
	for i, text := range texts {
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		sum := fnv.New64a()
		io.WriteString(sum, text)
		m[i] = message{
			text: text,
			uid:  fmt.Sprintf("%016x.%d", sum.Sum64(), i+1),
			wire: stuffed(text),
		}
	}
	return m
}

type messages []message

type message struct {
	text string
	uid  string
	wire []byte // text as RETR sends it: stuffed, with the terminating line
}

func (m messages) Count() int       { return len(m) }
func (m messages) Size(n int) int64 { return int64(len(m[n-1].text)) }
func (m messages) UID(n int) string { return m[n-1].uid }

func (m messages) WriteMessage(w io.Writer, n int) error {
	_, err := io.WriteString(w, m[n-1].text)
	return err
}

// Generate returns a Maildrop of count messages, each of which is generated on every access, so that it takes no
// memory. LIST and STAT generate every message to determine its size; use a [Generated] with SizeOf to avoid that.
func Generate(count int, message func(n int) string) Maildrop {
	return &Generated{N: count, Text: message}
}

// Generated is a Maildrop whose messages are generated on access. Its functions may be called concurrently.
type Generated struct {
	N      int                // number of messages
	Text   func(n int) string // message n, its lines ending with CRLF
	SizeOf func(n int) int64  // octets in message n; if nil, the length of Text(n)
	UIDOf  func(n int) string // unique-id of message n; if nil, derived from n
}

// Count returns g.N.
func (g *Generated) Count() int { return g.N }

// Size returns the size of message n in octets.
func (g *Generated) Size(n int) int64 {
	if g.SizeOf != nil {
		return g.SizeOf(n)
	}
	return int64(len(g.Text(n)))
}

// UID returns the unique-id of message n.
func (g *Generated) UID(n int) string {
	if g.UIDOf != nil {
		return g.UIDOf(n)
	}
	return "generated." + strconv.Itoa(n)
}

// WriteMessage writes the text of message n.
func (g *Generated) WriteMessage(w io.Writer, n int) error {
	_, err := io.WriteString(w, g.Text(n))
	return err
}
