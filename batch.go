package pop3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The window bounds the commands in flight, in number and in the expected bytes of the responses, so that little must
// be drained after a break. It starts small, since the size of the messages is unknown, and grows by two with every
// response, so it triples with each round trip. At its maximum the commands still fit into the smallest socket buffer,
// so a server that is blocked writing cannot block us.
const (
	minWindow    = 2
	firstWindow  = 8
	knownWindow  = 16 // instead, after the first message
	maxWindow    = 256
	windowOctets = 4 << 20
)

// idleAfter is the time after a write in which the server may have completed all responses and sent unsolicited data.
// More commands are then written only after all responses have been read and the connection has been probed, which
// costs a round trip.
const idleAfter = time.Second

// RetrAll retrieves messages in the given order, pipelining the commands if the server advertises PIPELINING (RFC 2449, section
// 6.6).
//
// Each Message is non-nil and valid until the next iteration, which discards what is left unread. If the server
// refuses a message, it is still yielded with a nil error, and its Read returns the [*ServerError]. A non-nil error
// ends the loop. It means that the session is closed or, if a number is less than 1, that nothing was sent. Breaking
// out of the loop leaves the session usable. Other commands wait for the loop to end, so delete afterwards, with
// [Client.DeleAll].
func (c *Client) RetrAll(ctx context.Context, numbers []int) iter.Seq2[*Message, error] {
	return c.messages(ctx, "RETR", numbers, func(n int) string { return "RETR " + strconv.Itoa(n) })
}

// TopAll is like RetrAll but retrieves the header of each message and the first lines of its body, as [Client.Top] does.
func (c *Client) TopAll(ctx context.Context, numbers []int, lines int) iter.Seq2[*Message, error] {
	if lines < 0 {
		err := invalidArgument("TOP", fmt.Sprintf("negative line count %d", lines))
		return func(yield func(*Message, error) bool) { yield(&Message{err: err}, c.s.refused(ctx, err)) }
	}
	return c.messages(ctx, "TOP", numbers, func(n int) string { return topCommand(n, lines) })
}

// DeleAll marks messages as deleted. The error wraps a [*ServerError] for each refused number, and the error that closed the
// session, if any.
func (c *Client) DeleAll(ctx context.Context, numbers []int) error {
	b, err := c.beginBatch(ctx, "DELE", numbers, false, func(n int) string { return "DELE " + strconv.Itoa(n) })
	if b == nil {
		return err
	}
	returned := false
	defer c.s.closeOnPanic(&returned)
	var errs []error
	for _, n := range b.numbers {
		err := b.answer(n, nil)
		if err != nil {
			errs = append(errs, err)
		}
		if err != nil && !isServerError(err) {
			break
		}
	}
	err = errors.Join(append(errs, b.close())...)
	returned = true
	return err
}

func (c *Client) messages(ctx context.Context, verb string, numbers []int, command func(n int) string) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		b, err := c.beginBatch(ctx, verb, numbers, true, command)
		if err != nil {
			yield(&Message{err: err}, err)
		}
		if b == nil {
			return
		}
		complete := false
		defer func() {
			if !complete { // also if the body of the loop panics
				b.close()
			}
		}()
		for _, n := range b.numbers {
			m, err := b.message(n)
			if !yield(m, err) || err != nil {
				return
			}
			if err := m.leave(); err != nil {
				yield(m, err)
				return
			}
		}
		complete = true
		if err := b.close(); err != nil {
			yield(&Message{err: err}, err)
		}
	}
}

// leave ends a message when its loop continues. It returns the error that closed the session, even if the body of the
// loop has ignored it.
func (m *Message) leave() error {
	if err := m.Close(); err != nil && !isServerError(err) {
		return err
	}
	return nil
}

// A batch is one lease for many commands. At any time issued − done responses are outstanding, which drain relies on.
type batch struct {
	s       *session
	lease   lease
	numbers []int
	command func(n int) string
	kind    string   // the command without its number
	bodies  bool     // a multi-line response follows +OK
	current *Message // the message yielded last

	written chan struct{} // closed when the writer has ended; nil without a writer
	lost    error         // why the writer failed; may be read after written is closed
	release func() bool   // stops watching for the end of the session

	mu      sync.Mutex // guards the following fields
	room    sync.Cond
	issued  int   // commands; raised before the write
	done    int   // responses
	size    int64 // expected bytes of a message, from those seen
	known   bool  // a message has been seen completely
	stopped bool
	wrote   time.Time   // when the writer last wrote
	settles bool        // the writer waits for the probe that follows the last response; see idleAfter
	sentAt  []time.Time // of the commands in flight, in a ring, if the session is observed
}

// beginBatch acquires the lease and starts sending. Without numbers it returns nil and nil.
func (c *Client) beginBatch(ctx context.Context, verb string, numbers []int, bodies bool, command func(n int) string) (*batch, error) {
	for _, n := range numbers {
		if n < 1 {
			return nil, c.s.refused(ctx, invalidArgument(verb, invalidNumber(n)))
		}
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	// The numbers are copied: commands are sent ahead while the caller's loop may change its slice.
	b := &batch{s: c.s, numbers: slices.Clone(numbers), bodies: bodies, command: command, kind: command(0)}
	b.lease = lease{ctx: ctx, name: command(numbers[0]), hint: "end the loop", batch: b, resp: b}
	b.room.L = &b.mu
	if err := c.s.acquire(&b.lease); err != nil {
		return nil, err
	}
	returned := false
	defer c.s.closeOnPanic(&returned)
	err := b.start(c)
	if err != nil {
		c.s.release(&b.lease)
		b = nil
	}
	returned = true
	return b, err
}

func (b *batch) start(c *Client) error {
	pipelining := false
	if !c.opts.NoPipelining {
		caps, err := c.knownCapabilities(&b.lease)
		if err != nil {
			return err
		}
		pipelining = caps.Has("PIPELINING") && len(b.numbers) > 1
	}
	if !pipelining {
		b.lease.probe = true
		b.s.park(&b.lease)
		return nil
	}
	if err := b.s.ready(&b.lease, b.lease.name); err != nil {
		return err
	}
	b.lease.event = observation{} // each response starts its own
	if b.s.conn.sizesOf == b.kind {
		b.size, b.known = b.s.conn.messageSize, true
	}
	b.s.conn.discardBuffered()
	b.s.conn.sock.UnboundWrites(true)
	if b.s.observe != nil {
		b.sentAt = make([]time.Time, maxWindow)
	}
	b.written = make(chan struct{})
	b.release = context.AfterFunc(b.s.ended, b.stop)
	b.s.background(b.writeAhead)
	b.s.park(&b.lease)
	return nil
}

// window returns how many commands may be in flight.
func (b *batch) window() int {
	switch w := min(knownWindow+2*b.done, maxWindow); {
	case !b.bodies:
		return w
	case !b.known: // all messages so far were refused
		return max(firstWindow, min(2*b.done, maxWindow))
	default:
		return max(minWindow, int(min(int64(w), windowOctets/max(b.size, 1))))
	}
}

// writeAhead keeps the window full, refilling it after half of its responses.
func (b *batch) writeAhead() {
	defer close(b.written)
	b.lost = errUserPanic // unless it returns
	var lines []byte
	for {
		b.mu.Lock()
		for !b.stopped && (b.settles || b.issued-b.done > b.window()/2) {
			b.room.Wait()
		}
		b.wrote = time.Now()
		first := b.issued
		if !b.stopped {
			b.issued = max(first, min(b.done+b.window(), len(b.numbers)))
		}
		last := b.issued
		b.noteSentLocked(first, last)
		b.mu.Unlock()
		if first == last {
			b.lost = nil
			return
		}
		lines = lines[:0]
		for _, n := range b.numbers[first:last] {
			command := b.command(n)
			b.s.conn.sent(command)
			lines = append(append(lines, command...), "\r\n"...)
		}
		if b.lost = b.s.conn.write(lines); b.lost != nil {
			return
		}
	}
}

// answer reads the next status line, of the command for message number, into m if m is not nil. The error is a
// *ServerError, or the error that closed the session.
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
		if err = b.settle(command); err == nil {
			b.expect(command)
			text, err = b.s.answer(&b.lease, command)
		}
		if err != nil || !b.bodies {
			b.s.observed(&b.lease, err)
		}
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

// settle probes the connection if the writer waits for that, and lets the writer continue.
func (b *batch) settle(command string) error {
	b.mu.Lock()
	due := b.settles && b.done == b.issued
	b.mu.Unlock()
	if !due {
		return nil
	}
	b.lease.probe = true
	if err := b.s.ready(&b.lease, command); err != nil {
		return err
	}
	b.lease.event = observation{}
	b.mu.Lock()
	b.settles = false
	b.mu.Unlock()
	b.room.Signal()
	return nil
}

// expect prepares for the response to a command that was sent ahead.
func (b *batch) expect(command string) {
	b.s.answering(&b.lease, command)
	b.s.observes(&b.lease, command)
	if b.sentAt != nil {
		b.mu.Lock()
		b.lease.event.Sent = b.sentAt[b.done%maxWindow]
		b.mu.Unlock()
	}
}

// noteSentLocked records the time at which commands are sent.
func (b *batch) noteSentLocked(first, last int) {
	if b.sentAt == nil {
		return
	}
	for i := first; i < last; i++ {
		b.sentAt[i%maxWindow] = time.Now()
	}
}

// lose ends the events of the commands that will get no response. Nothing may be sent afterwards.
func (b *batch) lose(cause error) {
	if b.sentAt == nil || b.s.err() == nil { // without an error, the lease was evicted and is being drained
		return
	}
	b.mu.Lock()
	first, last := b.done, b.issued
	b.mu.Unlock()
	for _, n := range b.numbers[min(first, last):last] {
		b.expect(b.command(n))
		b.s.observed(&b.lease, cause)
		b.answered()
	}
}

// answered counts a response, and reports whether its command had been sent: a server may send more responses than it
// received commands.
func (b *batch) answered() (asked bool) {
	b.mu.Lock()
	b.done++
	asked = b.done <= b.issued
	if b.written != nil && b.issued < len(b.numbers) && time.Since(b.wrote) > idleAfter {
		b.settles = true
	}
	b.mu.Unlock()
	b.room.Signal()
	return asked
}

// sized records the size of a message, or how much of it has been read so far. If it is larger than expected, it raises
// the expected size at once, since as much may have to be drained; smaller sizes lower it gradually.
func (b *batch) sized(octets int64, complete bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case octets > b.size:
		b.size = octets
	case complete:
		b.size -= (b.size - octets) / 4
	}
	if complete {
		b.known = true
		b.s.conn.messageSize, b.s.conn.sizesOf = b.size, b.kind
	}
}

// message reads the next status line and returns the message after it. A refused message is not an error here.
func (b *batch) message(number int) (*Message, error) {
	returned := false
	defer b.s.closeOnPanic(&returned)
	m := &Message{Number: number, s: b.s, lease: &b.lease, body: dotReader{conn: b.s.conn}}
	m.err = b.answer(number, m)
	returned = true
	if isServerError(m.err) {
		return m, nil
	}
	return m, m.err
}

// close ends the batch: it stops sending, drains the outstanding responses, and releases the lease. It returns an error
// only if none was returned before.
func (b *batch) close() error {
	returned := false
	defer b.s.closeOnPanic(&returned)
	if b.current != nil {
		b.current.Close()
	}
	err := b.end()
	returned = true
	return err
}

func (b *batch) end() error {
	if b.release != nil {
		b.release()
	}
	if err := b.s.resume(&b.lease); err != nil {
		b.stop()
		b.lose(err)
		return nil
	}
	if err := b.drain(); err != nil {
		err = b.s.fail(&b.lease, err)
		b.lose(err)
		return err
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

// drain reads all outstanding responses.
func (b *batch) drain() error {
	b.stop()
	if b.current != nil {
		if err := b.current.drain(); err != nil {
			return err
		}
	}
	for b.done < b.issued {
		command := b.command(b.numbers[b.done])
		b.expect(command)
		word, text, err := b.s.conn.status()
		b.s.answered(&b.lease)
		if err != nil {
			return err
		}
		if word == "+OK" && b.bodies {
			rest := dotReader{conn: b.s.conn}
			if err := rest.drain(); err != nil {
				return err
			}
			b.lease.event.Octets = rest.octets
		}
		var refused error
		if word == "-ERR" {
			refused = b.s.conn.serverError(command, text)
		}
		b.s.observed(&b.lease, refused)
		b.answered()
	}
	if b.written != nil {
		b.s.conn.sock.StartWatchdog() // a server can respond to a command that it has not read
		<-b.written
		if err := b.s.conn.sock.StopWatchdog(b.lost); err != nil {
			return err
		}
		b.s.conn.sock.UnboundWrites(false)
		if b.s.conn.buffered() > 0 { // it is unknown which response was the extra one
			return &ProtocolError{Line: b.s.conn.nextLine(), Reason: "more responses than commands"}
		}
	}
	return nil
}
