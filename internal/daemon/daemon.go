// Package daemon runs server programs for tests: each on free loopback ports and with its own certificate. A program,
// and every process it has started, is killed when the test ends or the test process dies.
package daemon

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Skip skips the test because the server name is missing. It fails the test instead if the environment variable
// POP3_REQUIRE, a comma-separated list, contains the name or "all".
func Skip(t testing.TB, name, why string) {
	t.Helper()
	required := strings.Split(os.Getenv("POP3_REQUIRE"), ",")
	if slices.Contains(required, name) || slices.Contains(required, "all") {
		t.Fatalf("%s is required here: %s", name, why)
	}
	t.Skip(why)
}

// Dir returns a new directory that other users may enter and that is removed at the end of the test. Its name is short,
// since servers create Unix sockets below it, whose paths are limited to about 100 bytes.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pop3-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Port returns a free TCP port of 127.0.0.1, from below the range that the kernel assigns to clients. Until the test
// ends no other call, in this process or another one, returns it.
func Port(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		claim, err := net.ListenPacket("udp", Addr(port)) // the UDP port of that number reserves it
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", Addr(port)); err == nil {
			l.Close()
			t.Cleanup(func() { claim.Close() })
			return port
		}
		claim.Close()
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

// Addr returns the loopback address of a port.
func Addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Process is a server program and every process it has started.
type Process struct {
	cmd     *exec.Cmd
	group   int
	addrs   []string      // on which it listens
	guard   io.Closer     // when closed, by this process or by its death, a shell kills the group
	guarded *exec.Cmd     // that shell
	exited  chan struct{} // closed when the program itself has exited
	stop    sync.Once
	out     *os.File
}

// Start runs the program in dir, in a new process group, with its output in the file "output" there, and waits until
// all addresses accept connections. It is killed at the end of the test. If the test has failed, the ends of the output
// and of every *.log file in dir are logged.
func Start(t testing.TB, dir string, addrs []string, program string, args ...string) *Process {
	t.Helper()
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		out.Close()
		t.Fatal(err)
	}
	p := &Process{cmd: cmd, group: cmd.Process.Pid, addrs: addrs, exited: make(chan struct{}), out: out}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	p.guarded = exec.Command("sh", "-c", `read -r _; kill -s KILL -- "-$0"`, strconv.Itoa(p.group))
	ownGroup(p.guarded) // an interrupt at the terminal must not end the guard first
	if p.guard, err = p.guarded.StdinPipe(); err == nil {
		err = p.guarded.Start()
	}
	if err != nil {
		cmd.Process.Kill()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, name := range append(logs, out.Name()) {
				if end := tail(name); len(end) > 0 {
					t.Logf("%s:\n%s", filepath.Base(name), end)
				}
			}
		}
	})
	for _, addr := range addrs {
		if err := p.waitFor(addr); err != nil {
			t.Fatalf("%s: %v", filepath.Base(program), err)
		}
	}
	return p
}

func (p *Process) waitFor(addr string) error {
	deadline := time.After(time.Minute)
	for {
		if listens(addr) {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("ended before it listened at %s: %v", addr, p.cmd.ProcessState)
		case <-deadline:
			return fmt.Errorf("does not listen at %s", addr)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop asks the program to end and, once it has or after ten seconds, kills the remaining processes.
func (p *Process) Stop() {
	terminate(p.cmd)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
	}
	p.Kill()
}

// Kill kills the program and every process it has started, and returns when nothing listens on its addresses any more,
// or after ten seconds: the processes that the program has started cannot be waited for, and may take a moment to exit.
func (p *Process) Kill() {
	p.stop.Do(func() {
		p.guard.Close()
		p.guarded.Wait()
		<-p.exited
		p.out.Close()
		deadline := time.Now().Add(10 * time.Second)
		for _, addr := range p.addrs {
			for listens(addr) && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
			}
		}
	})
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// tail returns the last 4 KiB of a file.
func tail(name string) []byte {
	data, _ := os.ReadFile(name)
	return bytes.TrimSpace(data[max(0, len(data)-4096):])
}
