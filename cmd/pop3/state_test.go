package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

func TestState(t *testing.T) {
	onUnix(t)
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { withIDs(s, "one", "two", "three", "four") }, texts...)
	url := "pop://user@" + srv.Addr
	e.run("fetch", "-max-messages", "2", url, e.path("Maildir")).check(t, 0)
	e.run("state", "show", url).check(t, 0, "account  user@127.0.0.1:", "done     2\n", "first    20")
	e.run("state", "mark", url, "three").check(t, 0, "1 message marked")
	e.run("state", "mark", url, "nothing").check(t, exitUsage, `no message on the server has the unique-id "nothing"`)
	e.run("fetch", url, e.path("Maildir")).check(t, 0, "1 message fetched")
	export := e.run("state", "export", url).check(t, 0, "# pop3 state", "done one size=43", "end 4").stdout

	e.run("state", "forget", url, "one", "nothing").check(t, exitUsage, "nothing was forgotten")
	e.run("state", "forget", url, "one", "two").check(t, 0, "2 messages forgotten")
	e.run("fetch", url, e.path("Maildir")).check(t, 0, "2 messages fetched")
	e.run("state", "forget", "-all", url).check(t, 0, "4 messages forgotten")
	if err := os.WriteFile(e.path("export"), []byte(export), 0o600); err != nil {
		t.Fatal(err)
	}
	e.run("state", "import", url, e.path("export")).check(t, 0, "4 messages imported")
	e.run("fetch", url, e.path("Maildir")).check(t, 0, "0 messages fetched")

	a, stdout, _ := e.app()
	a.stdin = strings.NewReader(export)
	if status := a.run(t.Context(), []string{"state", "import", "-state", e.path("other"), url, "-"}); status != 0 || !strings.Contains(stdout.String(), "4 messages imported") {
		t.Errorf("from standard input: status %d, %q", status, stdout)
	}
	if err := os.WriteFile(e.path("export"), []byte(strings.TrimSuffix(export, "end 4\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	e.run("state", "import", url, e.path("export")).check(t, exitSink, "is missing")
	e.run("state", "import", url, e.path("none")).check(t, exitUsage, "no such file")
	e.run("state", "mark", url).check(t, 0, "0 messages marked")
}

// After a loss of the state, the names of the files show which messages were fetched.
func TestStateRebuild(t *testing.T) {
	onUnix(t)
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	url := "pop://user@" + srv.Addr
	for _, dest := range []string{"maildir:" + e.path("Maildir"), "eml:" + e.path("eml")} {
		e.run("fetch", "-max-messages", "3", url, dest).check(t, 0, "3 messages")
		if strings.HasPrefix(dest, "maildir") { // a reader has seen one of them
			entries, err := os.ReadDir(e.path("Maildir", "new"))
			if err != nil {
				t.Fatal(err)
			}
			name := entries[0].Name()
			if err := os.Rename(e.path("Maildir", "new", name), e.path("Maildir", "cur", name+":2,S")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(e.path(".local")); err != nil {
			t.Fatal(err)
		}
		e.run("state", "rebuild", url, dest).check(t, 0, "3 messages found")
		e.run("fetch", url, dest).check(t, 0, "1 message fetched")
		if err := os.RemoveAll(e.path(".local")); err != nil {
			t.Fatal(err)
		}
	}
	e.run("state", "rebuild", url).check(t, exitUsage, "a URL needs a DEST")
	e.run("state", "rebuild", url, "mbox:"+e.path("mbox")).check(t, exitUsage, "only a Maildir or a folder")
	e.run("state", "rebuild", url, e.path("none")).check(t, exitSink, "no such file")
	e.config(fmt.Sprintf("[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\n", srv.Addr, e.path("a")))
	e.run("fetch", "a").check(t, 0, "4 messages")
	e.run("state", "forget", "-all", "a").check(t, 0, "4 messages")
	e.run("state", "rebuild", "a").check(t, 0, "4 messages found")
}

// Users who migrate from another program do not fetch all messages again.
func TestStateImportForeign(t *testing.T) {
	onUnix(t)
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { withIDs(s, "one", "two", "three", "four") }, texts...)
	host, _, _ := strings.Cut(srv.Addr, ":")
	for program, state := range map[string]string{
		"mpop":      fmt.Sprintf("# comment\n 2 %s user\none\ntwo\n 1 other joe\nthree\n", host),
		"getmail":   "one\x001700000000\ntwo\x001700000001\n",
		"fetchmail": fmt.Sprintf("user@%s one\nuser@%s two\njoe@other three\n", host, host),
	} {
		url := "pop://user@" + srv.Addr
		dir := e.path(program)
		if err := os.WriteFile(e.path("file"), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		e.run("state", "import", "-state", dir, "-from", program, url, e.path("file")).check(t, 0, "2 messages imported")
		e.run("state", "import", "-state", dir, "-from", program, url, e.path("file")).check(t, exitUsage, "nothing new")
		e.run("fetch", "-state", dir, url, e.path("Maildir-"+program)).check(t, 0, "2 messages fetched")
	}
	// Messages that getmail fetched cannot be proven, so they are deleted only on demand.
	args := []string{"fetch", "-state", e.path("getmail"), "-delete-after", "1d", "pop://user@" + srv.Addr, e.path("Maildir-getmail")}
	e.run(args...).check(t, exitIncomplete, "2 not deleted", "hint: -delete-unproven")
	e.run(append([]string{"fetch", "-delete-unproven"}, args[1:]...)...).check(t, 0, "2 deleted")
}
