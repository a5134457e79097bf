package faults

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var (
	fetchKills = flag.Int("fetchkills", 4, "how many trials TestFetchKilled makes of each kind")
	fetchSeed  = flag.Uint64("fetchseed", 0, "seed of TestFetchKilled; a random one if 0")
)

// The environment of a process that fetches: see TestFetchProcess.
const (
	fetchAddr   = "POP3_FAULTS_FETCH_ADDR"
	fetchDir    = "POP3_FAULTS_FETCH_DIR"
	fetchTarget = "POP3_FAULTS_FETCH_TARGET"
	fetchDelete = "POP3_FAULTS_FETCH_DELETE"
)

const (
	fetchMessages = 200
	fetchBatch    = 8
)

// TestFetchProcess is not a test, but the process that TestFetchKilled starts and kills.
func TestFetchProcess(t *testing.T) {
	addr, dir := os.Getenv(fetchAddr), os.Getenv(fetchDir)
	if addr == "" {
		t.Skip("for TestFetchKilled")
	}
	store, err := boltstore.Open(filepath.Join(dir, "state"), "user@example.org")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f := &fetch.Fetcher{
		Account: "user@example.org", Store: store, Sink: fetchSinks[os.Getenv(fetchTarget)].open(dir),
		Policy: fetch.Policy{Delete: os.Getenv(fetchDelete) != ""}, BatchMessages: fetchBatch,
		Retry: fetch.Retry{Attempts: -1},
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			c, err := pop3.Dial(ctx, addr, &pop3.Options{AllowInsecureLogin: true})
			if err != nil {
				return nil, err
			}
			return c, c.Login(ctx, "user", "secret")
		},
	}
	if _, err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A fetchSink is a target in a folder, with a function that reads the messages in it.
type fetchSink struct {
	open func(dir string) fetch.Sink
	read func(dir string) (messages []string, rest []string)
}

var fetchSinks = map[string]fetchSink{
	"maildir": {
		open: func(dir string) fetch.Sink { return &fetch.Maildir{Dir: filepath.Join(dir, "Mail")} },
		read: func(dir string) (messages, rest []string) {
			for name, text := range filesIn(filepath.Join(dir, "Mail")) {
				if strings.HasPrefix(name, "tmp") {
					rest = append(rest, name)
				} else {
					messages = append(messages, text)
				}
			}
			return messages, rest
		},
	},
	"eml": {
		open: func(dir string) fetch.Sink { return &fetch.EML{Dir: filepath.Join(dir, "Mail"), LF: true} },
		read: func(dir string) (messages, rest []string) {
			for name, text := range filesIn(filepath.Join(dir, "Mail")) {
				if strings.HasPrefix(name, ".") {
					rest = append(rest, name)
				} else {
					messages = append(messages, text)
				}
			}
			return messages, rest
		},
	},
	"mbox": {
		open: func(dir string) fetch.Sink { return &fetch.Mbox{Path: filepath.Join(dir, "mbox")} },
		read: func(dir string) (messages, rest []string) {
			file, _ := os.ReadFile(filepath.Join(dir, "mbox"))
			for message := range strings.SplitSeq(strings.TrimSuffix(string(file), "\n"), "\nFrom ") {
				_, text, _ := strings.Cut(message, "\n")
				messages = append(messages, strings.ReplaceAll(text, "\n>From ", "\nFrom "))
			}
			return messages, nil
		},
	},
}

// filesIn returns the files below a folder, and their contents.
func filesIn(dir string) map[string]string {
	files := map[string]string{}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			name, _ := filepath.Rel(dir, path)
			text, _ := os.ReadFile(path)
			files[name] = string(text)
		}
		return nil
	})
	return files
}

func fetchText(n int) string {
	return fmt.Sprintf("Subject: %d\r\n\r\nFrom here on\r\n.%s\r\n", n, strings.Repeat("x", n*37%3000))
}

// A fetchTrial is a server in this process, and a folder.
type fetchTrial struct {
	srv      *pop3test.Server
	dir      string
	target   string
	deletes  bool
	commands atomic.Int64

	mu     sync.Mutex
	strike int64 // the command at which to kill
	kill   func()
}

func newFetchTrial(t *testing.T, target string, deletes bool) *fetchTrial {
	f := &fetchTrial{dir: t.TempDir(), target: target, deletes: deletes}
	f.srv = pop3test.NewUnstartedServer(pop3test.Generate(fetchMessages, fetchText))
	f.srv.STLS = false
	f.srv.Refuse = func(string, int) string {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.commands.Add(1) == f.strike {
			f.kill()
		}
		return ""
	}
	f.srv.Start()
	return f
}

// run starts a process, and kills it after a time or at a command, if these are not 0.
func (f *fetchTrial) run(after time.Duration, command int64) (output []byte, killed bool, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, false, err
	}
	cmd := exec.Command(program, "-test.run=^TestFetchProcess$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), fetchAddr+"="+f.srv.Addr, fetchDir+"="+f.dir, fetchTarget+"="+f.target)
	if f.deletes {
		cmd.Env = append(cmd.Env, fetchDelete+"=1")
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, false, err
	}
	var struck atomic.Bool
	kill := func() {
		struck.Store(true)
		cmd.Process.Kill()
	}
	f.mu.Lock()
	f.commands.Store(0)
	f.strike, f.kill = command, kill
	f.mu.Unlock()
	if after > 0 {
		timer := time.AfterFunc(after, kill)
		defer timer.Stop()
	}
	err = cmd.Wait()
	return out.Bytes(), struck.Load() && err != nil, err
}

// check returns the differences between the target and the server and their required contents, after a run to
// completion.
func (f *fetchTrial) check() error {
	messages, rest := fetchSinks[f.target].read(f.dir)
	count := map[string]int{}
	for _, text := range messages {
		count[text]++
	}
	var errs []error
	for n := 1; n <= fetchMessages; n++ {
		text := strings.ReplaceAll(fetchText(n), "\r\n", "\n")
		if count[text] != 1 {
			errs = append(errs, fmt.Errorf("message %d is there %d times", n, count[text]))
		}
		delete(count, text)
	}
	for text := range count {
		errs = append(errs, fmt.Errorf("damaged: %.100q", text))
	}
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("left over: %q", rest))
	}
	if left := f.srv.Remaining(); f.deletes && len(left) > 0 || !f.deletes && len(left) != fetchMessages {
		errs = append(errs, fmt.Errorf("%d messages on the server", len(left)))
	}
	return errors.Join(errs[:min(len(errs), 5)]...)
}

// TestFetchKilled kills a process that fetches, up to five times, and lets another one complete its work. No message must be lost,
// doubled, or damaged.
func TestFetchKilled(t *testing.T) {
	seed := *fetchSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-fetchseed=%d", seed)
	trials := *fetchKills
	if testing.Short() {
		trials = min(trials, 2)
	}
	for _, target := range []string{"maildir", "eml", "mbox"} {
		for _, deletes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, delete %v", target, deletes), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 0))
				undisturbed := newFetchTrial(t, target, deletes)
				defer undisturbed.srv.Close()
				begin := time.Now()
				if out, _, err := undisturbed.run(0, 0); err != nil {
					t.Fatalf("undisturbed: %v\n%s", err, out)
				}
				elapsed, commands := time.Since(begin), undisturbed.commands.Load()
				if err := undisturbed.check(); err != nil {
					t.Fatalf("undisturbed: %v", err)
				}
				kills := 0
				for trial := range trials {
					kills += killTrial(t, rng, trial, target, deletes, elapsed, commands)
					if t.Failed() {
						return
					}
				}
				t.Logf("%d kills in %d trials; undisturbed %v, %d commands", kills, trials, elapsed.Round(time.Millisecond), commands)
				if kills == 0 {
					t.Error("no process was killed")
				}
			})
		}
	}
}

func killTrial(t *testing.T, rng *rand.Rand, trial int, target string, deletes bool, elapsed time.Duration, commands int64) (kills int) {
	f := newFetchTrial(t, target, deletes)
	defer f.srv.Close()
	for range 1 + rng.IntN(5) {
		var killed bool
		var out []byte
		var err error
		if rng.IntN(2) == 0 {
			out, killed, err = f.run(time.Duration(rng.Int64N(int64(elapsed)*11/10)), 0)
		} else {
			out, killed, err = f.run(0, 1+rng.Int64N(commands))
		}
		if killed {
			kills++
		} else if err != nil {
			t.Errorf("trial %d: %v\n%s", trial, err, out)
			return kills
		}
	}
	for range 2 { // the second one finds nothing
		if out, _, err := f.run(0, 0); err != nil {
			t.Errorf("trial %d, run to completion: %v\n%s", trial, err, out)
			return kills
		}
	}
	if err := f.check(); err != nil {
		t.Errorf("trial %d: %v", trial, err)
	}
	return kills
}
