package pop3

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	chunkEntries = 512     // entries parsed under one lock
	chunkBytes   = 4 << 10 // text that the strings of one chunk share
	channelRoom  = 4096
)

// Listing is the response to LIST or UIDL. Iterate over it with All, or receive from C; both consume the same entries.
//
// Memory use is constant until another command needs the connection; then the remaining entries are moved to memory.
// Commands may therefore be issued while iterating.
type Listing[T Entry | UID] struct {
	s       *session
	lease   lease
	stopped atomic.Bool   // by Stop, or canceled: nothing more is delivered; set while mu is held
	quit    chan struct{} // closed when stopped is set
	pump    pump[T]

	mu       sync.Mutex // guards the following fields; never held while waiting for the server
	changed  sync.Cond  // of reading, sealed and stopped, and when a chunk arrives
	reading  bool       // a goroutine owns pump
	queue    []chunk[T] // arrived but not taken
	first    [1]chunk[T]
	spare    []T // an empty slice to be used again
	held     int // bytes in queue
	maxHeld  int
	sealed   bool  // nothing more will arrive
	fault    error // why, once the entries before have been taken
	inHand   int   // chunks that were taken but not consumed
	consumed bool  // everything was taken and consumed
	err      error // returned by Err

	letGo func() // stops watching ctx; nil while nothing is watched

	// The feeder of C.
	ch      chan T // returned by C; nil until then
	sending bool   // it waits for room in ch
	closed  bool   // ch is closed
}

// A chunk is the entries of some lines, and the memory that they take.
type chunk[T Entry | UID] struct {
	entries []T
	bytes   int
}

func newListing[T Entry | UID](c *Client, ctx context.Context, command string, form *form[T]) *Listing[T] {
	l := &Listing[T]{s: c.s, maxHeld: c.opts.MaxSpill, quit: make(chan struct{})}
	l.lease = lease{ctx: ctx, name: command, hint: "Stop it"}
	l.pump = pump[T]{conn: c.s.conn, command: command, form: form, max: c.opts.MaxEntries}
	l.changed.L = &l.mu
	l.queue = l.first[:0]
	return l
}

// watch has the listing end with its ctx, also while it waits. Once the session has ended, no context keeps it in memory: the entries
// that have arrived can still be taken, and ctx is checked as they are.
func (l *Listing[T]) watch() {
	if l.lease.ctx.Done() == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	stop := context.AfterFunc(l.lease.ctx, l.cancel)
	stopEnded := context.AfterFunc(l.s.ended, l.sessionEnded)
	l.letGo = func() { stop(); stopEnded() }
}

func (l *Listing[T]) sessionEnded() {
	if l.lease.ctx.Err() != nil { // this may be why the session has ended: cancel is about to be called
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.letGoLocked()
}

func (l *Listing[T]) letGoLocked() {
	if l.letGo != nil {
		l.letGo()
		l.letGo = nil
	}
}

// C returns a channel of the entries in the server's order. It is closed at the end of the listing, on error, or by
// Stop; check Err afterwards. The first call starts a goroutine, which runs until the channel is closed: call Stop if
// you do not receive all entries.
func (l *Listing[T]) C() <-chan T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ch == nil {
		l.ch = make(chan T, channelRoom)
		l.s.background(l.feed)
	}
	return l.ch
}

func (l *Listing[T]) feed() {
	returned := false
	defer func() {
		if !returned {
			l.end(errUserPanic) // the receiver must not wait forever
		}
	}()
	for entries := l.next(nil, true); entries != nil; entries = l.next(entries, true) {
		l.send(entries)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeChannelLocked()
	returned = true
}

// send sends the entries, unless the listing ends first.
func (l *Listing[T]) send(entries []T) {
	for rest := l.sendSome(entries); len(rest) > 0; rest = l.sendSome(rest) {
		select { // prefer quit if both are ready
		case <-l.quit:
			return
		default:
		}
		select {
		case l.ch <- rest[0]:
			rest = rest[1:]
		case <-l.quit:
			return
		case <-l.lease.ctx.Done():
			l.cancel()
			return
		case <-l.s.closed:
			l.end(ErrClosed)
			return
		}
	}
}

// sendSome sends as many entries as ch has room for, and returns the rest. It holds the lock, so that nothing is sent
// after Stop.
func (l *Listing[T]) sendSome(entries []T) (rest []T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sending = false
	if l.stopped.Load() {
		return nil
	}
	for i, e := range entries {
		select {
		case l.ch <- e:
		default:
			l.sending = true
			return entries[i:]
		}
	}
	return nil
}

// closeChannelLocked closes ch, once.
func (l *Listing[T]) closeChannelLocked() {
	if l.ch != nil && !l.closed {
		l.closed = true
		if l.stopped.Load() && l.err == nil {
			l.dropSent() // sent at the moment of Stop
		}
		close(l.ch)
	}
}

// dropSent takes back the entries in ch, after Stop.
func (l *Listing[T]) dropSent() {
	for {
		select {
		case _, open := <-l.ch:
			if !open {
				return
			}
		default:
			return
		}
	}
}

// All returns an iterator over the entries. It starts no goroutine. Breaking out of the loop stops the listing. An
// error is yielded last, with a zero entry.
func (l *Listing[T]) All() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		finished := false
		defer func() {
			if !finished { // also if the body of the loop panics
				l.Stop()
			}
		}()
		var entries []T
		for {
			if entries = l.next(entries, false); entries == nil {
				finished = true
				if err := l.Err(); err != nil {
					var zero T
					yield(zero, err)
				}
				return
			}
			for _, e := range entries {
				if l.stopped.Load() {
					break
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Slice returns all entries that have not been taken yet. If the listing is incomplete, it returns the entries before
// the error, and the error.
func (l *Listing[T]) Slice() ([]T, error) {
	var entries []T
	for e, err := range l.All() {
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Err returns the error that ended the listing early. It is nil while the listing is in progress, after it completed,
// and after Stop.
func (l *Listing[T]) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Stop ends the listing without an error. C may deliver at most one more entry. Stop does not block and may be called
// at any time, from any goroutine. It also ends a loop over All that is waiting for the server. The rest of the
// response is discarded when the next command needs the connection.
func (l *Listing[T]) Stop() { l.end(nil) }

// end stops the delivery.
func (l *Listing[T]) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked(err)
}

func (l *Listing[T]) endLocked(err error) {
	if err == nil {
		defer l.dropSent()
	}
	if l.stopped.Load() || l.consumed {
		return
	}
	l.stopped.Store(true)
	l.err = err
	l.queue, l.spare, l.held = nil, nil, 0
	close(l.quit)
	if !l.sending { // otherwise the feeder does so
		l.closeChannelLocked()
	}
	l.letGoLocked()
	if err == nil {
		l.s.releaseContext(&l.lease)
	}
	l.changed.Broadcast()
}

// cancel is called when ctx is done.
func (l *Listing[T]) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancelLocked()
}

func (l *Listing[T]) cancelLocked() { l.endLocked(commandFailed(l.lease.name, l.lease.ctx.Err())) }

// next returns entries that have arrived, waiting for the first, or nil at the end. The slice of the previous call is
// used again. The feeder of C may wait inside a Read; a loop over All must be able to return when Stop is called.
func (l *Listing[T]) next(used []T, feeder bool) []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if used != nil {
		l.inHand--
		if cap(used) == chunkEntries {
			l.spare = used[:0]
		}
	}
	for {
		switch {
		case l.consumed || l.stopped.Load():
			return nil
		case l.lease.ctx.Err() != nil:
			l.cancelLocked()
			return nil
		case len(l.queue) > 0:
			return l.takeLocked()
		case l.sealed:
			l.finishLocked()
			return nil
		case l.reading:
			l.changed.Wait()
			continue
		}
		l.reading = true
		l.unlocked(func() {
			switch {
			case feeder:
				l.advance()
			case l.buffered():
				l.advance()
			default:
				l.s.background(l.advance)
			}
		})
	}
}

// unlocked runs fn without mu.
func (l *Listing[T]) unlocked(fn func()) {
	l.mu.Unlock()
	defer l.mu.Lock()
	fn()
}

// takeLocked takes the first chunk of the queue.
func (l *Listing[T]) takeLocked() []T {
	c := l.queue[0]
	l.queue[0] = chunk[T]{}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = l.first[:0]
	}
	l.held -= c.bytes
	l.inHand++
	return c.entries
}

// finishLocked ends the listing once everything has been taken.
func (l *Listing[T]) finishLocked() {
	if l.err == nil {
		l.err = l.fault
	}
	if l.inHand == 0 { // both C and All may take
		l.consumed = true
		l.letGoLocked()
		l.s.releaseContext(&l.lease)
	}
}

// spill reads the rest of the response into memory, because a command waits for the connection.
func (l *Listing[T]) spill() {
	for l.own() {
		l.advance()
	}
}

// own waits until the pump is free and takes it. It returns false if the response has been read.
func (l *Listing[T]) own() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.reading {
		l.changed.Wait()
	}
	l.reading = !l.pump.eof
	return l.reading
}

// buffered reports whether the pump can advance without waiting for the server.
func (l *Listing[T]) buffered() bool {
	return l.pump.eof || l.s.resume(&l.lease) != nil || l.s.conn.hasLine()
}

// advance reads at least one line of the response. The caller owns the pump, and gives it up.
func (l *Listing[T]) advance() {
	returned := false
	defer func() {
		l.s.closeOnPanic(&returned)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reading = false
		l.changed.Broadcast()
	}()
	l.read()
	returned = true
}

func (l *Listing[T]) read() {
	if err := l.s.resume(&l.lease); err != nil {
		l.pump.eof = true
		l.arrive(chunk[T]{}, true, err)
		return
	}
	l.mu.Lock()
	into := l.spare
	l.spare = nil
	l.mu.Unlock()
	c, fault, err := l.pump.read(into)
	l.lease.event.Octets = l.pump.octets
	if fault != nil {
		l.lease.result = fault
	}
	switch {
	case err != nil:
		l.arrive(c, false, nil)
		l.fail(err)
	case l.pump.eof:
		l.s.conn.receivedText(l.pump.octets, true)
		l.s.release(&l.lease)
		l.arrive(c, true, fault)
	default:
		if err := l.arrive(c, l.pump.malformed, fault); err != nil {
			l.fail(err)
			return
		}
		l.s.park(&l.lease)
	}
}

// fail closes the session and ends the listing.
func (l *Listing[T]) fail(err error) {
	l.pump.eof = true
	l.s.conn.receivedText(l.pump.octets, false)
	l.arrive(chunk[T]{}, true, l.s.fail(&l.lease, err))
}

// arrive queues the entries that were read. It fails if the queue exceeds its memory limit.
func (l *Listing[T]) arrive(c chunk[T], last bool, fault error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopped.Load() || len(c.entries) == 0:
		l.spare = c.entries[:0]
	case len(l.queue) == 0: // it is about to be taken
		l.queue = append(l.queue, c)
		l.held += c.bytes
	default:
		l.spare = c.entries[:0]
		c.entries = slices.Clone(c.entries)
		l.queue = append(l.queue, c)
		l.held += c.bytes
	}
	if last && !l.sealed {
		l.sealed, l.fault = true, fault
	}
	l.changed.Broadcast()
	if l.held > l.maxHeld {
		return errTooManyEntries(l.maxHeld, "bytes in memory")
	}
	return nil
}
