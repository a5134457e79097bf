package fetch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

var crashSeeds = flag.Uint64("crashseeds", 1, "trials for each step at which a run is killed")

// TestEachMessageOnce kills runs and cuts the power at each step, and looks for messages that are lost, doubled, or damaged.
func TestEachMessageOnce(t *testing.T) {
	for _, target := range []worldTarget{maildirTarget, emlTarget, mboxTarget} {
		for _, deletes := range []bool{false, true} {
			for _, power := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, delete %v, power %v", target.name, deletes, power), func(t *testing.T) {
					t.Parallel()
					steps := target.steps(t, deletes, mutation{})
					if steps < 40 {
						t.Fatalf("%d steps", steps)
					}
					for first := 1; first <= steps; first++ {
						for seed := range *crashSeeds {
							w := newWorld(target.sink, deletes, mutation{})
							if v := w.trial(t, target, first, power, rand.New(rand.NewPCG(uint64(first), seed))); v != "" {
								t.Fatalf("step %d of %d, seed %d: %s", first, steps, seed, v)
							}
						}
					}
				})
			}
		}
	}
}

// TestEachStepFails has the disk or the Store fail at each step, once. That ends the run, unless the step was only to tidy up, and
// the next run completes it. Nothing is lost, doubled, or left over.
func TestEachStepFails(t *testing.T) {
	for _, target := range []worldTarget{maildirTarget, emlTarget, mboxTarget} {
		for _, deletes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, delete %v", target.name, deletes), func(t *testing.T) {
				t.Parallel()
				steps := target.steps(t, deletes, mutation{})
				failed := 0
				for at := 1; at <= steps; at++ {
					w := newWorld(target.sink, deletes, mutation{})
					w.disk.failAt, w.disk.failures = at, 1
					err := w.run(t, 0)
					if err != nil {
						failed++
					}
					if err != nil && !errors.Is(err, ErrSink) && !errors.Is(err, ErrStore) {
						t.Errorf("step %d: %v", at, err)
					}
					w.disk.failures = 0
					if err := w.run(t, 0); err != nil {
						t.Errorf("step %d, the next run: %v", at, err)
					}
					if v := w.violation(target); v != "" {
						t.Fatalf("step %d of %d: %s; the run returned %v", at, steps, v, err)
					}
				}
				if failed < steps*3/4 {
					t.Errorf("%d runs failed at %d steps", failed, steps)
				}
			})
		}
	}
}

// noSync leaves out a sync.
type noSync struct {
	*memDisk
	file bool   // of files
	dir  string // of this folder
}

func (d noSync) open(name string, flag int) (diskFile, error) {
	f, err := d.memDisk.open(name, flag)
	if err != nil || !d.file {
		return f, err
	}
	return noSyncFile{f}, nil
}

type noSyncFile struct{ diskFile }

func (noSyncFile) Sync() error { return nil }

func (d noSync) openDir(name string) (diskDir, error) { return memDir{d, name}, nil }

func (d noSync) syncDir(name string) error {
	if name == d.dir {
		return nil
	}
	return d.memDisk.syncDir(name)
}

// A sinkFunc is a Sink with some methods replaced.
type sinkFunc struct {
	Sink
	recover func(ctx context.Context, r Recovery) ([]Outcome, error)
	stage   func(ctx context.Context, m Message, body io.Reader) (string, error)
	sync    func(ctx context.Context, staged []Record) error
	commit  func(ctx context.Context, staged []Record) (int, error)
}

func (s sinkFunc) Recover(ctx context.Context, r Recovery) ([]Outcome, error) {
	if s.recover != nil {
		return s.recover(ctx, r)
	}
	return s.Sink.Recover(ctx, r)
}

func (s sinkFunc) Stage(ctx context.Context, m Message, body io.Reader) (string, error) {
	if s.stage != nil {
		return s.stage(ctx, m, body)
	}
	return s.Sink.Stage(ctx, m, body)
}

func (s sinkFunc) Sync(ctx context.Context, staged []Record) error {
	if s.sync != nil {
		return s.sync(ctx, staged)
	}
	return s.Sink.Sync(ctx, staged)
}

func (s sinkFunc) Commit(ctx context.Context, staged []Record) (int, error) {
	if s.commit != nil {
		return s.commit(ctx, staged)
	}
	return s.Sink.Commit(ctx, staged)
}

// A storeFunc is a Store with some methods replaced.
type storeFunc struct {
	Store
	put    func(ctx context.Context, records ...Record) error
	delete func(ctx context.Context, keys ...Key) error
}

func (s storeFunc) Put(ctx context.Context, records ...Record) error {
	if s.put != nil {
		return s.put(ctx, records...)
	}
	return s.Store.Put(ctx, records...)
}

func (s storeFunc) Delete(ctx context.Context, keys ...Key) error {
	if s.delete != nil {
		return s.delete(ctx, keys...)
	}
	return s.Store.Delete(ctx, keys...)
}

// mutations returns the mistakes that the trial must notice in a Maildir.
func mutations() []mutation {
	var (
		mu      sync.Mutex
		pending []func() error
	)
	later := func(f func() error) {
		mu.Lock()
		defer mu.Unlock()
		pending = append(pending, f)
	}
	flush := func() (err error) {
		mu.Lock()
		list := pending
		pending = nil
		mu.Unlock()
		for _, f := range list {
			err = errors.Join(err, f())
		}
		return err
	}
	reset := func(w *world, s Store) Store {
		pending = nil
		return s
	}
	outcomes := func(all Outcome) func(w *world, s Sink) Sink {
		return func(w *world, s Sink) Sink {
			return sinkFunc{Sink: s, recover: func(ctx context.Context, r Recovery) ([]Outcome, error) {
				list := make([]Outcome, len(r.Intents))
				for i := range list {
					list[i] = all
				}
				r.Intents = nil
				_, err := s.Recover(ctx, r)
				return list, err
			}}
		}
	}
	return []mutation{
		{name: "files are not synced", disk: func(d *memDisk) disk { return noSync{memDisk: d, file: true} }},
		{name: "tmp is not synced", disk: func(d *memDisk) disk { return noSync{memDisk: d, dir: crashDir + "/tmp"} }},
		{name: "new is not synced", disk: func(d *memDisk) disk { return noSync{memDisk: d, dir: crashDir + "/new"} }},
		{name: "intents are not synced", lazyIntent: true},
		{name: "intents before the files are synced", sink: func(w *world, s Sink) Sink {
			return sinkFunc{
				Sink: s,
				sync: func(context.Context, []Record) error { return nil },
				commit: func(ctx context.Context, staged []Record) (int, error) {
					if err := s.Sync(ctx, staged); err != nil {
						return 0, err
					}
					return s.Commit(ctx, staged)
				},
			}
		}},
		{
			name: "intents after the renames",
			store: func(w *world, s Store) Store {
				pending = nil
				return storeFunc{Store: s, put: func(ctx context.Context, records ...Record) error {
					if records[0].State != Intent {
						return s.Put(ctx, records...)
					}
					later(func() error { return s.Put(ctx, records...) })
					return nil
				}}
			},
			sink: func(w *world, s Sink) Sink {
				return sinkFunc{Sink: s, commit: func(ctx context.Context, staged []Record) (int, error) {
					n, err := s.Commit(ctx, staged)
					return n, errors.Join(err, flush())
				}}
			},
		},
		{
			name: "renames after QUIT",
			store: func(w *world, s Store) Store {
				return storeFunc{Store: reset(w, s), delete: func(ctx context.Context, keys ...Key) error { return errors.Join(flush(), s.Delete(ctx, keys...)) }}
			},
			sink: func(w *world, s Sink) Sink {
				return sinkFunc{Sink: s, commit: func(ctx context.Context, staged []Record) (int, error) {
					staged = slices.Clone(staged)
					later(func() error { _, err := s.Commit(ctx, staged); return err })
					return len(staged), nil
				}}
			},
		},
		{name: "recovery forgets", sink: outcomes(OutcomeForgotten)},
		{name: "recovery believes", sink: outcomes(OutcomeDelivered)},
	}
}

// TestMutationsAreNoticed makes sure that TestEachMessageOnce fails if a step is left out or comes at the wrong time.
func TestMutationsAreNoticed(t *testing.T) {
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			steps := maildirTarget.steps(t, true, m)
			for seed := range uint64(40) {
				for first := 1; first <= steps; first++ {
					w := newWorld(maildirTarget.sink, true, m)
					if v := w.trial(t, maildirTarget, first, true, rand.New(rand.NewPCG(uint64(first), seed))); v != "" {
						t.Logf("step %d of %d, seed %d: %s", first, steps, seed, v)
						return
					}
				}
			}
			t.Error("not noticed")
		})
	}
}
