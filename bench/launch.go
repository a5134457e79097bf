package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// launchMode, in the environment, makes this program the launcher of a client. Its value is a launch as JSON.
//
// The kernel counts the memory of the program that starts a process as memory of that process, so the program with the
// server, which holds all messages, would spoil the figures of the clients.
const launchMode = "POP3_BENCH_LAUNCH"

// A launch says how to run a client, whose command line is the arguments of the launcher.
type launch struct {
	Limit  time.Duration // the client is killed after it
	Result string        // the file to write the usage to
	UID    int           // of the user who runs the client, or 0 for the same user
	GID    int
}

// A usage is what a client took, with the processes that it has waited for.
type usage struct {
	Wall, CPU time.Duration
	Memory    int64 // peak of the largest process, in bytes; 0 if unknown
	Status    int   // the exit status, or -1 after a signal
	Late      bool  // the client was killed at its limit
}

// errLate is the error of a client that was killed at its limit.
var errLate = errors.New("took too long")

// runLauncher starts the client args, waits for it, and writes its usage.
func runLauncher(how string, args []string) error {
	var l launch
	if err := json.Unmarshal([]byte(how), &l); err != nil {
		return err
	}
	os.Unsetenv(launchMode)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, l.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	separate(cmd, l.UID, l.GID)
	begin := time.Now()
	err := cmd.Run()
	u := usage{Wall: time.Since(begin)}
	if cmd.ProcessState == nil {
		return err
	}
	u.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	u.Memory = peakMemory(cmd.ProcessState)
	u.Status = cmd.ProcessState.ExitCode()
	u.Late = err != nil && ctx.Err() != nil
	data, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return os.WriteFile(l.Result, data, 0o600)
}

// run runs the client once, as a process, in the folder of the job. If stdout is not nil, it gets the output.
func (c *client) run(j job, limit time.Duration, stdout *os.File) (u usage, err error) {
	cmd, err := c.command(j)
	if err != nil {
		return usage{}, err
	}
	l := launch{Limit: limit, Result: j.dir + ".usage"}
	if c.ordinary {
		if l.UID, l.GID, err = handOver(j.dir); err != nil {
			return usage{}, err
		}
	}
	how, err := json.Marshal(l)
	if err != nil {
		return usage{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return usage{}, err
	}
	launcher := exec.Command(self, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	launcher.Env = append(cmd.Environ(), launchMode+"="+string(how))
	launcher.Dir = j.dir
	if stdout != nil { // else a nil *os.File would be in the interface
		launcher.Stdout = stdout
	}
	var stderr strings.Builder
	launcher.Stderr = &stderr
	launcher.WaitDelay = time.Second // for a process that has outlived its client
	if err := launcher.Run(); err != nil {
		return usage{}, fmt.Errorf("%w: %s", err, &stderr)
	}
	data, err := os.ReadFile(l.Result)
	if err == nil {
		err = json.Unmarshal(data, &u)
	}
	os.Remove(l.Result)
	switch {
	case err != nil:
		return u, err
	case u.Late:
		return u, fmt.Errorf("%w: stopped after %v", errLate, limit)
	case u.Status != 0 && !(j.uids != nil && u.Status == c.idle):
		return u, fmt.Errorf("exit status %d: %s", u.Status, &stderr)
	}
	return u, nil
}

// handOver gives a folder and all in it to the user nobody, if this program runs as root, since some clients refuse to
// deliver mail for root. It returns the user's ids, or 0.
func handOver(dir string) (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return 0, 0, nil
	}
	if uid, gid, err = nobody(); err != nil {
		return 0, 0, err
	}
	return uid, gid, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	})
}

// leastMemory returns the MiB of a client that does next to nothing.
func leastMemory(dir string) (float64, error) {
	nothing := client{command: func(job) (*exec.Cmd, error) { return exec.Command("true"), nil }}
	u, err := nothing.run(job{dir: dir}, time.Minute, nil)
	return float64(u.Memory) / (1 << 20), err
}
