package fetch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A world is the state that survives a process: a server, a disk, and a Store, which is on another disk. The process is
// killed at a step of the disk or of the Store.
type world struct {
	drop    *maildrop
	disk    *memDisk
	mail    []mail
	records map[Key]Record
	durable map[Key]Record
	now     time.Time
	deletes bool
	sink    func(d disk) Sink
	mutate  mutation
}

// A mutation is a mistake in the order of steps.
type mutation struct {
	name       string
	disk       func(d *memDisk) disk
	sink       func(w *world, s Sink) Sink
	store      func(w *world, s Store) Store
	lazyIntent bool // intents are not durable at once
}

const worldMails = 6

func newWorld(sink func(d disk) Sink, deletes bool, m mutation) *world {
	w := &world{
		mail: mails(worldMails), disk: newMemDisk("/", crashDir), records: map[Key]Record{}, durable: map[Key]Record{},
		now: time.Unix(1795652558, 0), deletes: deletes, sink: sink, mutate: m,
	}
	w.drop = &maildrop{mails: slices.Clone(w.mail)}
	w.drop.hook = func(int, string) *response {
		w.disk.mu.Lock()
		defer w.disk.mu.Unlock()
		if w.disk.dead { // a process that is killed sends nothing
			return &response{hangUp: true}
		}
		return nil
	}
	return w
}

// run starts a process, which is killed at a step, unless that is 0.
func (w *world) run(t *testing.T, at int) error {
	w.now = w.now.Add(time.Second)
	w.disk.step, w.disk.killAt = 0, at
	var d disk = w.disk
	if w.mutate.disk != nil {
		d = w.mutate.disk(w.disk)
	}
	f := &Fetcher{
		Account: "joe", Dial: w.drop.Dial, Store: worldStore{w}, Sink: w.sink(d),
		Policy: Policy{Delete: w.deletes}, Retry: Retry{Attempts: -1},
		Now: func() time.Time { return w.now }, BatchMessages: 2, sequential: true,
	}
	if w.mutate.sink != nil {
		f.Sink = w.mutate.sink(w, f.Sink)
	}
	if w.mutate.store != nil {
		f.Store = w.mutate.store(w, f.Store)
	}
	_, err := f.Run(t.Context())
	return err
}

func (w *world) revive() { w.disk.revive() }

func (w *world) powerCut(rng *rand.Rand) {
	w.disk.powerCut(rng)
	w.records = maps.Clone(w.durable)
}

// worldStore is the Store of a world.
type worldStore struct{ w *world }

func (s worldStore) step() error {
	s.w.disk.mu.Lock()
	defer s.w.disk.mu.Unlock()
	return s.w.disk.next()
}

func (s worldStore) Load(ctx context.Context, states ...State) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range s.w.records {
			if len(states) > 0 && !slices.Contains(states, r.State) {
				continue
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s worldStore) Put(ctx context.Context, records ...Record) error {
	if err := s.step(); err != nil {
		return err
	}
	for _, r := range records {
		s.w.records[r.Key] = r
	}
	if !s.w.mutate.lazyIntent || records[0].State != Intent {
		s.w.durable = maps.Clone(s.w.records)
	}
	return nil
}

func (s worldStore) Delete(ctx context.Context, keys ...Key) error {
	if err := s.step(); err != nil {
		return err
	}
	for _, k := range keys {
		delete(s.w.records, k)
	}
	s.w.durable = maps.Clone(s.w.records)
	return nil
}

// A worldTarget is a Sink on a disk in memory, with a function that reads the delivered messages.
type worldTarget struct {
	name  string
	sink  func(d disk) Sink
	read  func(files map[string]string) (messages []string, rest []string)
	wants func(text string) string
}

func toLF(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

var maildirTarget = worldTarget{
	name: "maildir",
	sink: func(d disk) Sink { return &Maildir{Dir: crashDir, disk: d} },
	read: func(files map[string]string) (messages, rest []string) {
		for name, text := range files {
			if folder := filepath.Base(filepath.Dir(name)); folder == "new" || folder == "cur" {
				messages = append(messages, text)
			} else {
				rest = append(rest, name)
			}
		}
		return messages, rest
	},
	wants: toLF,
}

var emlTarget = worldTarget{
	name: "eml",
	sink: func(d disk) Sink { return &EML{Dir: crashDir, disk: d} },
	read: func(files map[string]string) (messages, rest []string) {
		for name, text := range files {
			if filepath.Dir(name) == crashDir {
				messages = append(messages, text)
			} else {
				rest = append(rest, name)
			}
		}
		return messages, rest
	},
	wants: func(text string) string { return text },
}

var mboxTarget = worldTarget{
	name: "mbox",
	sink: func(d disk) Sink { return &Mbox{Path: crashDir + "/box", LockTimeout: time.Second, disk: d} },
	read: func(files map[string]string) (messages, rest []string) {
		for name, text := range files {
			switch {
			case name == crashDir+"/box":
				for _, m := range strings.Split(strings.TrimSuffix(text, "\n"), "\nFrom ") {
					if _, m, ok := strings.Cut(m, "\n"); ok {
						messages = append(messages, m)
					}
				}
			case filepath.Base(name) != lockName && filepath.Base(name) != planName:
				rest = append(rest, name)
			}
		}
		return messages, rest
	},
	wants: toLF,
}

// violation returns how the target differs from its required contents after a run to completion, or "".
func (w *world) violation(target worldTarget) string {
	got, rest := target.read(w.disk.files())
	var want []string
	for _, m := range w.mail {
		want = append(want, target.wants(m.text))
	}
	slices.Sort(got)
	slices.Sort(want)
	switch {
	case !slices.Equal(got, want):
		return fmt.Sprintf("delivered %q, want %q", got, want)
	case len(rest) > 0:
		return fmt.Sprintf("left over: %q", rest)
	case w.deletes && len(w.drop.left()) > 0:
		return fmt.Sprintf("on the server: %q", w.drop.left())
	case !w.deletes && len(w.records) != len(w.mail):
		return fmt.Sprintf("%d records of %d messages", len(w.records), len(w.mail))
	}
	return ""
}

// read moves delivered messages as a mail reader does.
func (w *world) readMail() {
	for name := range w.disk.files() {
		if folder, base := filepath.Split(name); folder == crashDir+"/new/" && !strings.HasPrefix(base, ".") {
			w.disk.rename(name, crashDir+"/cur/"+base+":2,S")
		}
	}
}

// trial kills processes or cuts the power, at first at one step and then at random ones, until it lets one run to completion. It
// returns a violation.
func (w *world) trial(t *testing.T, target worldTarget, first int, power bool, rng *rand.Rand) string {
	for at := first; ; at = 1 + rng.IntN(50) {
		w.run(t, at)
		if power && rng.IntN(4) > 0 {
			w.powerCut(rng)
		} else {
			w.revive()
		}
		if target.name == "maildir" && rng.IntN(2) == 0 {
			w.readMail()
		}
		if rng.IntN(3) == 0 {
			break
		}
	}
	for range 2 {
		if err := w.run(t, 0); err != nil {
			return err.Error()
		}
	}
	return w.violation(target)
}

// steps returns the number of steps of a run that nothing disturbs.
func (target worldTarget) steps(t *testing.T, deletes bool, m mutation) int {
	w := newWorld(target.sink, deletes, m)
	if err := w.run(t, 0); err != nil {
		t.Fatal(err)
	}
	return w.disk.step
}

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
