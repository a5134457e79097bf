package pop3

import (
	"bytes"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
)

const (
	batchEntries = 512     // entries parsed under one lock
	batchOctets  = 4 << 10 // of text behind the strings of one batch
	channelRoom  = 4096
)

// Listing is the response to LIST or UIDL, entry by entry: over a channel with C, or in a plain loop with All. Both take
// from the same entries.
//
// Memory is constant while nobody else wants the session. As soon as another command does, the rest is read into memory
// and the wire is free; so commands may be called inside the loop.
type Listing[T Entry | UID] struct {
	s     *session
	lease lease
	form  *form[T]
	max   int           // entries
	over  atomic.Bool   // stopped, or cancelled: deliver no more
	quit  chan struct{} // closed with over

	wire   chan struct{} // holds one while somebody reads the response; a lock that testing/synctest can see
	whole  bool          // there is no more of it to be read
	bad    bool          // a line made no sense: the rest is to be dropped
	count  int           // entries so far
	octets int64

	mu      sync.Mutex // never held while waiting
	ready   []T        // arrived and not yet taken
	spare   []T        // an empty slice to be used again
	ended   bool       // nothing more will arrive
	done    bool       // all was taken and used up
	fault   error      // why it ended, once the entries before have been taken
	err     error      // what Err says
	ch      chan T     // what C returns
	inHand  int        // how many batches have been taken and are not used up
	sending bool       // the feeder waits for room in ch
	shut    bool       // ch is closed
}

func newListing[T Entry | UID](s *session, max int, form *form[T]) *Listing[T] {
	return &Listing[T]{s: s, form: form, max: max, quit: make(chan struct{}), wire: make(chan struct{}, 1)}
}

// C returns the channel that yields the entries in the server's order. It is closed at the end, at an error, or by Stop;
// ask Err then. The first call starts the goroutine that feeds it, which ends with the channel or with Client.Close.
func (l *Listing[T]) C() <-chan T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ch == nil {
		l.ch = make(chan T, channelRoom)
		go l.feed()
	}
	return l.ch
}

func (l *Listing[T]) feed() {
	for batch := l.next(nil); batch != nil; batch = l.next(batch) {
		l.send(batch)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shutChannel()
}

// send sends a batch, or what the listing's end leaves of it.
func (l *Listing[T]) send(batch []T) {
	for rest := l.sendSome(batch); len(rest) > 0; rest = l.sendSome(rest) {
		select { // when ch has room as well, this must win
		case <-l.quit:
			return
		default:
		}
		select {
		case l.ch <- rest[0]:
			rest = rest[1:]
		case <-l.quit:
			return
		case <-l.s.gone:
			l.end(ErrClosed)
			return
		}
	}
}

// sendSome sends what ch has room for, under the lock, so that nothing is sent after Stop, and returns the rest.
func (l *Listing[T]) sendSome(batch []T) (rest []T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sending = false
	if l.over.Load() {
		return nil
	}
	for i, e := range batch {
		select {
		case l.ch <- e:
		default:
			l.sending = true
			return batch[i:]
		}
	}
	return nil
}

// shutChannel closes ch, once. The caller holds mu.
func (l *Listing[T]) shutChannel() {
	if l.ch != nil && !l.shut {
		l.shut = true
		if l.over.Load() && l.err == nil {
			l.dropSent() // what was sent in the moment of Stop
		}
		close(l.ch)
	}
}

// dropSent takes back what is in ch, after Stop.
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

// All yields the same entries as C to a plain loop, without a goroutine. Breaking out is Stop. An error comes last, with a zero entry.
func (l *Listing[T]) All() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var batch []T
		for {
			if batch = l.next(batch); batch == nil {
				if err := l.Err(); err != nil {
					var zero T
					yield(zero, err)
				}
				return
			}
			for _, e := range batch {
				if l.over.Load() {
					break
				}
				if !yield(e, nil) {
					l.Stop()
					return
				}
			}
		}
	}
}

// Slice returns all entries that have not been taken yet. If the listing is incomplete, it returns the entries before the
// error, and the error.
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

// Err returns why the listing ended before its end; nil while it goes on, once it is complete, and after Stop.
func (l *Listing[T]) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Stop ends the listing without an error: no more entries are delivered, but for one, rarely, for which C had no room at that
// moment. It does not block, and may be called at any time, from any goroutine. What is left on the wire is read and dropped by
// whoever wants the session next.
func (l *Listing[T]) Stop() { l.end(nil) }

// end delivers no more.
func (l *Listing[T]) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		defer l.dropSent()
	}
	if l.over.Load() || l.done {
		return
	}
	l.over.Store(true)
	l.err = err
	l.ready, l.spare = nil, nil
	close(l.quit)
	if !l.sending { // else the feeder does so; it may be waiting for the server now
		l.shutChannel()
	}
	l.s.unwatch(&l.lease)
}

// cancel is called when ctx is done.
func (l *Listing[T]) cancel() { l.end(fmt.Errorf("pop3: %s: %w", l.lease.name, l.lease.ctx.Err())) }

// next returns the entries that have arrived, waiting for the first, or nil at the end. The slice of the call before is used again.
func (l *Listing[T]) next(used []T) []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if used != nil {
		l.inHand--
	}
	if l.done {
		return nil
	}
	l.spare = used[:0]
	for {
		switch {
		case l.over.Load():
			return nil
		case len(l.ready) > 0:
			batch := l.ready
			l.ready = nil
			l.inHand++
			return batch
		case l.ended:
			if l.err == nil {
				l.err = l.fault
			}
			if l.inHand == 0 { // C and All may both take
				l.done = true
				l.s.unwatch(&l.lease)
			}
			return nil
		}
		func() {
			l.mu.Unlock()
			defer l.mu.Lock() // also if a Logger or a DebugWriter panics
			l.advance()
		}()
	}
}

// clear reads the rest of the response into memory, because somebody waits for the wire.
func (l *Listing[T]) spill() {
	for l.advance() {
	}
}

// advance reads at least one line from the wire, and reports whether there is more.
func (l *Listing[T]) advance() bool {
	l.wire <- struct{}{}
	defer func() { <-l.wire }()
	if l.whole {
		return false
	}
	l.mu.Lock()
	into := l.spare
	l.spare = nil
	l.mu.Unlock()
	if cap(into) < batchEntries {
		into = make([]T, 0, batchEntries)
	}
	if err := l.s.resume(&l.lease); err != nil {
		l.whole = true
		l.arrive(nil, true, err)
		return false
	}
	if l.bad {
		l.finish(l.drop())
		return false
	}
	batch, end, fault, err := l.read(into[:0])
	switch {
	case err != nil:
		fault = l.finish(err)
		l.arrive(batch, true, fault)
		return false
	case end:
		l.arrive(batch, true, nil)
		l.finish(nil)
		return false
	}
	l.bad = fault != nil
	l.arrive(batch, l.bad, fault)
	l.s.park(&l.lease)
	return true
}

// finish passes the turn on, or breaks the session and returns the cause.
func (l *Listing[T]) finish(err error) error {
	l.whole = true
	l.s.conn.debugBody(l.octets, err == nil)
	if err != nil {
		return l.s.fail(&l.lease, err)
	}
	l.s.release(&l.lease)
	return nil
}

// arrive hands over what was read.
func (l *Listing[T]) arrive(batch []T, end bool, fault error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over.Load() {
		batch = nil
	}
	if len(l.ready) == 0 {
		l.ready = batch
	} else {
		l.ready = append(l.ready, batch...)
		l.spare = batch[:0]
	}
	if end && !l.ended {
		l.ended, l.fault = true, fault
	}
}

// read parses some lines. fault is a line that cannot be parsed, in step; err is fatal.
func (l *Listing[T]) read(batch []T) (_ []T, end bool, fault, err error) {
	lines, err := l.s.conn.lines()
	if err != nil {
		return batch, false, nil, err
	}
	if len(lines) > batchOctets {
		if i := bytes.LastIndex(lines[:batchOctets], []byte("\r\n")); i >= 0 {
			lines = lines[:i+2]
		} else {
			lines = lines[:bytes.Index(lines, []byte("\r\n"))+2]
		}
	}
	used := 0
	defer func() {
		l.s.conn.used(used)
		l.octets += int64(used)
	}()
	text := ""
	if l.form.text {
		text = string(lines) // one string for the ids of a batch
	}
	maxLine := l.s.conn.maxLine
	for used < len(lines) && len(batch) < batchEntries {
		room := min(batchEntries, len(batch)+l.max-l.count)
		plain, n := l.form.plain(batch[:len(batch):room], lines[used:], text[min(used, len(text)):], maxLine)
		if n > 0 {
			l.count += len(plain) - len(batch)
			used += n
			batch = batch[:len(plain)]
			continue
		}
		n = bytes.IndexByte(lines[used:], '\n') + 1
		for n < 2 || lines[used+n-2] != '\r' {
			n += bytes.IndexByte(lines[used+n:], '\n') + 1
		}
		line := lines[used : used+n-2]
		if len(line) == 1 && line[0] == '.' {
			used += n
			return batch, true, nil, nil
		}
		if len(line) > maxLine {
			return batch, false, nil, ErrLineTooLong
		}
		used += n
		e, reason := l.form.line(line)
		if reason != "" {
			return batch, false, &ProtocolError{Command: l.lease.name, Line: l.s.conn.quoted(line), Reason: reason}, nil
		}
		if l.count++; l.count > l.max {
			return batch, false, nil, errTooManyEntries(l.max)
		}
		batch = append(batch, e)
	}
	return batch, false, nil, nil
}

// drop reads the rest of the response after a line that makes no sense.
func (l *Listing[T]) drop() error {
	var dots unstuffer
	for {
		text, end, err := l.s.conn.text(&dots)
		l.octets += int64(len(text))
		if end || err != nil {
			return err
		}
	}
}
