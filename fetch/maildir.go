package fetch

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Maildir is a Sink that writes each message to a file in the tmp folder of a Maildir, and then moves the file to
// new. Several accounts and other programs may share the Maildir. The names of the files have the usual form,
// time.unique.host. They do not contain the unique-id, only Key.Digest. The files have mode 0600.
type Maildir struct {
	// Dir is the Maildir. It is created, with cur, new, and tmp, if it does not exist. Its parent folder must exist.
	Dir string

	// CRLF writes the bytes that the server sent, with CRLF line endings. Otherwise the files have LF line endings, as readers of
	// Maildirs expect.
	CRLF bool

	disk    disk // nil for osDisk
	host    string
	account string // as it stands in the names of files
	staging *staging
	new     string        // the folder of delivered messages
	buf     *bufio.Writer // of Stage
}

var _ Sink = (*Maildir)(nil)

// Target implements Sink.
func (m *Maildir) Target() string { return "maildir:" + absolute(m.Dir) }

// Recover implements Sink.
func (m *Maildir) Recover(ctx context.Context, r Recovery) ([]Outcome, error) {
	m.init(r.Account)
	if err := m.create(len(r.Intents)); err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(r.Intents))
	for i, intent := range r.Intents {
		outcome, err := m.settle(intent, r)
		if err != nil {
			return nil, err
		}
		outcomes[i] = outcome
	}
	if err := m.probe(); err != nil {
		return nil, err
	}
	if err := m.disk.syncDir(m.path("new")); err != nil {
		return nil, err
	}
	return outcomes, m.clean()
}

func (m *Maildir) init(account string) {
	if m.disk == nil {
		m.disk = osDisk{}
	}
	if m.staging != nil {
		m.staging.close()
	}
	m.staging = &staging{disk: m.disk, dir: m.path("tmp"), unsynced: make(map[string]diskFile), name: m.name}
	m.new = m.path("new")
	sum := sha256.Sum256([]byte(account))
	m.account = "A" + hex.EncodeToString(sum[:4])
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	m.host = strings.NewReplacer("/", `\057`, ":", `\072`).Replace(host)
	m.buf = bufio.NewWriterSize(nil, 64<<10)
}

func (m *Maildir) path(folder string, name ...string) string {
	return filepath.Join(append([]string{m.Dir, folder}, name...)...)
}

var maildirFolders = []string{"tmp", "new", "cur"}

// create creates the folders that are missing. If intents exist, none may be: that a message is no longer in tmp would otherwise
// mean that it is delivered.
func (m *Maildir) create(intents int) error {
	missing := 0
	for _, folder := range maildirFolders {
		found, err := exists(m.disk, m.path(folder))
		if err != nil {
			return err
		}
		if !found {
			missing++
		}
	}
	if missing > 0 && intents > 0 {
		return fmt.Errorf("%s has vanished, and with it messages that were being delivered", m.Dir)
	}
	if missing == len(maildirFolders) {
		names, err := m.disk.readDir(m.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		isFolder := func(name string) bool { return slices.Contains(maildirFolders, name) } // another account may be creating them
		if len(slices.DeleteFunc(names, isFolder)) > 0 {
			return fmt.Errorf("%s is not a Maildir: it has no folders cur, new, and tmp, but other files", m.Dir)
		}
	}
	for _, folder := range append([]string{""}, maildirFolders...) {
		if err := m.disk.mkdir(m.path(folder)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, err := m.disk.stat(m.path(folder))
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", m.path(folder))
		}
	}
	// An earlier run may have been killed before it synced the directories it had created.
	if err := m.disk.syncDir(filepath.Dir(absolute(m.Dir))); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return m.disk.syncDir(m.Dir)
}

// settle delivers the message of an intent if that has not happened yet.
func (m *Maildir) settle(intent Record, r Recovery) (Outcome, error) {
	if err := checkName(intent); err != nil {
		return OutcomeForgotten, err
	}
	err := m.deliver(intent)
	if err == nil {
		return OutcomeDelivered, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return OutcomeForgotten, err
	}
	// It was renamed. A mail reader may have moved the file since.
	if expired(intent, r.Now) {
		if found, err := m.has(intent.Name); !found {
			return OutcomeForgotten, err
		}
	}
	return OutcomeDelivered, nil
}

// has reports whether a message is in new or cur, where readers add flags to its name.
func (m *Maildir) has(name string) (bool, error) {
	for _, folder := range []string{"new", "cur"} {
		names, err := m.disk.readDir(m.path(folder))
		if err != nil {
			return false, err
		}
		for _, found := range names {
			if base, _, _ := strings.Cut(found, ":"); base == name {
				return true, nil
			}
		}
	}
	return false, nil
}

// probe checks that a file can be created in tmp and moved to new.
func (m *Maildir) probe() error {
	name := ".pop3-" + m.account // readers ignore it
	f, err := m.disk.open(m.path("tmp", name), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := m.deliver(Record{Name: name}); err != nil {
		m.disk.remove(m.path("tmp", name))
		return fmt.Errorf("tmp and new must be on one file system: %w", err)
	}
	return m.disk.remove(m.path("new", name))
}

// clean removes the files of this account from tmp that an earlier run has left without an intent.
func (m *Maildir) clean() error {
	names, err := m.disk.readDir(m.path("tmp"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if !m.isOwn(name) {
			continue
		}
		if err := m.disk.remove(m.path("tmp", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// name returns the name of a new message. Its random part makes it unique.
func (m *Maildir) name(msg Message) string {
	random := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	return strconv.FormatInt(msg.Time.Unix(), 10) + ".R" + hex.EncodeToString(random) + m.account + "U" +
		msg.Key.Digest(msg.Account) + "." + m.host
}

// isOwn reports whether name makes up names of this form for this account.
func (m *Maildir) isOwn(name string) bool {
	_, rest, _ := strings.Cut(name, ".")
	unique, _, _ := strings.Cut(rest, ".")
	const random, digest = 1 + 16, 1 + 32
	return len(unique) == random+len(m.account)+digest && unique[0] == 'R' && strings.HasPrefix(unique[random:], m.account+"U")
}

func (m *Maildir) deliver(r Record) error {
	return m.disk.rename(m.staging.path(r.Name), inFolder(m.new, r.Name))
}

// Stage implements Sink.
func (m *Maildir) Stage(ctx context.Context, msg Message, body io.Reader) (name string, err error) {
	return m.staging.stage(msg, "", never, func(f diskFile) error {
		if m.CRLF {
			_, err := io.Copy(f, body)
			return err
		}
		m.buf.Reset(f)
		lf := &lfWriter{w: m.buf}
		if _, err := io.Copy(lf, body); err != nil {
			return err
		}
		if err := lf.Flush(); err != nil {
			return err
		}
		return m.buf.Flush()
	})
}

func never(string) (bool, error) { return false, nil }

// Sync implements Sink.
func (m *Maildir) Sync(ctx context.Context, staged []Record) error {
	return m.staging.sync(ctx, staged)
}

// Commit implements Sink.
func (m *Maildir) Commit(ctx context.Context, staged []Record) (n int, err error) {
	return commitTo(m.disk, m.new, staged, m.deliver, func(r Record) {
		m.disk.rename(inFolder(m.new, r.Name), m.staging.path(r.Name))
	})
}

// Discard implements Sink.
func (m *Maildir) Discard(ctx context.Context, staged []Record) { m.staging.discard(staged) }
