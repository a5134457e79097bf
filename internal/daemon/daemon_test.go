package daemon_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/daemon"
)

func TestPort(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		port := daemon.Port(t)
		if seen[port] {
			t.Errorf("port %d twice", port)
		}
		seen[port] = true
		l, err := net.Listen("tcp", daemon.Addr(port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}

// The processes that the program has started are killed too.
func TestKill(t *testing.T) {
	if _, err := exec.LookPath("mkfifo"); err != nil {
		t.Skip(err)
	}
	for name, end := range map[string]func(*daemon.Process){"stop": (*daemon.Process).Stop, "kill": (*daemon.Process).Kill} {
		t.Run(name, func(t *testing.T) {
			dir := daemon.Dir(t)
			fifo := filepath.Join(dir, "fifo")
			if err := exec.Command("mkfifo", fifo).Run(); err != nil {
				t.Fatal(err)
			}
			p := daemon.Start(t, dir, nil, "sh", "-c", `(echo started; sleep 1000) >fifo & wait`)
			f, err := os.Open(fifo)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r := bufio.NewReader(f)
			if line, err := r.ReadString('\n'); err != nil || line != "started\n" {
				t.Fatalf("%q, %v", line, err)
			}
			end(p)
			end(p) // a second call is a no-op
			f.SetReadDeadline(time.Now().Add(10 * time.Second))
			if rest, err := r.ReadString('\n'); err != io.EOF { // no process has the other end open
				t.Errorf("%q, %v, want EOF", rest, err)
			}
		})
	}
}
