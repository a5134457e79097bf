package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/internal/dovecot"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// serveVariable makes the test binary a server, so that the memory of the test is used by the clients alone.
const serveVariable = "POP3_FAULTS_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveVariable) == "" {
		if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // opens the runtime's descriptors
			l.Close()
		}
		os.Exit(m.Run())
	}
	srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	srv.STLS = false
	srv.Start()
	fmt.Println(srv.Addr)
	io.Copy(io.Discard, os.Stdin) // until the test ends
}

// otherProcess starts a server in a separate process and returns its address.
func otherProcess(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), serveVariable+"=1")
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// inUse returns the bytes of heap and stacks in use, after a garbage collection.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestManySessions has many sessions open at once.
func TestManySessions(t *testing.T) {
	sessions := 10_000
	if testing.Short() {
		sessions = 500
	}
	addr := otherProcess(t)
	manySessions(t, sessions, addr, func(int) (user, password string) { return "user", "secret" }, func() {})
}

// TestDovecotManySessions opens as many sessions with Dovecot as the machine can hold, at most 10,000, each with its
// own maildrop.
func TestDovecotManySessions(t *testing.T) {
	const memory = 400 << 10 // upper bound for a session of Dovecot
	sessions := min(10_000, available("/proc/self/limits", "Max open files", 1<<20)-1000, available("/proc/meminfo", "MemAvailable:", 1<<30)*1024/memory)
	if testing.Short() {
		sessions = min(sessions, 100)
	}
	if sessions < 1 {
		t.Skip("too little memory, or too few descriptors")
	}
	srv := dovecot.Start(t, dovecot.Options{Users: sessions, Sessions: sessions})
	user := func(i int) string { return fmt.Sprint("u", i+1) }
	for i := range sessions {
		srv.Deliver(user(i), texts...)
	}
	before := available("/proc/meminfo", "MemAvailable:", 0)
	account := func(i int) (string, string) { return user(i), srv.Password(user(i)) }
	manySessions(t, sessions, srv.Addr, account, func() {
		t.Logf("%d KiB of the machine's memory a session, both sides together", (before-available("/proc/meminfo", "MemAvailable:", 0))/sessions)
	})
}

// available returns the number after a name in a file of the kernel, or otherwise if there is none.
func available(file, name string, otherwise int) (n int) {
	text, _ := os.ReadFile(file)
	_, rest, _ := strings.Cut(string(text), name)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return otherwise
	}
	return n
}

// manySessions has many sessions open at once: each fetches a message, idles, and continues. idle is called while all
// sessions idle.
func manySessions(t *testing.T, sessions int, addr string, account func(i int) (user, password string), idle func()) {
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	var dialled connections
	opts := &pop3.Options{AllowInsecureLogin: true, Dialer: &dialled}
	clients := make([]*pop3.Client, sessions)
	each := func(what string, do func(i int) error) {
		t.Helper()
		began := time.Now()
		if err := parallel(64, sessions, do); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%d sessions: %s took %v", sessions, what, time.Since(began).Round(time.Millisecond))
	}
	fetch := func(i int) error {
		n := 1 + i%len(texts)
		m, err := clients[i].Retr(background, n)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(m)
		if err == nil && string(got) != texts[n-1] {
			err = brokenf("session %d: message %d reads %q", i, n, got)
		}
		return err
	}
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
		if n := dialled.left(); n > 0 {
			t.Errorf("%d connections are still open", n)
		}
		dialled.made = nil
		nothingLeft(t, goroutines, descriptors)
	}()
	before := inUse()
	each("logging in and fetching", func(i int) (err error) {
		if clients[i], err = pop3.Dial(background, addr, opts); err != nil {
			return err
		}
		user, password := account(i)
		if err := clients[i].User(background, user); err != nil { // Login would start TLS if STLS is listed
			return err
		}
		if err := clients[i].Pass(background, password); err != nil {
			return err
		}
		return fetch(i)
	})
	perSession := (inUse() - before) / int64(sessions)
	t.Logf("%d octets an idle session, its socket in Go included", perSession)
	if perSession > 8<<10 {
		t.Errorf("an idle session takes %d octets, more than 8 KiB", perSession)
	}
	if n := runtime.NumGoroutine(); n > goroutines+10 {
		t.Errorf("%d goroutines for %d idle sessions", n-goroutines, sessions)
	}
	idle()
	each("fetching again", fetch)
	each("quitting", func(i int) error { return clients[i].Quit(background) })
}

// parallel makes n calls, a few at a time, and returns the first error.
func parallel(width, n int, do func(i int) error) error {
	var next atomic.Int64
	ctx, cancel := context.WithCancelCause(background)
	defer cancel(nil)
	var running sync.WaitGroup
	for range min(width, n) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// generated is a maildrop with one message of a size, which takes no memory.
func generated(size int) (drop pop3test.Maildrop, sum uint32) {
	line := []byte(strings.Repeat(".a line of a message, ", 3) + "\r\n")
	block := []byte(strings.Repeat(string(line), 1<<16/len(line)))
	size -= size % len(block)
	hash := crc32.NewIEEE()
	for range size / len(block) {
		hash.Write(block)
	}
	return &bulk{block, size}, hash.Sum32()
}

type bulk struct {
	block []byte
	size  int
}

func (b *bulk) Count() int     { return 1 }
func (b *bulk) Size(int) int64 { return int64(b.size) }
func (b *bulk) UID(int) string { return "bulk" }
func (b *bulk) WriteMessage(w io.Writer, _ int) error {
	for range b.size / len(b.block) {
		if _, err := w.Write(b.block); err != nil {
			return err
		}
	}
	return nil
}

// TestLargeMessages has 32 sessions fetch one large message each at the same time, with server and clients in less than
// 64 MiB of heap.
func TestLargeMessages(t *testing.T) {
	const sessions, limit = 32, 64 << 20
	size := 1 << 30
	if testing.Short() {
		size = 4 << 20
	}
	drop, sum := generated(size)
	srv := pop3test.NewUnstartedServer(drop)
	srv.STLS = false
	srv.Start()
	defer srv.Close()
	var peak atomic.Int64
	began := time.Now()
	err := parallel(sessions, sessions, func(int) error {
		c, err := pop3.Dial(background, srv.Addr, &pop3.Options{AllowInsecureLogin: true})
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Login(background, "user", "secret"); err != nil {
			return err
		}
		m, err := c.Retr(background, 1)
		if err != nil {
			return err
		}
		hash := crc32.NewIEEE()
		n, err := io.Copy(io.MultiWriter(hash, &watcher{peak: &peak}), m)
		if err != nil {
			return err
		}
		if n != drop.Size(1) || hash.Sum32() != sum {
			return brokenf("%d octets with the sum %08x, want %d with %08x", n, hash.Sum32(), drop.Size(1), sum)
		}
		return c.Quit(background)
	})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("%d messages of %d octets at once: %v, %.0f MB/s in all, %.1f MiB of heap at most", sessions, drop.Size(1),
		took.Round(time.Millisecond), float64(sessions)*float64(drop.Size(1))/1e6/took.Seconds(), float64(peak.Load())/(1<<20))
	if peak.Load() == 0 || peak.Load() > limit {
		t.Errorf("%d octets of heap at most, want less than %d", peak.Load(), limit)
	}
}

// watcher records the size of the heap, including garbage, after each MiB written to it.
type watcher struct {
	peak *atomic.Int64
	left int
}

func (w *watcher) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		w.left = 1 << 20
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		now := int64(sample[0].Value.Uint64())
		for peak := w.peak.Load(); now > peak && !w.peak.CompareAndSwap(peak, now); {
			peak = w.peak.Load()
		}
	}
	return len(p), nil
}
