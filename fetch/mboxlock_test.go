package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A lockTrial locks a real file.
type lockTrial struct {
	t    *testing.T
	path string
	text string
}

func newLockTrial(t *testing.T) *lockTrial {
	dir := t.TempDir()
	l := &lockTrial{t: t, path: filepath.Join(dir, "box"), text: filepath.Join(dir, "text")}
	if err := prepareDot(osDisk{}, l.text); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lockTrial) lock(d disk, timeout time.Duration) (*mboxLock, error) {
	return lockMbox(l.t.Context(), d, l.path, l.text, timeout)
}

// writeDot leaves a dot lock.
func (l *lockTrial) writeDot(text string, age time.Duration) {
	l.t.Helper()
	name := l.path + ".lock"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(name, at, at); err != nil {
		l.t.Fatal(err)
	}
}

// deadPID returns the ID of a process that has ended.
func deadPID(t *testing.T) int {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestLockStale(t *testing.T) {
	dead := deadPID(t)
	for _, test := range []struct {
		name string
		text string
		age  time.Duration
		want bool
		unix bool // needs to know whether a process is alive
	}{
		{"ours, dead", dotText(dead), 0, true, true},
		{"ours, this process, from an earlier boot", dotText(os.Getpid()), 0, true, false},
		{"ours, alive", dotText(os.Getppid()), 0, false, false},
		{"ours, alive, old: the ID was used again", dotText(os.Getppid()), time.Hour, true, false},
		{"other, dead", fmt.Sprintf("%d\n", dead), time.Hour, true, true},
		{"other, dead, young: may be of another host", fmt.Sprintf("%d\n", dead), 0, false, false},
		{"other, alive, old", fmt.Sprintf("%d\n", os.Getppid()), time.Hour, false, false},
		{"no ID", "", 0, false, false},
		{"no ID, old", "", time.Hour, true, false},
		{"0, as procmail writes it, old", "0", time.Hour, true, false},
		{"from the future", "", -time.Hour, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.unix && !haveFcntl {
				t.Skip("processes are never known to be dead")
			}
			l := newLockTrial(t)
			l.writeDot(test.text, test.age)
			lock, err := l.lock(osDisk{}, time.Millisecond)
			if test.want {
				if err != nil {
					t.Fatal(err)
				}
				lock.unlock()
				if _, err := os.Stat(l.path + ".lock"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the lock is left: %v", err)
				}
				return
			}
			if !errors.Is(err, errWouldBlock) || !strings.Contains(err.Error(), l.path+".lock") {
				t.Errorf("error %v", err)
			}
			if b, err := os.ReadFile(l.path + ".lock"); string(b) != test.text || err != nil {
				t.Errorf("the lock of the other is now %q, %v", b, err)
			}
		})
	}
}

// TestLockWaits has another program release its lock in the meantime.
func TestLockWaits(t *testing.T) {
	l := newLockTrial(t)
	l.writeDot("", 0)
	time.AfterFunc(50*time.Millisecond, func() { os.Remove(l.path + ".lock") })
	lock, err := l.lock(osDisk{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.unlock()
	if b, err := os.ReadFile(l.path + ".lock"); string(b) != dotText(os.Getpid()) || err != nil {
		t.Errorf("dot lock %q, %v", b, err)
	}
	info, err := os.Stat(l.path + ".lock")
	if err != nil || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("others take the lock for an old one: %v, %v", info.ModTime(), err)
	}
}

// TestLockGoroutines has several goroutines, as of accounts with one file, count in the file.
func TestLockGoroutines(t *testing.T) {
	l := newLockTrial(t)
	var wg sync.WaitGroup
	inside := 0
	for range 4 {
		wg.Go(func() {
			for range 10 {
				lock, err := l.lock(osDisk{}, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				if inside++; inside != 1 {
					t.Errorf("%d have the lock", inside)
				}
				inside--
				lock.unlock()
			}
		})
	}
	wg.Wait()
}

// TestLockOtherProcess has another process hold the fcntl lock.
func TestLockOtherProcess(t *testing.T) {
	if !haveFcntl {
		t.Skip("no fcntl locks")
	}
	l := newLockTrial(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockChild$")
	cmd.Env = append(os.Environ(), "MBOX_TO_LOCK="+l.path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := l.lock(osDisk{}, time.Millisecond); !errors.Is(err, errWouldBlock) {
		t.Errorf("error %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	lock, err := l.lock(osDisk{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	lock.unlock()
}

// TestLockChild is the other process.
func TestLockChild(t *testing.T) {
	path := os.Getenv("MBOX_TO_LOCK")
	if path == "" {
		t.Skip("not a child")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := fcntlLock(f); err != nil {
		t.Fatal(err)
	}
	fmt.Println("locked")
	bufio.NewReader(os.Stdin).ReadString('\n')
	f.Close()
}

// A restrictedDisk has the limits of some file systems and folders.
type restrictedDisk struct {
	osDisk
	linkErr error
	newFile bool // no new file beside the mbox
}

func (d restrictedDisk) link(from, to string) error { return d.linkErr }

func (d restrictedDisk) open(name string, flag int) (diskFile, error) {
	if d.newFile && strings.HasSuffix(name, ".lock") && flag&os.O_CREATE != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.osDisk.open(name, flag)
}

func TestLockRestricted(t *testing.T) {
	l := newLockTrial(t)
	for _, linkErr := range []error{fs.ErrPermission, errors.ErrUnsupported} {
		lock, err := l.lock(restrictedDisk{linkErr: linkErr}, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(l.path + ".lock"); string(b) != dotText(os.Getpid()) || err != nil {
			t.Errorf("without links: %q, %v", b, err)
		}
		lock.unlock()
	}
	lock, err := l.lock(restrictedDisk{linkErr: fs.ErrPermission, newFile: true}, time.Millisecond)
	if !haveFcntl {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("no lock at all: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	lock.unlock()
}

// TestLockReplaced has another program rename a new file to the name while the lock is taken.
func TestLockReplaced(t *testing.T) {
	l := newLockTrial(t)
	d := &replacingDisk{path: l.path}
	lock, err := l.lock(d, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.unlock()
	got, err := lock.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if named, err := os.Stat(l.path); err != nil || !os.SameFile(got, named) || d.replaced != 1 {
		t.Errorf("the lock is of another file, %v", err)
	}
}

type replacingDisk struct {
	osDisk
	path     string
	replaced int
}

func (d *replacingDisk) open(name string, flag int) (diskFile, error) {
	f, err := d.osDisk.open(name, flag)
	if name == d.path && d.replaced == 0 {
		d.replaced++
		os.WriteFile(d.path+".new", nil, 0o600)
		os.Rename(d.path+".new", d.path)
	}
	return f, err
}

func TestLockContext(t *testing.T) {
	l := newLockTrial(t)
	held, err := l.lock(osDisk{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer held.unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockMbox(ctx, osDisk{}, l.path, l.text, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := l.lock(osDisk{}, time.Millisecond); !errors.Is(err, errWouldBlock) {
		t.Errorf("timeout: %v", err)
	}
}
