package boltstore_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var killTrials = flag.Int("kills", 1, "trials of TestKill for each target and policy")

const killMessages = 300

// killText returns message n.
func killText(n int) string {
	return fmt.Sprintf("Return-Path: <joe@example.org>\r\nSubject: %d\r\n\r\nFrom %d\r\n%s.\r\n", n, n, strings.Repeat("a line of text\r\n", n%97))
}

// killSinks are the sinks of TestKill, each with a function that returns the messages in its target.
var killSinks = map[string]struct {
	sink func(dir string) fetch.Sink
	read func(dir string) ([]string, error)
}{
	"eml":     {func(dir string) fetch.Sink { return &fetch.EML{Dir: dir, LF: true} }, readFolder},
	"maildir": {func(dir string) fetch.Sink { return &fetch.Maildir{Dir: dir} }, func(dir string) ([]string, error) { return readFolder(filepath.Join(dir, "new")) }},
	"mbox":    {func(dir string) fetch.Sink { return &fetch.Mbox{Path: filepath.Join(dir, "box")} }, readBox},
}

func readFolder(dir string) (messages []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		messages = append(messages, string(b))
	}
	return messages, err
}

func readBox(dir string) (messages []string, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "box"))
	text := strings.ReplaceAll("\n"+string(b)+"From ", "\n>From ", "\n\x00From ")
	parts := strings.Split(text, "\nFrom ") // takes the blank lines
	for _, m := range parts[1 : len(parts)-1] {
		_, m, _ = strings.Cut(m, "\n") // the sender and the date
		messages = append(messages, strings.ReplaceAll(m, "\x00", ""))
	}
	return messages, err
}

// TestKill kills a process that fetches, at random moments, until one run of it comes to its end. Each message is there once.
func TestKill(t *testing.T) {
	for name := range killSinks {
		for _, del := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,delete=%v", name, del), func(t *testing.T) {
				killed := 0
				for range *killTrials {
					killed += killTrial(t, name, del)
				}
				t.Logf("killed %d processes", killed)
				if killed < *killTrials {
					t.Errorf("killed %d processes in %d trials", killed, *killTrials)
				}
			})
		}
	}
}

func killTrial(t *testing.T, name string, del bool) (killed int) {
	drop := &pop3test.Generated{N: killMessages, Text: killText}
	srv := pop3test.NewUnstartedServer(drop)
	srv.Pipelining, srv.STLS = true, false
	srv.Start()
	defer srv.Close()
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	limit := 10 * time.Millisecond
	for ended := false; !ended; {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$", "-test.count=1")
		cmd.Env = append(os.Environ(), "KILL_ADDR="+srv.Addr, "KILL_SINK="+name, "KILL_DIR="+dir, "KILL_DELETE="+strconv.FormatBool(del))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(rand.N(limit), func() { cmd.Process.Kill() })
		err := cmd.Wait()
		switch fired := !timer.Stop(); {
		case err == nil:
			ended = true
		case fired:
			killed++
			limit += limit / 4
		default:
			t.Fatalf("%v\n%s", err, out.String())
		}
	}
	got, err := killSinks[name].read(target)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range killMessages {
		want = append(want, strings.ReplaceAll(killText(n+1), "\r\n", "\n"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
	if n := len(srv.Deleted()); del != (n == killMessages) {
		t.Errorf("%d messages are deleted", n)
	}
	return killed
}

// TestKillChild is the process that fetches.
func TestKillChild(t *testing.T) {
	addr, dir := os.Getenv("KILL_ADDR"), os.Getenv("KILL_DIR")
	if addr == "" {
		t.Skip("not a child")
	}
	del, _ := strconv.ParseBool(os.Getenv("KILL_DELETE"))
	store, err := boltstore.Open(filepath.Join(dir, "state"), "user")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f := &fetch.Fetcher{
		Account: "user", Store: store, Sink: killSinks[os.Getenv("KILL_SINK")].sink(filepath.Join(dir, "target")),
		Policy: fetch.Policy{Delete: del}, BatchMessages: 16,
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			c, err := pop3.Dial(ctx, addr, &pop3.Options{AllowInsecureLogin: true})
			if err != nil {
				return nil, err
			}
			if err := c.Login(ctx, "user", "secret"); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
	}
	if report, err := f.Run(t.Context()); err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
}
