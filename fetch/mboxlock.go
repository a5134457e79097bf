package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// lockPoll is the delay between attempts to get a lock.
	lockPoll = 100 * time.Millisecond

	// staleLock is the age after which a dot lock is taken to be left by a program that has died, unless that program is seen to
	// be alive. Mail programs agree on it.
	staleLock = 5 * time.Minute

	// defaultLockTimeout is the default of Mbox.LockTimeout.
	defaultLockTimeout = 30 * time.Second
)

// errWouldBlock reports a lock that another program has.
var errWouldBlock = errors.New("locked by another program")

// mboxLocks has a semaphore for each mbox file: fcntl locks do not exclude other goroutines of the process.
var mboxLocks sync.Map // of path to chan struct{}

// An mboxLock is the exclusive right to change an mbox: an fcntl lock of the file, and a dot lock, in this order.
type mboxLock struct {
	path string
	text string // name of a file with the text of the dot lock
	disk disk
	file diskFile // open for reading and writing
	dot  bool     // the dot lock exists
	sem  chan struct{}
}

// lockMbox opens an mbox, which it creates if it does not exist, and locks it. text is the name that prepareDot got.
func lockMbox(ctx context.Context, d disk, path, text string, timeout time.Duration) (*mboxLock, error) {
	if timeout == 0 {
		timeout = defaultLockTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errWouldBlock)
	defer cancel()
	v, _ := mboxLocks.LoadOrStore(path, make(chan struct{}, 1))
	l := &mboxLock{path: path, text: text, disk: d, sem: v.(chan struct{})}
	select {
	case l.sem <- struct{}{}:
	default:
		select {
		case l.sem <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", path, context.Cause(ctx))
		}
	}
	locked := false
	defer func() {
		if !locked {
			l.unlock()
		}
	}()
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		err := l.try()
		if err == nil {
			locked = true
			return l, nil
		}
		if !errors.Is(err, errWouldBlock) {
			return nil, err
		}
		l.release() // a program that locks in the other order can continue
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); cause != errWouldBlock {
				return nil, cause
			}
			return nil, fmt.Errorf("%w, after %v", err, timeout)
		}
	}
}

// try makes one attempt to open and lock the file.
func (l *mboxLock) try() error {
	if err := l.checkRegular(); err != nil {
		return err
	}
	f, err := l.disk.open(l.path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	l.file = f
	if file, ok := f.(*os.File); ok {
		if err := fcntlLock(file); err != nil {
			return fmt.Errorf("%s: %w", l.path, err)
		}
	}
	if err := l.lockDot(); err != nil {
		return err
	}
	// Another program may have replaced the file before the locks were there.
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := l.disk.stat(l.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !l.disk.sameFile(opened, named) {
		return fmt.Errorf("%s: %w", l.path, errWouldBlock)
	}
	return err
}

// checkRegular keeps the mbox from being a folder, or a pipe, which would block.
func (l *mboxLock) checkRegular() error {
	info, err := l.disk.stat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", l.path)
	}
	return err
}

// unlock releases the locks and closes the file.
func (l *mboxLock) unlock() {
	l.release()
	<-l.sem
}

func (l *mboxLock) release() {
	if l.dot {
		l.disk.remove(l.dotName())
		l.dot = false
	}
	if l.file != nil {
		l.file.Close() // releases the fcntl lock
		l.file = nil
	}
}

func (l *mboxLock) dotName() string { return l.path + ".lock" }

// prepareDot writes a file with the text of a dot lock. A lock is made by a link to it, so that it always has its text: a
// lock without text looks like that of another program. It is a new file, because the old one may still be a lock.
func prepareDot(d disk, name string) error {
	if err := d.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, dotText(os.Getpid()))
	return errors.Join(err, f.Sync(), f.Close())
}

// lockDot creates the dot lock. If the folder permits no new file, the fcntl lock alone has to serve, if there is one.
func (l *mboxLock) lockDot() error {
	err := l.createDot()
	if errors.Is(err, fs.ErrExist) && l.staleDot() {
		if err := l.breakDot(); err != nil {
			return err
		}
		err = l.createDot()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s exists: %w", l.dotName(), errWouldBlock)
	case haveFcntl && errors.Is(err, fs.ErrPermission):
		return nil
	}
	return err
}

func (l *mboxLock) createDot() error {
	f, err := l.disk.open(l.text, os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, dotText(os.Getpid())) // the same text: it sets the time of the file, which others look at
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = l.disk.link(l.text, l.dotName()); err == nil {
		l.dot = true
		return nil
	}
	if errors.Is(err, fs.ErrExist) || !noLinks(err) {
		return err
	}
	// The file system has no links, or the staging folder is in another one, or the folder permits no new file.
	if f, err = l.disk.open(l.dotName(), os.O_WRONLY|os.O_CREATE|os.O_EXCL); err != nil {
		return err
	}
	l.dot = true
	_, err = io.WriteString(f, dotText(os.Getpid()))
	return errors.Join(err, f.Sync(), f.Close())
}

// dotText is the text of a dot lock. Other programs expect the process ID; the host names the system on which that
// process runs.
func dotText(pid int) string {
	host, _ := os.Hostname()
	return strconv.Itoa(pid) + " pop3 " + host + "\n"
}

// staleDot reports whether the dot lock was left by a process that has died.
func (l *mboxLock) staleDot() bool {
	info, err := l.disk.stat(l.dotName())
	if err != nil {
		return false
	}
	old := time.Since(info.ModTime()) > staleLock
	text := l.readDot()
	word, _, _ := strings.Cut(text, " ")
	pid, err := strconv.Atoi(strings.TrimSpace(word))
	switch {
	case err != nil || pid <= 0:
		return old
	case text == dotText(pid):
		// It is of this program and this host. Nothing else in this process has it, because the semaphore was free. Process IDs
		// are used again after a reboot.
		return old || pid == os.Getpid() || !processAlive(pid)
	default:
		return old && !processAlive(pid)
	}
}

func (l *mboxLock) readDot() string {
	f, err := l.disk.open(l.dotName(), os.O_RDONLY)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 512))
	return string(b)
}

// breakDot removes a stale dot lock. The fcntl lock keeps other processes of this program from doing so at the same time.
func (l *mboxLock) breakDot() error {
	if err := l.disk.remove(l.dotName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
