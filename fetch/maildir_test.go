package fetch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// newMaildirFixture returns a fixture with a Maildir that does not exist yet.
func newMaildirFixture(t *testing.T, mails ...mail) (x *fixture, dir string) {
	x = newFixture(t, mails...)
	dir = filepath.Join(t.TempDir(), "Mail")
	x.Sink = &Maildir{Dir: dir}
	return x, dir
}

// readFiles returns the contents of the files of a folder.
func readFiles(t *testing.T, dir string) (names, texts []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		names, texts = append(names, e.Name()), append(texts, string(text))
	}
	return names, texts
}

func TestMaildir(t *testing.T) {
	list := mails(20)
	list[4].uid = "a/../b: secret"
	x, dir := newMaildirFixture(t, list...)
	x.run(nil)
	names, texts := readFiles(t, filepath.Join(dir, "new"))
	var want []string
	for _, m := range list {
		want = append(want, toLF(m.text))
	}
	slices.Sort(texts)
	slices.Sort(want)
	if !slices.Equal(texts, want) {
		t.Errorf("messages %q, want %q", texts, want)
	}
	form := regexp.MustCompile(`^1795694400\.R[0-9a-f]{16}A[0-9a-f]{8}U[0-9a-f]{32}\.[^/:]+$`)
	for _, name := range names {
		if !form.MatchString(name) || strings.Contains(name, "secret") {
			t.Errorf("name %q", name)
		}
		info, err := os.Stat(filepath.Join(dir, "new", name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode(); runtime.GOOS != "windows" && mode != 0o600 {
			t.Errorf("mode %v", mode)
		}
	}
	for _, folder := range []string{"tmp", "cur"} {
		if names, _ := readFiles(t, filepath.Join(dir, folder)); len(names) > 0 {
			t.Errorf("%s has %q", folder, names)
		}
	}
	x.run(nil)
	if names, _ := readFiles(t, filepath.Join(dir, "new")); len(names) != 20 {
		t.Errorf("%d messages after the second run", len(names))
	}
}

func TestMaildirLineEndings(t *testing.T) {
	text := "Subject: 1\r\n\r\na\nb\rc\r\r\nd\x00\xff\r\n\r\n.\r\n..\r\n" + strings.Repeat("x", 100000) + "\r\n"
	for _, crlf := range []bool{false, true} {
		x, dir := newMaildirFixture(t, mail{uid: "1", text: text})
		x.Sink = &Maildir{Dir: dir, CRLF: crlf}
		x.run(nil)
		want := text
		if !crlf {
			want = toLF(text)
		}
		if _, texts := readFiles(t, filepath.Join(dir, "new")); len(texts) != 1 || texts[0] != want {
			t.Errorf("CRLF %v: %.100q", crlf, texts)
		}
	}
}

// TestMaildirTrouble has Maildirs that cannot be used. The run ends with a clear error before it connects.
func TestMaildirTrouble(t *testing.T) {
	mkdirs := func(t *testing.T, dir string, folders ...string) {
		for _, folder := range folders {
			if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string
	}{
		{"no parent", func(t *testing.T, dir string) { os.Remove(filepath.Dir(dir)) }, "no such file"},
		{"a file", func(t *testing.T, dir string) { os.WriteFile(dir, nil, 0o600) }, "not a directory"},
		{"other files", func(t *testing.T, dir string) { mkdirs(t, dir, "Documents") }, "not a Maildir"},
		{"new is a file", func(t *testing.T, dir string) {
			mkdirs(t, dir, "tmp", "cur")
			os.WriteFile(filepath.Join(dir, "new"), nil, 0o600)
		}, "not a folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			x, dir := newMaildirFixture(t, mails(1)...)
			test.make(t, dir)
			_, err := x.Run(t.Context())
			if !errors.Is(err, ErrSink) || !strings.Contains(err.Error(), test.want) && runtime.GOOS == "linux" {
				t.Errorf("Run returned %v, want %q", err, test.want)
			}
			if x.drop.sessions > 0 {
				t.Error("a session was opened")
			}
		})
	}
	t.Run("a missing folder", func(t *testing.T) {
		x, dir := newMaildirFixture(t, mails(1)...)
		mkdirs(t, dir, "new", "cur")
		x.run(nil)
	})
}

// A crossDisk cannot rename from tmp to new.
type crossDisk struct{ *memDisk }

func (crossDisk) rename(from, to string) error {
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: errors.New("invalid cross-device link")}
}

// A readOnlyDisk creates no files.
type readOnlyDisk struct{ *memDisk }

func (readOnlyDisk) open(name string, flag int) (diskFile, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func TestMaildirOnBadDisk(t *testing.T) {
	for name, d := range map[string]disk{
		"tmp and new must be on one file system": crossDisk{newMemDisk("/", crashDir)},
		"permission denied":                      readOnlyDisk{newMemDisk("/", crashDir)},
	} {
		x := newFixture(t, mails(1)...)
		x.Sink = &Maildir{Dir: crashDir, disk: d}
		_, err := x.Run(t.Context())
		if !errors.Is(err, ErrSink) || !strings.Contains(err.Error(), name) {
			t.Errorf("Run returned %v, want %q", err, name)
		}
		if x.drop.sessions > 0 {
			t.Error("a session was opened")
		}
	}
}

// TestMaildirVanishes removes a folder of the Maildir in the middle of a run, and after it.
func TestMaildirVanishes(t *testing.T) {
	for _, folder := range []string{"new", "tmp", "."} {
		x, dir := newMaildirFixture(t, mails(30)...)
		x.Policy.Delete = true
		x.BatchMessages = 8
		x.Progress = func(e Event) {
			if e.Kind == EventStaged && e.Message.Number == 20 {
				os.Rename(filepath.Join(dir, folder), dir+".elsewhere")
			}
		}
		x.run(ErrSink)
		if len(x.drop.sent("DELE")) > 0 {
			t.Error("messages were deleted")
		}
		x.Progress = nil
		for r := range x.store.Load(t.Context(), Intent) {
			t.Errorf("%s: an intent of %q", folder, r.Key.UID)
		}
		os.RemoveAll(filepath.Join(dir, folder))
		os.Rename(dir+".elsewhere", filepath.Join(dir, folder))
		x.run(nil)
		if names, _ := readFiles(t, filepath.Join(dir, "new")); len(names) != 30 {
			t.Errorf("%s: %d messages, want 30", folder, len(names))
		}
	}
}

// A sharedDisk creates some folders, as another account does, before one of the operations that look for them or create them.
type sharedDisk struct {
	osDisk
	folders []string
	left    int // operations until then
}

func (d *sharedDisk) step() {
	if d.left--; d.left == 0 {
		for _, folder := range d.folders {
			os.Mkdir(folder, 0o700)
		}
	}
}

func (d *sharedDisk) stat(name string) (fs.FileInfo, error) {
	d.step()
	return d.osDisk.stat(name)
}

func (d *sharedDisk) readDir(name string) ([]string, error) {
	d.step()
	return d.osDisk.readDir(name)
}

func (d *sharedDisk) mkdir(name string) error {
	d.step()
	return d.osDisk.mkdir(name)
}

// TestMaildirCreatedTwice creates a Maildir while another account creates it too, and has come to any of its steps.
func TestMaildirCreatedTwice(t *testing.T) {
	for at := 1; at <= 12; at++ {
		for upTo := 1; upTo <= 1+len(maildirFolders); upTo++ {
			dir := filepath.Join(t.TempDir(), "Maildir")
			folders := []string{dir}
			for _, folder := range maildirFolders {
				folders = append(folders, filepath.Join(dir, folder))
			}
			m := &Maildir{Dir: dir, disk: &sharedDisk{folders: folders[:upTo], left: at}}
			if _, err := m.Recover(t.Context(), Recovery{}); err != nil {
				t.Errorf("%d folders before operation %d: %v", upTo, at, err)
			}
		}
	}
}

// A vanishingDisk moves a folder elsewhere right after a number of files were moved into it.
type vanishingDisk struct {
	osDisk
	folder string
	left   int
}

func (d *vanishingDisk) rename(from, to string) error {
	err := d.osDisk.rename(from, to)
	if err == nil && filepath.Dir(to) == d.folder {
		if d.left--; d.left == 0 {
			os.Rename(d.folder, d.folder+".elsewhere")
		}
	}
	return err
}

// TestFolderVanishesWithinCommit moves the folder of delivered messages elsewhere after each message of a batch. When it is back, each
// message must be there once.
func TestFolderVanishesWithinCommit(t *testing.T) {
	const messages = 8
	for after := 1; after <= messages; after++ {
		for _, form := range []string{"Maildir", "EML"} {
			x := newFixture(t, mails(messages)...)
			d := &vanishingDisk{left: after}
			if form == "Maildir" {
				dir := t.TempDir()
				d.folder = filepath.Join(dir, "new")
				x.Sink = &Maildir{Dir: dir, disk: d}
			} else {
				d.folder = filepath.Join(t.TempDir(), "mail")
				x.Sink = &EML{Dir: d.folder, disk: d}
			}
			x.Policy.Delete = true
			if _, err := x.Run(t.Context()); err != nil && !errors.Is(err, ErrSink) {
				t.Errorf("%s, after %d: %v", form, after, err)
			}
			os.RemoveAll(d.folder)
			if err := os.Rename(d.folder+".elsewhere", d.folder); err != nil {
				t.Fatal(err)
			}
			x.run(nil)
			entries, err := os.ReadDir(d.folder)
			entries = slices.DeleteFunc(entries, fs.DirEntry.IsDir)
			if err != nil || len(entries) != messages {
				t.Errorf("%s, after %d: %d messages, %v, want %d", form, after, len(entries), err, messages)
			}
		}
	}
}

// TestMaildirRecovery settles intents in all the situations that a crash can leave, and a mail reader can change.
func TestMaildirRecovery(t *testing.T) {
	const name = "1795694400.R0123456789abcdefA01234567U0123456789abcdef0123456789abcdef.host"
	for _, test := range []struct {
		name string
		file string // where the message is
		age  time.Duration
		want Outcome
		at   string // where it is afterwards
	}{
		{"not renamed", "tmp/" + name, time.Minute, OutcomeDelivered, "new/" + name},
		{"not renamed for long", "tmp/" + name, 1000 * time.Hour, OutcomeDelivered, "new/" + name},
		{"renamed", "new/" + name, time.Minute, OutcomeDelivered, "new/" + name},
		{"renamed long ago", "new/" + name, 31 * time.Hour, OutcomeDelivered, "new/" + name},
		{"read", "cur/" + name + ":2,S", time.Minute, OutcomeDelivered, "cur/" + name + ":2,S"},
		{"read long ago", "cur/" + name + ":2,S", 31 * time.Hour, OutcomeDelivered, "cur/" + name + ":2,S"},
		{"removed", "", 29 * time.Hour, OutcomeDelivered, ""},
		{"removed long ago", "", 31 * time.Hour, OutcomeForgotten, ""},
		{"removed, clock set back", "", -1000 * time.Hour, OutcomeDelivered, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			m := &Maildir{Dir: dir}
			now := time.Now()
			recovery := Recovery{Account: "joe", Now: now}
			if _, err := m.Recover(t.Context(), recovery); err != nil {
				t.Fatal(err)
			}
			if test.file != "" {
				if err := os.WriteFile(filepath.Join(dir, test.file), []byte("text"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			recovery.Intents = []Record{{Key: Key{UID: "1"}, State: Intent, Name: name, Time: now.Add(-test.age)}}
			outcomes, err := m.Recover(t.Context(), recovery)
			if err != nil || len(outcomes) != 1 || outcomes[0] != test.want {
				t.Errorf("Recover returned %v, %v, want %v", outcomes, err, test.want)
			}
			var files []string
			for _, folder := range maildirFolders {
				names, _ := readFiles(t, filepath.Join(dir, folder))
				for _, name := range names {
					files = append(files, folder+"/"+name)
				}
			}
			if want := strings.Fields(test.at); !slices.Equal(files, want) {
				t.Errorf("files %q, want %q", files, want)
			}
		})
	}
}

func TestMaildirVanishedWithIntents(t *testing.T) {
	for _, folder := range []string{"tmp", "new", "cur", ""} {
		dir := filepath.Join(t.TempDir(), "Mail")
		m := &Maildir{Dir: dir}
		recovery := Recovery{Account: "joe", Now: time.Now()}
		if _, err := m.Recover(t.Context(), recovery); err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(filepath.Join(dir, folder))
		recovery.Intents = []Record{{Key: Key{UID: "1"}, State: Intent, Name: "name", Time: recovery.Now}}
		if _, err := m.Recover(t.Context(), recovery); err == nil || !strings.Contains(err.Error(), "vanished") {
			t.Errorf("without %q: Recover returned %v", folder, err)
		}
	}
}

// TestMaildirBadName has a damaged Store that would make Recover move other files.
func TestMaildirBadName(t *testing.T) {
	for _, name := range []string{"", "../new/x", "/etc/passwd", "a/b"} {
		m := &Maildir{Dir: t.TempDir()}
		for range 2 { // the second time in a Maildir that exists
			if _, err := m.Recover(t.Context(), Recovery{Intents: []Record{{State: Intent, Name: name}}}); err == nil {
				t.Errorf("Recover accepted %q", name)
			}
			if _, err := m.Recover(t.Context(), Recovery{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestMaildirShared has two accounts and another program that share a Maildir. Recovery removes the files of its own account only.
func TestMaildirShared(t *testing.T) {
	dir := t.TempDir()
	stage := func(account string) {
		m := &Maildir{Dir: dir}
		if _, err := m.Recover(t.Context(), Recovery{Account: account}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Stage(t.Context(), Message{Account: account, Key: Key{UID: "1"}}, strings.NewReader("text")); err != nil {
			t.Fatal(err)
		}
	}
	stage("joe")
	stage("ann")
	if err := os.WriteFile(filepath.Join(dir, "tmp", "1795694400.M1P2.host"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if names, _ := readFiles(t, filepath.Join(dir, "tmp")); len(names) != 3 {
		t.Fatalf("tmp has %q", names)
	}
	m := &Maildir{Dir: dir}
	if _, err := m.Recover(t.Context(), Recovery{Account: "joe"}); err != nil {
		t.Fatal(err)
	}
	names, _ := readFiles(t, filepath.Join(dir, "tmp"))
	if len(names) != 2 {
		t.Errorf("tmp has %q", names)
	}
}

// TestMaildirNeverReplacesAFile stages many messages with the same Key in the same second.
func TestMaildirNeverReplacesAFile(t *testing.T) {
	dir := t.TempDir()
	m := &Maildir{Dir: dir}
	ctx := context.Background()
	if _, err := m.Recover(ctx, Recovery{Account: "joe"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var staged []Record
		for range 10 {
			name, err := m.Stage(ctx, Message{Account: "joe", Key: Key{UID: "1"}}, strings.NewReader("text"))
			if err != nil {
				t.Fatal(err)
			}
			staged = append(staged, Record{Name: name})
		}
		if err := m.Sync(ctx, staged); err != nil {
			t.Fatal(err)
		}
		if n, err := m.Commit(ctx, staged); n != 10 || err != nil {
			t.Fatal(n, err)
		}
	}
	if names, _ := readFiles(t, filepath.Join(dir, "new")); len(names) != 30 {
		t.Errorf("%d files, want 30", len(names))
	}
}
