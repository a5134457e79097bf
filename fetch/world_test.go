package fetch

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A world is the state that survives a process: a server, a disk, and a Store, which is on another disk. The process is killed at a step of the
// disk or of the Store.
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

// A worldTarget is a Sink on a disk in memory, and how to read what it has delivered.
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

// violation says in what the target differs from what it must have after a run to completion, or is empty.
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
