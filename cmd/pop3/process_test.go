//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// TestMain makes the test binary the command itself, if a test has started it as such.
func TestMain(m *testing.M) {
	if os.Getenv("POP3_TEST_MAIN") != "" {
		os.Unsetenv("POP3_TEST_MAIN")
		main()
	}
	os.Exit(m.Run())
}

// command returns a verb as a separate process, which trusts the certificate of the server and has the password.
func (e *env) command(srv *pop3test.Server, verb string, args ...string) *exec.Cmd {
	e.Helper()
	self, err := os.Executable()
	if err != nil {
		e.Fatal(err)
	}
	cmd := exec.CommandContext(e.Context(), self, append([]string{verb, "-ca", e.certFile(srv)}, args...)...)
	cmd.Env = append(os.Environ(), "POP3_TEST_MAIN=1", "POP3_PASSWORD=secret", "HOME="+e.home)
	return cmd
}

// certFile writes the certificate of the test server to a file.
func (e *env) certFile(srv *pop3test.Server) string {
	e.Helper()
	conn := tls.Client(srv.PipeTLS(), srv.TLSConfig())
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		e.Fatal(err)
	}
	name := e.path("ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw}
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		e.Fatal(err)
	}
	return name
}

// The children see neither the password nor the variable.
func TestProcessChildren(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts[0])
	out, err := e.command(srv, "fetch", "pop://user@"+srv.Addr, "pipe:env >"+e.path("env")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(e.path("env"))
	if err != nil || !strings.Contains(string(got), "POP3_ID=") || strings.Contains(string(got), "POP3_PASSWORD") || strings.Contains(string(got), "secret") {
		t.Errorf("%v: %s", err, got)
	}
}

// SIGINT, SIGTERM, and SIGHUP end the run after the batch in hand.
func TestProcessSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			if signal.Ignored(sig) {
				t.Skip("ignored here, as under nohup, and so by the command")
			}
			e := newEnv(t)
			var many []string // so that there is time for the signal to arrive
			for i := range 100 {
				many = append(many, fmt.Sprintf("Subject: %d\r\n\r\n", i))
			}
			started := make(chan *os.Process, 1)
			srv := serve(t, func(s *pop3test.Server) {
				s.Refuse = before("RETR", 2, func() { (<-started).Signal(sig) })
				s.Latency = 20 * time.Millisecond
				s.Pipelining = false
			}, many...)
			url := "pop://user@" + srv.Addr
			cmd := e.command(srv, "fetch", "-delete", url, e.path("Maildir"))
			var stderr syncBuffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			started <- cmd.Process
			err := cmd.Wait()
			if cmd.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(stderr.String(), "interrupted") {
				t.Errorf("%v: %s", err, stderr.String())
			}
			if left := len(srv.Remaining()); left+len(delivered(t, e.path("Maildir"))) != len(many) || left == 0 {
				t.Errorf("%d left, %d delivered", left, len(delivered(t, e.path("Maildir"))))
			}
			if out, err := e.command(srv, "fetch", "-delete", url, e.path("Maildir")).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if got := delivered(t, e.path("Maildir")); !slices.Equal(got, lf(many...)) {
				t.Errorf("delivered %d", len(got))
			}
		})
	}
}

// A second signal ends the process at once, and the next run delivers the missing messages.
func TestProcessSecondSignal(t *testing.T) {
	e := newEnv(t)
	reached := make(chan struct{})
	stuck := make(chan struct{})
	srv := serve(t, func(s *pop3test.Server) {
		s.Refuse = before("RETR", 3, func() { close(reached); <-stuck })
		s.Pipelining = false
	}, texts...)
	url := "pop://user@" + srv.Addr
	cmd := e.command(srv, "fetch", url, e.path("Maildir"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	start := time.Now()
	var err error
	for done := false; !done; { // until the first one is handled, the second one is lost
		cmd.Process.Signal(syscall.SIGINT)
		select {
		case err = <-ended:
			done = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	close(stuck)
	if took := time.Since(start); took > 8*time.Second { // the grace of a run is 10 s
		t.Errorf("took %v: %v", took, err)
	}
	if out, err := e.command(srv, "fetch", url, e.path("Maildir")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if got := delivered(t, e.path("Maildir")); !slices.Equal(got, lf(texts...)) {
		t.Errorf("delivered %d", len(got))
	}
}

// A reader of the output that goes away does not end the process.
func TestProcessClosedPipe(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := e.command(srv, "fetch", "-v", "-delete", "pop://user@"+srv.Addr, e.path("Maildir"))
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	w.Close()
	if got := delivered(t, e.path("Maildir")); len(got) != 4 || len(srv.Remaining()) != 0 {
		t.Errorf("delivered %d, remaining %q", len(got), srv.Remaining())
	}
}

func TestProcessWatch(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	cmd := e.command(srv, "watch", "-every", "1h", "pop://user@"+srv.Addr, e.path("Maildir"))
	var stdout, stderr syncBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first look", func() bool { return strings.Contains(stdout.String(), "4 messages fetched") })
	eventually(t, "the status", func() bool {
		cmd.Process.Signal(syscall.SIGUSR1)
		time.Sleep(20 * time.Millisecond)
		return strings.Contains(stderr.String(), "4 fetched so far; last: ok")
	})
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if !strings.HasPrefix(stdout.String(), "20") {
		t.Errorf("no time in %q", stdout.String())
	}
}

// If two runs overlap, one of them reports that the other is running.
func TestProcessTwice(t *testing.T) {
	e := newEnv(t)
	reached := make(chan struct{})
	stuck := make(chan struct{})
	srv := serve(t, func(s *pop3test.Server) { s.Refuse = before("RETR", 1, func() { close(reached); <-stuck }) }, texts...)
	url := "pop://user@" + srv.Addr
	first := e.command(srv, "fetch", url, e.path("Maildir"))
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	second := e.command(srv, "fetch", url, e.path("Maildir"))
	if out, err := second.CombinedOutput(); second.ProcessState.ExitCode() != exitLocked {
		t.Errorf("%v: %s", err, out)
	}
	close(stuck)
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	if got := delivered(t, e.path("Maildir")); !slices.Equal(got, lf(texts...)) {
		t.Errorf("delivered %d", len(got))
	}
}

// The children of a program that takes messages end with it.
func TestPipeCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	pidFile := filepath.Join(t.TempDir(), "pid")
	p := &piper{line: "sleep 60 & echo $! >" + pidFile + "; wait", timeout: time.Minute}
	err := p.deliver(ctx, testMessage, strings.NewReader("x"))
	if verdict(err) != "failed" || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if text, err := os.ReadFile(pidFile); err == nil && len(text) > 0 { // if the shell came so far
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for syscall.Kill(pid, 0) == nil {
			if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); strings.Contains(string(stat), ") Z") {
				break // killed, and not yet reaped by its new parent
			}
			if time.Now().After(deadline) {
				t.Fatal("a child of the program is still running")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
