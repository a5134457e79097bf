package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// An EML is a Sink that writes each message to a file of a folder. The names of the files consist of the time when the message was
// fetched and of Key.Digest: 20261126T002238Z.0123456789abcdef0123456789abcdef.eml. The files have mode 0600. Messages are staged in
// a hidden folder in Dir.
type EML struct {
	// Dir is the folder. It is created if it does not exist.
	Dir string

	// LF writes LF line endings. Otherwise the files have the bytes that the server sent, with CRLF line endings.
	LF bool

	disk    disk     // nil for osDisk
	staging *staging // set by Recover
	buf     *bufio.Writer
}

var _ Sink = (*EML)(nil)

const emlSuffix = ".eml"

// Target implements Sink.
func (e *EML) Target() string { return "eml:" + absolute(e.Dir) }

// Recover implements Sink.
func (e *EML) Recover(ctx context.Context, r Recovery) ([]Outcome, error) {
	if e.disk == nil {
		e.disk = osDisk{}
	}
	if e.staging != nil {
		e.staging.close()
	}
	s, err := openStaging(e.disk, filepath.Join(e.Dir, stagingName("", r.Account)), len(r.Intents))
	if err != nil {
		return nil, err
	}
	e.staging, e.buf = s, bufio.NewWriterSize(nil, 64<<10)
	outcomes := make([]Outcome, len(r.Intents))
	for i, intent := range r.Intents {
		if outcomes[i], err = e.settle(intent, r); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(e.probe(), s.clean()); err != nil {
		return nil, err
	}
	return outcomes, e.disk.syncDir(e.Dir)
}

// settle renames the file of an intent if that has not happened yet.
func (e *EML) settle(intent Record, r Recovery) (Outcome, error) {
	if err := checkName(intent); err != nil {
		return OutcomeForgotten, err
	}
	err := e.deliver(intent)
	if err == nil {
		return OutcomeDelivered, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return OutcomeForgotten, err
	}
	// It was renamed. A user may have moved the file since.
	if expired(intent, r.Now) {
		if found, err := exists(e.disk, filepath.Join(e.Dir, intent.Name)); !found {
			return OutcomeForgotten, err
		}
	}
	return OutcomeDelivered, nil
}

// probe checks that a file can be created and renamed.
func (e *EML) probe() error {
	name := filepath.Base(e.staging.dir) + ".probe" // other accounts may share Dir
	staged := Record{Name: name}
	f, err := e.disk.open(e.staging.path(name), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := e.deliver(staged); err != nil {
		return fmt.Errorf("%s cannot receive files from a folder in it: %w", e.Dir, err)
	}
	return e.disk.remove(filepath.Join(e.Dir, name))
}

func (e *EML) deliver(r Record) error {
	return e.disk.rename(e.staging.path(r.Name), filepath.Join(e.Dir, r.Name))
}

// Stage implements Sink.
func (e *EML) Stage(ctx context.Context, m Message, body io.Reader) (name string, err error) {
	taken := func(name string) (bool, error) { return exists(e.disk, filepath.Join(e.Dir, name)) }
	return e.staging.stage(m, emlSuffix, taken, func(f diskFile) error {
		if !e.LF {
			_, err := io.Copy(f, body)
			return err
		}
		e.buf.Reset(f)
		lf := &lfWriter{w: e.buf}
		if _, err := io.Copy(lf, body); err != nil {
			return err
		}
		if err := lf.Flush(); err != nil {
			return err
		}
		return e.buf.Flush()
	})
}

// Sync implements Sink.
func (e *EML) Sync(ctx context.Context, staged []Record) error { return e.staging.sync(ctx, staged) }

// Commit implements Sink.
func (e *EML) Commit(ctx context.Context, staged []Record) (n int, err error) {
	return commitTo(e.disk, e.Dir, staged, e.deliver, func(r Record) {
		e.disk.rename(filepath.Join(e.Dir, r.Name), e.staging.path(r.Name))
	})
}

// Discard implements Sink.
func (e *EML) Discard(ctx context.Context, staged []Record) { e.staging.discard(staged) }

// absolute returns a path that does not depend on the current folder.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
