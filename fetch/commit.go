package fetch

import (
	"errors"
	"fmt"
	"time"
)

// A batch is a number of staged messages that become durable together.
type batch struct {
	staged    []staged
	discarded []Record // staged, and not to be delivered
	refused   []staged // by Stage, for good
	octets    int64
	done      chan struct{} // closed when the batch is committed

	discardedOctets int64
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

type staged struct {
	record  Record
	message Message
	entry   *entry
	octets  int64
	err     error // of refused
}

// A committer takes batches through steps 1 to 6 of the package documentation, while the session receives the next one. Only its
// goroutine uses the Store, and the Sink except for Stage, from start to finish.
type committer struct {
	s       *session
	batch   *batch
	batches chan *batch   // nil until the first batch
	failed  chan struct{} // closed when err is set
	ended   chan struct{}
	err     error // why it commits nothing more
	panic   any
}

func newCommitter(s *session) *committer {
	return &committer{s: s, batch: newBatch(), failed: make(chan struct{}), ended: make(chan struct{})}
}

func (c *committer) hasFailed() bool {
	select {
	case <-c.failed:
		return true
	default:
		return false
	}
}

// makeRoom commits the batch if a message of size octets does not fit into it.
func (c *committer) makeRoom(size int64) {
	if len(c.batch.staged) > 0 && c.batch.octets+size > orDefault(c.s.f.BatchOctets, 4<<20) {
		c.send()
	}
}

// add adds a staged message to the batch.
func (c *committer) add(r Record, m Message, e *entry, octets int64) {
	c.batch.staged = append(c.batch.staged, staged{record: r, message: m, entry: e, octets: octets})
	c.batch.octets += octets
	if len(c.batch.staged) >= orDefault(c.s.f.BatchMessages, 64) || c.batch.octets >= orDefault(c.s.f.BatchOctets, 4<<20) {
		c.send()
	}
}

func (c *committer) refuse(r Record, m Message, err error) {
	r.State, r.Target, r.Reason = Refused, "", err.Error()
	c.batch.refused = append(c.batch.refused, staged{record: r, message: m, err: err})
}

// discard adds the message in hand to those to be discarded. They take files and memory, so they are as limited as a batch.
func (c *committer) discard(name string) {
	c.batch.discarded = append(c.batch.discarded, Record{Name: name})
	c.batch.discardedOctets += c.s.body.octets
	if len(c.batch.discarded) >= orDefault(c.s.f.BatchMessages, 64) || c.batch.discardedOctets >= orDefault(c.s.f.BatchOctets, 4<<20) {
		c.send()
	}
}

// send hands the batch to the goroutine. It waits for the batch before the last.
func (c *committer) send() {
	if c.batches == nil {
		c.batches = make(chan *batch)
		go c.loop()
	}
	select {
	case c.batches <- c.batch:
		b := c.batch
		c.batch = newBatch()
		if c.s.f.sequential {
			select {
			case <-b.done:
			case <-c.failed:
			}
		}
	case <-c.failed: // finish discards the batch
	case <-c.s.kill.Done():
	}
}

func (c *committer) loop() {
	defer close(c.ended)
	returned := false
	defer func() {
		if !returned {
			c.panic = recover()
			c.fail(sinkError(errors.New("the sink or the store did not return")))
		}
	}()
	for b := range c.batches {
		if err := c.commit(b); err != nil {
			c.fail(err)
			break
		}
		close(b.done)
	}
	returned = true
}

func (c *committer) fail(err error) {
	c.err = err
	close(c.failed)
}

// finish commits the last batch, and waits until all batches are committed. It panics if the Sink or the Store has panicked.
func (c *committer) finish() error {
	if b := c.batch; len(b.staged)+len(b.refused)+len(b.discarded) > 0 {
		c.send()
	}
	if c.batches == nil {
		return nil
	}
	close(c.batches)
	if !c.wait() {
		return sinkError(errAbandoned)
	}
	if c.panic != nil {
		panic(c.panic)
	}
	if rest := append(c.batch.discarded, records(c.batch.staged)...); len(rest) > 0 { // the batch was not sent
		c.s.f.Sink.Discard(c.s.kill, rest)
	}
	return c.err
}

// wait waits for the goroutine. It gives up if the Sink or the Store does not return after the run had to end.
func (c *committer) wait() bool {
	select {
	case <-c.ended:
		return true
	case <-c.s.kill.Done():
	}
	timer := time.NewTimer(abandonAfter)
	defer timer.Stop()
	select {
	case <-c.ended:
		return true
	case <-timer.C:
		return false
	}
}

func records(staged []staged) []Record {
	list := make([]Record, len(staged))
	for i := range staged {
		list[i] = staged[i].record
	}
	return list
}

// commit takes a batch through steps 1 to 6. If it fails, no intent remains of a message that is not delivered, unless the Store
// fails.
func (c *committer) commit(b *batch) error {
	ctx, sink, store := c.s.kill, c.s.f.Sink, c.s.f.Store
	if len(b.discarded) > 0 {
		sink.Discard(ctx, b.discarded)
	}
	if len(b.refused) > 0 {
		if err := store.Put(ctx, records(b.refused)...); err != nil {
			return storeError(err)
		}
		for _, r := range b.refused {
			c.s.refuse(r.message, r.err)
		}
	}
	if len(b.staged) == 0 {
		return nil
	}
	intents := records(b.staged)
	if err := sink.Sync(ctx, intents); err != nil {
		sink.Discard(ctx, intents)
		return sinkError(err)
	}
	if err := store.Put(ctx, intents...); err != nil {
		return errors.Join(storeError(err), c.takeBack(intents))
	}
	for rest := b.staged; len(rest) > 0; {
		n, err := sink.Commit(ctx, intents)
		if n < 0 || n > len(rest) || n == 0 && err == nil {
			n, err = 0, fmt.Errorf("the sink reports %d of %d messages", n, len(rest))
		}
		if doneErr := c.done(rest[:n], intents[:n]); doneErr != nil {
			return doneErr
		}
		rest, intents = rest[n:], intents[n:]
		switch {
		case err == nil:
			continue
		case len(rest) == 0:
			return sinkError(err)
		case IsLater(err):
			if err := c.takeBack(intents[:1]); err != nil {
				return err
			}
			c.s.leave(rest[0].message, err)
		case IsNever(err):
			if err := c.refused(intents[0], err); err != nil {
				return err
			}
			c.s.refuse(rest[0].message, err)
		default:
			return errors.Join(sinkError(err), c.takeBack(intents))
		}
		rest, intents = rest[1:], intents[1:]
	}
	return nil
}

// done records messages as delivered.
func (c *committer) done(delivered []staged, intents []Record) error {
	if len(delivered) == 0 {
		return nil
	}
	done := make([]Record, len(delivered))
	for i, r := range intents {
		r.State, r.Target, r.Name = Done, "", ""
		done[i] = r
	}
	if err := c.s.f.Store.Put(c.s.kill, done...); err != nil {
		return storeError(err) // the next run finds the intents
	}
	events := make([]Event, len(delivered))
	octets := int64(0)
	headers := 0
	for i, d := range delivered {
		d.entry.status = statusFetched
		octets += d.octets
		if d.message.Header {
			headers++
		}
		events[i] = Event{Kind: EventFetched, Message: d.message}
	}
	c.s.progress = true
	c.s.count(func(report *Report) {
		report.Fetched += len(delivered) - headers
		report.Headers += headers
		report.Octets += octets
	}, events...)
	return nil
}

// takeBack removes intents, and then staged messages: an intent without a staged message would count as delivered.
func (c *committer) takeBack(intents []Record) error {
	keys := make([]Key, len(intents))
	for i := range intents {
		keys[i] = intents[i].Key
	}
	if err := c.s.f.Store.Delete(c.s.kill, keys...); err != nil {
		return storeError(err)
	}
	c.s.f.Sink.Discard(c.s.kill, intents)
	return nil
}

// refused records a message as refused, and then removes the staged message.
func (c *committer) refused(intent Record, err error) error {
	r := intent
	r.State, r.Target, r.Name, r.Reason = Refused, "", "", err.Error()
	if err := c.s.f.Store.Put(c.s.kill, r); err != nil {
		return storeError(err)
	}
	c.s.f.Sink.Discard(c.s.kill, []Record{intent})
	return nil
}
