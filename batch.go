package pop3

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"
	"sync"
)

// The window is how many commands may be on their way. It starts small, so that breaking out early leaves little to be
// drained, and grows by two with every answer: it triples with each round trip. At its largest the commands still fit
// into the smallest of socket buffers, so that a server busy writing never keeps us from writing.
const (
	firstWindow = 16
	maxWindow   = 256
)

// RetrAll retrieves messages in the order given, in one turn of the session, sending the commands ahead where the server lists
// PIPELINING (RFC 2449, section 6.6).
//
// The *Message is never nil, and is valid until the next step of the loop, which discards what was left unread. A message that the
// server refuses is yielded too: its Read says the *ServerError. An error ends the loop: the session is broken, or a number was
// below 1 and nothing was sent. Breaking out leaves the session usable. Other commands wait for the loop like for an open message:
// to delete what was fetched, call DeleAll behind it.
func (c *Client) RetrAll(ctx context.Context, numbers []int) iter.Seq2[*Message, error] {
	return c.messages(ctx, "RetrAll", numbers, func(n int) string { return "RETR " + strconv.Itoa(n) })
}

// TopAll is RetrAll with the header and so many lines of the body of each message.
func (c *Client) TopAll(ctx context.Context, numbers []int, lines int) iter.Seq2[*Message, error] {
	if lines < 0 {
		numbers = []int{0} // refused
	}
	return c.messages(ctx, "TopAll", numbers, func(n int) string { return topCommand(n, lines) })
}

// DeleAll marks messages as deleted, in one turn of the session. The error joins a *ServerError for each number refused
// with what broke the session, if anything did.
func (c *Client) DeleAll(ctx context.Context, numbers []int) error {
	b, err := c.beginBatch(ctx, "DeleAll", numbers, false, func(n int) string { return "DELE " + strconv.Itoa(n) })
	if b == nil {
		return err
	}
	var refused []error
	for _, n := range b.numbers {
		err := b.answer(n, nil)
		if err != nil {
			refused = append(refused, err)
		}
		if err != nil && !isServerError(err) {
			break
		}
	}
	return errors.Join(append(refused, b.close())...)
}

func (c *Client) messages(ctx context.Context, name string, numbers []int, command func(n int) string) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		b, err := c.beginBatch(ctx, name, numbers, true, command)
		if err != nil {
			yield(&Message{err: err}, err)
		}
		if b == nil {
			return
		}
		left := true // also by a panic
		defer func() {
			if left {
				b.close()
			}
		}()
		for _, n := range b.numbers {
			m, err := b.message(n)
			if !yield(m, err) || err != nil {
				return
			}
			if err := m.Close(); err != nil {
				yield(m, err)
				return
			}
		}
		left = false
		if err := b.close(); err != nil {
			yield(&Message{err: err}, err)
		}
	}
}

// batch is one turn with many commands. Exactly issued minus answered responses are outstanding, whatever happens.
type batch struct {
	s       *session
	lease   lease
	numbers []int
	command func(n int) string
	bodies  bool     // an +OK is followed by a multi-line response
	current *Message // the one that was yielded last

	written chan struct{} // closed when the writer has ended; nil: there is none
	lost    error         // why it could not write, once it has ended
	mu      sync.Mutex
	room    sync.Cond
	issued  int // raised before the write
	done    int // answered
	stopped bool
}

// beginBatch takes the turn, and starts sending. Without numbers it returns nil and nil.
func (c *Client) beginBatch(ctx context.Context, name string, numbers []int, bodies bool, command func(n int) string) (*batch, error) {
	for _, n := range numbers {
		if n < 1 {
			return nil, invalidArgument(name, invalidNumber(n))
		}
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	// The numbers are copied: commands are sent ahead while the caller's loop may change its slice.
	b := &batch{s: c.s, numbers: slices.Clone(numbers), bodies: bodies, command: command}
	b.lease = lease{ctx: ctx, name: name, hint: "end the loop"}
	b.room.L = &b.mu
	if err := c.s.acquire(&b.lease); err != nil {
		return nil, err
	}
	pipelining := false
	if !c.opts.NoPipelining {
		caps, err := c.knownCapabilities(&b.lease)
		if err != nil {
			c.s.release(&b.lease)
			return nil, err
		}
		pipelining = caps.Has("PIPELINING")
	}
	c.s.watch(&b.lease, nil)
	b.lease.open = b
	if pipelining && len(numbers) > 1 {
		b.written = make(chan struct{})
		c.s.conn.discardBuffered() // behind the capabilities
		c.s.conn.sock.waitForever(true)
		go b.writeAhead()
	}
	c.s.park(&b.lease)
	return b, nil
}

// writeAhead keeps the window full, refilling it when half of it is answered.
func (b *batch) writeAhead() {
	defer close(b.written)
	var lines []byte
	for {
		b.mu.Lock()
		window := min(firstWindow+2*b.done, maxWindow)
		for !b.stopped && b.issued-b.done > window/2 {
			b.room.Wait()
			window = min(firstWindow+2*b.done, maxWindow)
		}
		first := b.issued
		if !b.stopped {
			b.issued = min(b.done+window, len(b.numbers))
		}
		last := b.issued
		b.mu.Unlock()
		if first == last {
			return
		}
		lines = lines[:0]
		for _, n := range b.numbers[first:last] {
			command := b.command(n)
			b.s.conn.debug("C: ", command)
			lines = append(append(lines, command...), "\r\n"...)
		}
		if b.lost = b.s.conn.write(lines); b.lost != nil {
			return
		}
	}
}

// answer reads the next status line, that of message number, into m where that is not nil. The error is a *ServerError,
// or that of a broken session.
func (b *batch) answer(number int, m *Message) error {
	if err := b.s.resume(&b.lease); err != nil {
		return err
	}
	command := b.command(number)
	var text string
	var err error
	if b.written == nil {
		b.issued++
		text, err = b.s.ask(&b.lease, command, command)
	} else {
		text, err = b.s.answer(&b.lease, command)
	}
	if asked := b.answered(); !asked && (err == nil || isServerError(err)) {
		err = b.s.fail(&b.lease, &ProtocolError{Command: command, Reason: "response received before command was sent"})
	}
	b.current = nil
	if err == nil && m != nil {
		m.Status = text
		b.current = m
	}
	if err == nil || isServerError(err) {
		b.s.park(&b.lease)
	}
	return err
}

// answered counts a response, and reports whether its command had been sent: a server that says more than it is asked may
// be ahead of the commands.
func (b *batch) answered() (asked bool) {
	b.mu.Lock()
	b.done++
	asked = b.done <= b.issued
	b.mu.Unlock()
	b.room.Signal()
	return asked
}

// message reads the next status line and returns the message behind it. One that was refused is no error here.
func (b *batch) message(number int) (*Message, error) {
	m := &Message{Number: number, s: b.s, lease: &b.lease, batch: true}
	m.err = b.answer(number, m)
	if isServerError(m.err) {
		return m, nil
	}
	return m, m.err
}

// close ends the batch: it sends no more, reads what is outstanding, and passes the turn on. The error is one that nobody has
// met before.
func (b *batch) close() error {
	if b.current != nil {
		b.current.Close()
	}
	if b.s.resume(&b.lease) != nil {
		b.stop()
		return nil
	}
	if err := b.drain(); err != nil {
		return b.s.fail(&b.lease, err)
	}
	b.s.release(&b.lease)
	return nil
}

func (b *batch) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.room.Signal()
}

// drain reads all responses that are outstanding, on the wire.
func (b *batch) drain() error {
	b.stop()
	if b.current != nil {
		if err := b.current.drain(); err != nil {
			return err
		}
	}
	for b.done < b.issued {
		word, text, err := b.s.conn.status()
		if err != nil {
			return noStatus(b.command(b.numbers[b.done]), text, err)
		}
		if word == "+OK" && b.bodies {
			rest := Message{s: b.s}
			if err := rest.drain(); err != nil {
				return err
			}
		}
		b.answered()
	}
	if b.written != nil {
		b.s.conn.sock.guard() // a server can answer what it has not read
		<-b.written
		if err := b.s.conn.sock.unguard(b.lost); err != nil {
			return err
		}
		b.s.conn.sock.waitForever(false)
		if b.s.conn.arrived() > 0 { // which of the answers was one too many nobody knows
			return &ProtocolError{Reason: "more responses than commands"}
		}
	}
	return nil
}
