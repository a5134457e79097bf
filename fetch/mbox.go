package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"
)

// An Mbox is a Sink that appends messages to an mbox file, in the mboxrd form: with LF line endings, and with a > put
// before each line that begins with "From ", or with any number of > and then "From ". Readers can undo that. The
// From_ line has the address of Return-Path, and the time when the message was fetched.
//
// The file is locked while it is changed, by fcntl if the system has it, and by a dot lock (Path with .lock) if the
// folder permits one. Messages are staged in a hidden folder beside the file. The offset of each batch is recorded
// there before it is appended, so that the next run can tell how much of it has reached the file. If another program
// changes the file at that offset between a crash and the next run, that run appends the batch again rather than lose
// it.
type Mbox struct {
	// Path is the file. It is created with mode 0600 if it does not exist.
	Path string

	// StagingDir is the folder that contains the hidden folder. If empty, it is the folder of Path.
	StagingDir string

	// LockTimeout bounds the wait for other programs that have locked the file. If 0, it is 30 s.
	LockTimeout time.Duration

	// Logger, if not nil, receives the changes that recovery makes to the file.
	Logger *slog.Logger

	disk    disk     // nil for osDisk
	staging *staging // set by Recover
	buf     *bufio.Writer
	path    string      // Path without symbolic links
	synced  fs.FileInfo // the file whose name is durable
	stuck   bool        // a failed append could not be undone: the next Recover does it
}

var _ Sink = (*Mbox)(nil)

// Target implements Sink.
func (m *Mbox) Target() string { return "mbox:" + absolute(m.Path) }

// Stage implements Sink.
func (m *Mbox) Stage(ctx context.Context, msg Message, body io.Reader) (name string, err error) {
	return m.staging.stage(msg, "", never, func(f diskFile) error {
		m.buf.Reset(f)
		w := newMboxWriter(m.buf, msg.Time)
		if _, err := io.Copy(w, body); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		return m.buf.Flush()
	})
}

// Sync implements Sink.
func (m *Mbox) Sync(ctx context.Context, staged []Record) error { return m.staging.sync(ctx, staged) }

// Commit implements Sink.
func (m *Mbox) Commit(ctx context.Context, staged []Record) (n int, err error) {
	lock, err := m.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer lock.unlock()
	if err := m.repairOthers(ctx, lock.file); err != nil {
		return 0, err
	}
	names := make([]string, len(staged))
	for i, r := range staged {
		names[i] = r.Name
	}
	if err := m.append(lock.file, names); err != nil {
		return 0, err
	}
	return len(staged), nil
}

// Discard implements Sink.
func (m *Mbox) Discard(ctx context.Context, staged []Record) {
	if !m.stuck {
		m.staging.discard(staged)
	}
}

// append appends staged messages to the locked file, durably, and removes them from the staging folder. It appends all of them or
// none.
func (m *Mbox) append(f diskFile, names []string) (err error) {
	plan, err := m.newPlan(f, names)
	if err != nil {
		return err
	}
	if err := m.staging.writePlan(plan); err != nil {
		return err
	}
	if err = m.copyPlan(f, plan); err == nil {
		m.finishPlan(plan)
		return nil
	}
	undoErr := errors.Join(f.Truncate(plan.offset), f.Sync())
	if m.stuck = undoErr != nil; m.stuck {
		return fmt.Errorf("%w; the next run will undo it: %w", err, undoErr)
	}
	return err
}

// newPlan returns the plan to append messages.
func (m *Mbox) newPlan(f diskFile, names []string) (*plan, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := &plan{offset: info.Size()}
	if p.pad, err = padding(f, p.offset); err != nil {
		return nil, err
	}
	for _, name := range names {
		info, err := m.disk.stat(m.staging.path(name))
		if err != nil {
			return nil, err
		}
		p.parts = append(p.parts, planPart{name, info.Size()})
	}
	return p, nil
}

// padding returns how many LF are missing before a From_ line can follow.
func padding(f diskFile, size int64) (int64, error) {
	if size == 0 {
		return 0, nil
	}
	tail := make([]byte, min(2, size))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	n := int64(2)
	for i := len(tail) - 1; i >= 0 && tail[i] == '\n'; i-- {
		n--
	}
	return n, nil
}

func (m *Mbox) copyPlan(f diskFile, p *plan) error {
	if _, err := f.Seek(p.offset, io.SeekStart); err != nil {
		return err
	}
	if err := m.staging.writeParts(f, p, 0, len(p.parts)); err != nil {
		return err
	}
	return m.sync(f)
}

// sync makes the file durable, and its name, if the file is another one than before.
func (m *Mbox) sync(f diskFile) error {
	if err := f.Sync(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || m.synced != nil && m.disk.sameFile(info, m.synced) {
		return err
	}
	if err := m.disk.syncDir(filepath.Dir(m.path)); err != nil {
		return err
	}
	m.synced = info
	return nil
}

// finishPlan removes the appended messages from the staging folder. If that fails, the next run compares them with the file. The sync
// matters if a mail reader deletes a message before that.
func (m *Mbox) finishPlan(p *plan) {
	for _, part := range p.parts {
		m.disk.remove(m.staging.path(part.name))
	}
	m.disk.syncDir(m.staging.dir)
}

// lockName is the file in the staging folder that dot locks link to.
const lockName = "lock"

func (m *Mbox) lock(ctx context.Context) (*mboxLock, error) {
	return lockMbox(ctx, m.disk, m.path, m.staging.path(lockName), m.LockTimeout)
}

func (m *Mbox) log(ctx context.Context, msg string, args ...any) {
	if m.Logger != nil {
		m.Logger.WarnContext(ctx, msg, append([]any{"mbox", m.path}, args...)...)
	}
}
