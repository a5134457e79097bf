package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// crashMessages returns messages that are hard to keep apart: some are parts of others, or look like an mbox.
func crashMessages() []string {
	return []string{
		"Subject: 1\r\n\r\nbody\r\n",
		"Return-Path: <joe@example.org>\r\nSubject: 2\r\n\r\nFrom here on\r\n>From there\r\n\r\nFrom joe Thu Nov 26 00:22:38 2026\r\n\r\nbody\r\n",
		"Subject: 3\r\n\r\n" + strings.Repeat("a line that makes it longer than the others\r\n", 20),
		"Subject: 1\r\n\r\nbody\r\n\r\n\r\n",
		"Subject: 5\r\n\r\n",
		"Subject: 6\r\n\r\n\x00\x00\x00\r\xff\r\n",
		"Subject: 7\r\n\r\nno line end",
	}
}

// A crashTrial fetches messages in batches of two, as a Fetcher does, over as many runs as it takes. Its store is durable at once.
type crashTrial struct {
	messages []string
	sink     func() Sink
	intents  map[int]Record
	done     map[int]bool
	now      time.Time
}

func newCrashTrial(sink func() Sink) *crashTrial {
	return &crashTrial{
		messages: crashMessages(), sink: sink,
		intents: map[int]Record{}, done: map[int]bool{}, now: time.Unix(1795652558, 0),
	}
}

// run makes one run of a Fetcher.
func (c *crashTrial) run() error {
	ctx := context.Background()
	c.now = c.now.Add(time.Second)
	sink := c.sink()
	var numbers []int
	recovery := Recovery{Account: "joe", Now: c.now}
	for i := range c.messages {
		if r, ok := c.intents[i]; ok {
			numbers = append(numbers, i)
			recovery.Intents = append(recovery.Intents, r)
		}
	}
	outcomes, err := sink.Recover(ctx, recovery)
	if err != nil {
		return err
	}
	for j, i := range numbers {
		c.done[i] = outcomes[j] == OutcomeDelivered
		delete(c.intents, i)
	}
	for {
		var batch []int
		for i := range c.messages {
			if !c.done[i] && len(batch) < 2 {
				batch = append(batch, i)
			}
		}
		if len(batch) == 0 {
			return nil
		}
		if err := c.batch(ctx, sink, batch); err != nil {
			return err
		}
	}
}

func (c *crashTrial) batch(ctx context.Context, sink Sink, batch []int) (err error) {
	var staged []Record
	defer func() {
		if err != nil && !errors.Is(err, errKilled) {
			for _, i := range batch {
				delete(c.intents, i)
			}
			sink.Discard(ctx, staged)
		}
	}()
	for _, i := range batch {
		key := Key{UID: fmt.Sprint("uid", i)}
		name, err := sink.Stage(ctx, Message{Account: "joe", Key: key, Time: c.now}, strings.NewReader(c.messages[i]))
		if err != nil {
			return err
		}
		staged = append(staged, Record{Key: key, State: Intent, Name: name, Time: c.now})
	}
	if err := sink.Sync(ctx, staged); err != nil {
		return err
	}
	for j, i := range batch {
		c.intents[i] = staged[j]
	}
	n, err := sink.Commit(ctx, staged)
	for j, i := range batch {
		if j < n {
			c.done[i] = true
			delete(c.intents, i)
		}
	}
	staged = staged[n:]
	batch = batch[n:]
	return err
}

// A crashTarget is a sink in memory, and how to read its messages.
type crashTarget struct {
	name  string
	sink  func(d disk) Sink
	read  func(t *testing.T, files map[string]string) []string // and checks that nothing else is left
	wants func(message string) string
}

const crashDir = "/mail"

var crashTargets = []crashTarget{
	{
		name:  "eml",
		sink:  func(d disk) Sink { return &EML{Dir: crashDir, disk: d} },
		read:  readEMLFiles,
		wants: func(m string) string { return m },
	},
	{
		name:  "maildir",
		sink:  func(d disk) Sink { return &Maildir{Dir: crashDir, disk: d} },
		read:  readMaildirFiles,
		wants: func(m string) string { return strings.ReplaceAll(m, "\r\n", "\n") },
	},
	{
		name:  "mbox",
		sink:  func(d disk) Sink { return &Mbox{Path: crashDir + "/box", LockTimeout: time.Second, disk: d} },
		read:  readMboxFiles,
		wants: mboxWants,
	},
}

func readEMLFiles(t *testing.T, files map[string]string) (messages []string) {
	for name, text := range files {
		if filepath.Dir(name) != crashDir || filepath.Ext(name) != ".eml" {
			t.Errorf("%s is left", name)
			continue
		}
		messages = append(messages, text)
	}
	return messages
}

func readMaildirFiles(t *testing.T, files map[string]string) (messages []string) {
	for name, text := range files {
		if filepath.Dir(name) != crashDir+"/new" {
			t.Errorf("%s is left", name)
			continue
		}
		messages = append(messages, text)
	}
	return messages
}

func readMboxFiles(t *testing.T, files map[string]string) []string {
	for name := range files {
		if name != crashDir+"/box" && filepath.Base(name) != lockName && filepath.Base(name) != planName {
			t.Errorf("%s is left", name)
		}
	}
	return parseMbox(t, files[crashDir+"/box"])
}

// mboxWants returns a message as parseMbox returns it.
func mboxWants(m string) string {
	m = strings.ReplaceAll(m, "\r\n", "\n")
	if !strings.HasSuffix(m, "\n") {
		m += "\n"
	}
	return m
}

// parseMbox reads a file in the mboxrd form strictly.
func parseMbox(t *testing.T, file string) (messages []string) {
	t.Helper()
	if file == "" {
		return nil
	}
	var message []string
	lines := strings.SplitAfter(file, "\n")
	if lines[len(lines)-1] != "" {
		t.Errorf("the file ends inside a line: %q", lines[len(lines)-1])
	}
	end := func() {
		if len(message) == 0 || message[len(message)-1] != "\n" {
			t.Errorf("no blank line before a From_ line or the end: %q", message)
			return
		}
		messages = append(messages, strings.Join(message[1:len(message)-1], ""))
	}
	for i, line := range lines[:len(lines)-1] {
		if strings.HasPrefix(line, "From ") {
			words := strings.Fields(line)
			if _, err := time.Parse(time.ANSIC, strings.TrimSpace(strings.Join(words[2:], " "))); err != nil {
				t.Errorf("From_ line %q: %v", line, err)
			}
			if i > 0 {
				end()
			}
			message = []string{""}
			continue
		}
		if i == 0 {
			t.Fatalf("the file begins with %q", line)
		}
		if rest := strings.TrimLeft(line, ">"); rest != line && strings.HasPrefix(rest, "From ") {
			line = line[1:]
		}
		message = append(message, line)
	}
	end()
	return messages
}

// check compares the messages in the target with those that it must have.
func (c *crashTrial) check(t *testing.T, target crashTarget, d *memDisk, doubles bool) {
	t.Helper()
	got := target.read(t, d.files())
	var want []string
	for _, m := range c.messages {
		want = append(want, target.wants(m))
	}
	slices.Sort(got)
	if doubles {
		got = slices.Compact(got)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("messages:\n%q\nwant:\n%q", got, want)
	}
}

// crashSteps returns how many steps a trial takes that nothing disturbs.
func crashSteps(t *testing.T, target crashTarget) int {
	d := newMemDisk("/", crashDir)
	c := newCrashTrial(func() Sink { return target.sink(d) })
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	c.check(t, target, d, false)
	return d.step
}

func TestKilledAtEachStep(t *testing.T) {
	for _, target := range crashTargets {
		t.Run(target.name, func(t *testing.T) {
			steps := crashSteps(t, target)
			if steps < 40 {
				t.Fatalf("%d steps", steps)
			}
			for first := 1; first <= steps; first++ {
				for _, second := range []int{0, 1, 2, 3, 5, 8, 13, 21} { // the next run is killed too
					d := newMemDisk("/", crashDir)
					d.half = second%2 == 1
					c := newCrashTrial(func() Sink { return target.sink(d) })
					for _, at := range []int{first, second} {
						if at > 0 {
							d.step, d.killAt = 0, at
							c.run()
							d.revive()
						}
					}
					if err := c.run(); err != nil {
						t.Fatalf("killed at %d and %d: %v", first, second, err)
					}
					c.check(t, target, d, false)
					if t.Failed() {
						t.Fatalf("killed at %d and %d of %d", first, second, steps)
					}
				}
			}
		})
	}
}

func TestPowerCutAtEachStep(t *testing.T) {
	for _, target := range crashTargets {
		t.Run(target.name, func(t *testing.T) {
			steps := crashSteps(t, target)
			for first := 1; first <= steps; first++ {
				for seed := range uint64(16) {
					rng := rand.New(rand.NewPCG(uint64(first), seed))
					d := newMemDisk("/", crashDir)
					d.half = seed%2 == 0
					c := newCrashTrial(func() Sink { return target.sink(d) })
					for at := first; ; at = 1 + rng.IntN(40) {
						d.step, d.killAt = 0, at
						c.run()
						if rng.IntN(4) == 0 {
							d.revive() // killed only, so that the next run sees data that are not synced
						} else {
							d.powerCut(rng)
						}
						if rng.IntN(3) == 0 {
							break
						}
					}
					if err := c.run(); err != nil {
						t.Fatalf("power cut at %d, seed %d: %v", first, seed, err)
					}
					c.check(t, target, d, false)
					if t.Failed() {
						t.Fatalf("power cut at %d of %d, seed %d", first, steps, seed)
					}
				}
			}
		})
	}
}

// TestFailureAtEachStep has some steps in a row fail, as on a full disk. The run ends, and the next one completes it, in some trials
// after the power failed too. If undoing fails as well, messages may be doubled, but not lost or damaged.
func TestFailureAtEachStep(t *testing.T) {
	for _, target := range crashTargets {
		t.Run(target.name, func(t *testing.T) {
			steps := crashSteps(t, target)
			for at := 1; at <= steps; at++ {
				for n := range uint64(10) {
					d := newMemDisk("/", crashDir)
					failures := int(1 + n/2)
					d.failAt, d.failures, d.half = at, failures, at%2 == 0
					c := newCrashTrial(func() Sink { return target.sink(d) })
					c.run()
					if n%2 == 0 {
						d.revive()
					} else {
						d.powerCut(rand.New(rand.NewPCG(uint64(at), n)))
					}
					if err := c.run(); err != nil {
						t.Fatalf("failed at %d, %d times: %v", at, failures, err)
					}
					c.check(t, target, d, failures > 1)
					if t.Failed() {
						t.Fatalf("failed at %d of %d, %d times, trial %d", at, steps, failures, n)
					}
				}
			}
		})
	}
}
