package fetch

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const boxPath = crashDir + "/box"

// An mboxTrial is an Mbox of one account in memory.
type mboxTrial struct {
	*Mbox
	t       *testing.T
	account string
	disk    *memDisk
	log     bytes.Buffer
	staged  []Record
}

// newMboxTrial returns an Mbox after Recover.
func newMboxTrial(t *testing.T, d *memDisk, account string) *mboxTrial {
	t.Helper()
	m := &mboxTrial{t: t, account: account, disk: d}
	m.Mbox = &Mbox{Path: boxPath, LockTimeout: time.Millisecond, disk: d, Logger: slog.New(slog.NewTextHandler(&m.log, nil))}
	m.recover()
	return m
}

// recover settles the messages that were staged.
func (m *mboxTrial) recover() {
	m.t.Helper()
	outcomes, err := m.Recover(m.t.Context(), Recovery{Account: m.account, Intents: m.staged})
	if err != nil {
		m.t.Fatal(err)
	}
	if len(outcomes) != len(m.staged) || slices.Contains(outcomes, OutcomeForgotten) {
		m.t.Errorf("outcomes %v", outcomes)
	}
}

// stage stages and syncs messages.
func (m *mboxTrial) stage(uids ...string) {
	m.t.Helper()
	m.staged = nil
	for _, uid := range uids {
		msg := Message{Account: m.account, Key: Key{UID: uid}, Time: mboxTime}
		name, err := m.Stage(m.t.Context(), msg, strings.NewReader("Subject: "+uid+"\r\n\r\nbody of "+uid+"\r\n"))
		if err != nil {
			m.t.Fatal(err)
		}
		m.staged = append(m.staged, Record{Key: msg.Key, Name: name})
	}
	if err := m.Sync(m.t.Context(), m.staged); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mboxTrial) commit() {
	m.t.Helper()
	if n, err := m.Commit(m.t.Context(), m.staged); n != len(m.staged) || err != nil {
		m.t.Fatal(n, err)
	}
}

// crash commits, and stops after it has written some bytes.
func (m *mboxTrial) crash(written int) {
	m.t.Helper()
	var names []string
	for _, r := range m.staged {
		names = append(names, r.Name)
	}
	f, err := m.disk.open(boxPath, os.O_RDWR)
	if err != nil {
		m.t.Fatal(err)
	}
	p, err := m.newPlan(f, names)
	if err != nil {
		m.t.Fatal(err)
	}
	var all bytes.Buffer
	if err := errors.Join(m.staging.writePlan(p), m.staging.writeParts(&all, p, 0, len(p.parts))); err != nil {
		m.t.Fatal(err)
	}
	box := m.disk.names[boxPath]
	box.data = append(box.data, all.Next(written)...)
}

func (m *mboxTrial) box() string { return m.disk.files()[boxPath] }

// want checks the messages in the file by their unique-ids, and that nothing else is left.
func (m *mboxTrial) want(uids ...string) {
	m.t.Helper()
	var got []string
	for _, text := range readMboxFiles(m.t, m.disk.files()) {
		_, uid, _ := strings.Cut(text, "body of ")
		got = append(got, strings.TrimSuffix(uid, "\n"))
	}
	if !slices.Equal(got, uids) {
		m.t.Errorf("the file has %q, want %q", got, uids)
	}
}

func (m *mboxTrial) logged(text string) {
	m.t.Helper()
	if !strings.Contains(m.log.String(), text) || text == "" && m.log.Len() > 0 {
		m.t.Errorf("log %q, want %q", m.log.String(), text)
	}
	m.log.Reset()
}

// otherMessage is a message that another program appends.
const otherMessage = "From ann@example.org Fri Nov  6 00:22:38 2026\nSubject: other\n\nbody of other\n\n"

func TestMbox(t *testing.T) {
	m := newMboxTrial(t, newMemDisk("/", crashDir), "joe")
	m.want()
	m.stage("1", "2")
	m.commit()
	m.stage("3")
	m.Discard(t.Context(), m.staged)
	m.stage("4")
	m.commit()
	m.want("1", "2", "4")
	m.logged("")
	if !strings.HasPrefix(m.box(), "From MAILER-DAEMON Fri Nov  6 00:22:38 2026\nSubject: 1\n\nbody of 1\n\nFrom ") {
		t.Errorf("%q", m.box())
	}
}

// TestMboxPadding appends to files that other programs have left without a blank line.
func TestMboxPadding(t *testing.T) {
	for _, text := range []string{otherMessage, strings.TrimSuffix(otherMessage, "\n"), strings.TrimSuffix(otherMessage, "\n\n"), otherMessage + "\n\n"} {
		d := newMemDisk("/", crashDir)
		d.names[boxPath] = &memInode{data: []byte(text)}
		m := newMboxTrial(t, d, "joe")
		m.stage("1", "2")
		m.crash(30)
		m.recover()
		if box := m.box(); !strings.HasPrefix(box, text) || strings.Count(box, "\n\nFrom ") != 2 {
			t.Errorf("after %q: %q", text, box)
		}
	}
}

func TestMboxRecover(t *testing.T) {
	all := len("From MAILER-DAEMON Fri Nov  6 00:22:38 2026\nSubject: 1\n\nbody of 1\n\n")
	for bytes := 0; bytes <= 2*all; bytes++ {
		m := newMboxTrial(t, newMemDisk("/", crashDir), "joe")
		m.stage("0")
		m.commit()
		m.stage("1", "2")
		m.crash(bytes)
		m.recover()
		m.want("0", "1", "2")
		if bytes > 0 && bytes < 2*all {
			m.logged("removed the messages of an interrupted run")
		}
		if t.Failed() {
			t.Fatalf("after %d bytes", bytes)
		}
	}
}

// TestMboxChangedByOthers lets another program change the file between a crash and the recovery. Nothing of it is removed, and no
// message is lost.
func TestMboxChangedByOthers(t *testing.T) {
	const changed = "another program has changed the file"
	for _, test := range []struct {
		name   string
		bytes  int
		change func(box string) string
		want   []string
		log    string
	}{
		{"append", 0, func(box string) string { return box + otherMessage }, []string{"0", "other", "1", "2"}, changed},
		{"append to complete", 1000, func(box string) string { return box + otherMessage }, []string{"0", "1", "2", "other"}, ""},
		{"empty", 1000, func(string) string { return "" }, []string{"1", "2"}, changed},
		{"empty and append", 1000, func(string) string { return otherMessage }, []string{"other", "1", "2"}, changed},
		{"delete the first", 1000, func(box string) string { return box[strings.Index(box, "\n\nFrom ")+2:] }, []string{"1", "2", "1", "2"}, changed},
		{"delete the second", 1000, func(box string) string {
			i := strings.Index(box, "From MAILER-DAEMON Fri Nov  6 00:22:38 2026\nSubject: 1")
			j := strings.Index(box, "From MAILER-DAEMON Fri Nov  6 00:22:38 2026\nSubject: 2")
			return box[:i] + box[j:]
		}, []string{"0", "2", "1", "2"}, changed},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMboxTrial(t, newMemDisk("/", crashDir), "joe")
			m.stage("0")
			m.commit()
			m.stage("1", "2")
			m.crash(test.bytes)
			inode := m.disk.names[boxPath]
			inode.data = []byte(test.change(string(inode.data)))
			m.recover()
			m.want(test.want...)
			m.logged(test.log)
		})
	}
}

// TestMboxReadBeforeDone has a mail reader empty the file after a commit that the Store has not recorded.
func TestMboxReadBeforeDone(t *testing.T) {
	for seed := range uint64(20) {
		m := newMboxTrial(t, newMemDisk("/", crashDir), "joe")
		m.stage("1", "2")
		m.commit()
		m.disk.powerCut(rand.New(rand.NewPCG(seed, 0)))
		m.disk.names[boxPath].data = nil
		m.recover()
		m.want()
	}
}

// TestMboxAccounts has an account find the file as another one has left it in a crash.
func TestMboxAccounts(t *testing.T) {
	for _, bytes := range []int{0, 1, 50, 70, 100, 1000} {
		d := newMemDisk("/", crashDir)
		joe := newMboxTrial(t, d, "joe")
		joe.stage("0")
		joe.commit()
		ann := newMboxTrial(t, d, "ann")
		joe.stage("1", "2")
		joe.crash(bytes)
		ann.stage("3")
		ann.commit()
		joe.recover()
		want := []string{"0", "3", "1", "2"}
		if bytes == 1000 { // joe's commit was complete
			want = []string{"0", "1", "2", "3"}
		}
		joe.want(want...)
	}
}

// TestMboxIncompletePlan has a run killed while it wrote its plan, before it appended anything.
func TestMboxIncompletePlan(t *testing.T) {
	complete := (&plan{offset: 0, pad: 1, parts: []planPart{{"name", 7}}}).String()
	if parsePlan(complete) == nil {
		t.Fatalf("%q is malformed", complete)
	}
	for _, text := range []string{"", "x", complete[:len(complete)-1], complete[1:], strings.Replace(complete, "7", "8", 1), complete + "x", "\x00" + complete} {
		m := newMboxTrial(t, newMemDisk("/", crashDir), "joe")
		m.stage("1")
		m.disk.names[m.staging.path(planName)] = &memInode{data: []byte(text)}
		m.recover()
		m.want("1")
	}
	for n := range complete {
		if p := parsePlan(complete[:n]); p != nil {
			t.Errorf("%q is a plan: %v", complete[:n], p)
		}
	}
}

func TestMboxVanishedStaging(t *testing.T) {
	m := newMboxTrial(t, newMemDisk("/", crashDir), "joe")
	m.stage("1")
	dir := m.staging.dir
	for name := range m.disk.names {
		if strings.HasPrefix(name, dir) {
			delete(m.disk.names, name)
		}
	}
	if _, err := m.Recover(t.Context(), Recovery{Account: "joe", Intents: m.staged}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
}

// TestMboxRefuses delivers to files that are not mboxes.
func TestMboxRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("my notes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text:                        "is not an mbox",
		dir:                         "is not a regular file",
		filepath.Join(text, "x"):    "text",
		filepath.Join(dir, "a\x00"): "invalid",
	} {
		m := &Mbox{Path: path}
		if _, err := m.Recover(t.Context(), Recovery{Account: "joe"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if got, err := os.ReadFile(text); string(got) != "my notes\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMboxFile delivers to a real file, over a symbolic link.
func TestMboxFile(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "sub", "box")
	if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skip(err)
	}
	m := &Mbox{Path: link}
	if _, err := m.Recover(t.Context(), Recovery{Account: "joe"}); err != nil {
		t.Fatal(err)
	}
	name, err := m.Stage(t.Context(), Message{Key: Key{UID: "1"}, Time: mboxTime}, strings.NewReader("\r\nbody\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	staged := []Record{{Name: name}}
	if err := m.Sync(t.Context(), staged); err != nil {
		t.Fatal(err)
	}
	if n, err := m.Commit(t.Context(), staged); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	got, err := os.ReadFile(target)
	if want := referenceMbox("\r\nbody\r\n", "MAILER-DAEMON"); string(got) != want || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if _, err := os.Stat(target + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dot lock: %v", err)
	}
	if m.Target() != "mbox:"+link {
		t.Errorf("target %q", m.Target())
	}
}

func TestMboxContext(t *testing.T) {
	m := newMboxTrial(t, newMemDisk("/", crashDir), "joe")
	m.stage("1")
	m.disk.names[boxPath+".lock"] = &memInode{mtime: time.Now()}
	m.LockTimeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if n, err := m.Commit(ctx, m.staged); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v", n, err)
	}
	delete(m.disk.names, boxPath+".lock")
	m.commit()
	m.want("1")
}
