package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// spoolMemory is the size up to which a Delivery keeps a message in memory. A batch of them has at most Fetcher.BatchOctets.
const spoolMemory = 256 << 10

// A spool has the messages that a Delivery has staged.
type spool struct {
	mu       sync.Mutex
	next     int
	messages map[string]*spooled
}

type spooled struct {
	message Message
	text    []byte
	file    *os.File // has the rest, if the message is large
}

var _ Sink = (*Delivery)(nil)

// Target implements Sink.
func (d *Delivery) Target() string { return "deliver:" + d.Name }

// Recover implements Sink. Messages whose delivery was interrupted are delivered again.
func (d *Delivery) Recover(ctx context.Context, r Recovery) ([]Outcome, error) {
	if d.Func == nil {
		return nil, errors.New("Delivery without a Func")
	}
	d.spool.close()
	return make([]Outcome, len(r.Intents)), nil
}

// Stage implements Sink.
func (d *Delivery) Stage(ctx context.Context, m Message, body io.Reader) (name string, err error) {
	s := &spooled{message: m}
	w := &spoolWriter{spooled: s, dir: d.Dir}
	complete := false
	defer func() {
		if !complete {
			s.close()
		}
	}()
	if _, err := io.Copy(w, body); err != nil {
		return "", err
	}
	complete = true
	return d.spool.add(s), nil
}

// A spoolWriter keeps the first bytes in memory and the rest in a temporary file.
type spoolWriter struct {
	*spooled
	dir string
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	if w.file == nil && len(w.text)+len(p) <= spoolMemory {
		w.text = append(w.text, p...)
		return len(p), nil
	}
	if w.file == nil {
		f, err := os.CreateTemp(w.dir, "pop3-*") // with mode 0600
		if err != nil {
			return 0, err
		}
		os.Remove(f.Name()) // so that it has no name, if the system permits that
		w.file = f
		if _, err := f.Write(w.text); err != nil {
			return 0, err
		}
		w.text = nil
	}
	return w.file.Write(p)
}

// open returns a reader of the message from its beginning.
func (s *spooled) open() (io.ReadSeeker, error) {
	if s.file == nil {
		return bytes.NewReader(s.text), nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s.file, err
}

func (s *spooled) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
	}
}

func (p *spool) add(s *spooled) (name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.messages == nil {
		p.messages = make(map[string]*spooled)
	}
	p.next++
	name = strconv.Itoa(p.next)
	p.messages[name] = s
	return name
}

// take returns a message, which is not in the spool any more.
func (p *spool) take(name string) *spooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.messages[name]
	delete(p.messages, name)
	return s
}

// close discards all messages.
func (p *spool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.messages {
		s.close()
	}
	clear(p.messages)
}

// Sync implements Sink. It does nothing.
func (d *Delivery) Sync(ctx context.Context, staged []Record) error { return nil }

// Commit implements Sink. It delivers the first of the messages.
func (d *Delivery) Commit(ctx context.Context, staged []Record) (n int, err error) {
	s := d.spool.take(staged[0].Name)
	if s == nil {
		return 0, fmt.Errorf("no message %q", staged[0].Name)
	}
	body, err := s.open()
	if err != nil {
		s.close()
		return 0, err
	}
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	if err := d.call(ctx, s, body); err != nil {
		return 0, err
	}
	return 1, nil
}

// Discard implements Sink.
func (d *Delivery) Discard(ctx context.Context, staged []Record) {
	for _, r := range staged {
		if s := d.spool.take(r.Name); s != nil {
			s.close()
		}
	}
}

// abandonAfter is the time that Func has to return after its context is done.
const abandonAfter = 5 * time.Second

var errAbandoned = errors.New("it did not return after its context was done")

// call calls Func, and panics if it panics. It does not wait for one that does not return after ctx is done.
func (d *Delivery) call(ctx context.Context, s *spooled, body io.ReadSeeker) error {
	result := make(chan error, 1)
	var panicked any
	go func() {
		err := errors.New("the delivery function did not return")
		defer func() {
			panicked = recover()
			s.close()
			result <- err
		}()
		err = d.Func(ctx, s.message, body)
	}()
	wait := func(done <-chan struct{}, timer <-chan time.Time) (error, bool) {
		select {
		case err := <-result:
			if panicked != nil {
				panic(panicked)
			}
			return err, true
		case <-done:
		case <-timer:
		}
		return nil, false
	}
	if err, ok := wait(ctx.Done(), nil); ok {
		return err
	}
	timer := time.NewTimer(abandonAfter)
	defer timer.Stop()
	if err, ok := wait(nil, timer.C); ok {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), errAbandoned)
}
