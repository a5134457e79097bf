package fetch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"
)

// A diskStore is a durable Store that stops together with a memDisk. Each change is a step.
type diskStore struct {
	MemoryStore
	disk *memDisk
}

func (s *diskStore) step() error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.disk.next()
}

func (s *diskStore) Load(ctx context.Context, states ...State) iter.Seq2[Record, error] {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.dead {
		return func(yield func(Record, error) bool) { yield(Record{}, errKilled) }
	}
	return s.MemoryStore.Load(ctx, states...)
}

func (s *diskStore) Put(ctx context.Context, records ...Record) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.MemoryStore.Put(ctx, records...)
}

func (s *diskStore) Delete(ctx context.Context, keys ...Key) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.MemoryStore.Delete(ctx, keys...)
}

// A crashRun is a Fetcher with everything it needs in memory.
type crashRun struct {
	*Fetcher
	trial *crashTrial // for its messages
	drop  *maildrop
	disk  *memDisk
}

func newCrashRun(target crashTarget, del bool) *crashRun {
	c := &crashRun{drop: &maildrop{}, disk: newMemDisk("/", crashDir), trial: &crashTrial{}}
	for i, text := range crashMessages() {
		if i < 6 { // the last one has no line end
			c.trial.messages = append(c.trial.messages, text)
			c.drop.mails = append(c.drop.mails, mail{uid: fmt.Sprint("uid", i), text: text})
		}
	}
	now := time.Unix(1795652558, 0)
	c.Fetcher = &Fetcher{
		Account: "joe", Dial: c.drop.Dial, Store: &diskStore{disk: c.disk}, Sink: target.sink(c.disk),
		Policy: Policy{Delete: del}, Retry: Retry{Attempts: -1}, BatchMessages: 2,
		Now: func() time.Time { now = now.Add(time.Second); return now },
	}
	return c
}

// stop runs the Fetcher up to a step.
func (c *crashRun) stop(t *testing.T, target crashTarget, at int) {
	c.disk.step, c.disk.killAt = 0, at
	_, err := c.Run(t.Context())
	if err != nil && !errors.Is(err, errKilled) {
		t.Errorf("stopped at %d: %v", at, err)
	}
	c.Sink = target.sink(c.disk) // that of a new process
}

// complete runs the Fetcher to the end, and checks the result.
func (c *crashRun) complete(t *testing.T, target crashTarget) {
	if _, err := c.Run(t.Context()); err != nil {
		t.Error(err)
	}
	c.trial.check(t, target, c.disk, false)
	left := len(c.drop.left())
	if c.Policy.Delete != (left == 0) {
		t.Errorf("%d messages on the server", left)
	}
}

// TestRunKilledAtEachStep kills a Fetcher at each change of its disk and of its Store.
func TestRunKilledAtEachStep(t *testing.T) {
	forEachCrashRun(t, func(t *testing.T, target crashTarget, del bool, at int) {
		c := newCrashRun(target, del)
		c.stop(t, target, at)
		c.disk.revive()
		c.complete(t, target)
	})
}

// TestRunPowerCutAtEachStep cuts the power at each of them, and at some moment of the run that follows.
func TestRunPowerCutAtEachStep(t *testing.T) {
	forEachCrashRun(t, func(t *testing.T, target crashTarget, del bool, at int) {
		for seed := range uint64(3) {
			rng := rand.New(rand.NewPCG(uint64(at), seed))
			c := newCrashRun(target, del)
			for range 1 + seed {
				c.stop(t, target, at)
				c.disk.powerCut(rng)
				at = 1 + rng.IntN(30)
			}
			c.complete(t, target)
		}
	})
}

func forEachCrashRun(t *testing.T, try func(t *testing.T, target crashTarget, del bool, at int)) {
	for _, target := range crashTargets {
		for _, del := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,delete=%v", target.name, del), func(t *testing.T) {
				c := newCrashRun(target, del)
				c.complete(t, target)
				steps := c.disk.step
				if steps < 40 {
					t.Fatalf("%d steps", steps)
				}
				for at := 1; at <= steps; at++ {
					if try(t, target, del, at); t.Failed() {
						t.Fatalf("stopped at step %d of %d", at, steps)
					}
				}
			})
		}
	}
}
