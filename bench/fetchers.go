package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The fetchers deliver to a Maildir what is new, keep it on the server, and remember it. The first is what the others
// are compared with.
var fetchers = []client{
	{name: "pop3 fetch", maildir: true, ordinary: true, command: fetchCommand, remember: fetchState},
	{name: "mpop", maildir: true, ordinary: true, pkg: "mpop", probe: []string{"mpop", "--version"}, command: mpop,
		remember: func(j job) error {
			return j.writeState("uidls", fmt.Sprintf(" %d %s user\n", len(j.uids), j.host), "%s\n")
		}},
	{name: "fetchmail", maildir: true, ordinary: true, idle: 1, pkg: "fetchmail procmail", probe: []string{"which", "fetchmail", "procmail"},
		command: fetchmailMaildir, remember: func(j job) error {
			return j.writeState("fetchids", "", "user@"+j.host+" %s\n")
		}},
	{name: "getmail6", maildir: true, ordinary: true, pkg: "getmail6", probe: []string{python, getmailFile, "--version"}, command: getmail,
		remember: func(j job) error {
			return j.writeState("oldmail-"+j.host+"-"+j.port+"-user", "", "%s\x001767225600\n")
		}},
	{name: "fdm", maildir: true, ordinary: true, pkg: "fdm", probe: []string{"which", "fdm"}, command: fdm,
		remember: func(j job) error {
			return j.writeState("cache", "", fmt.Sprint(len(j.uids[0]))+" %s\n")
		}},
	{name: "bare UIDL and LIST", limit: true, lists: true, command: ours("listings")},
}

const getmailFile = "/usr/bin/getmail"

// cases returns the maildrops for the fetchers.
func (b *bench) cases() []column {
	unit, size := shapes[0].unit, 4<<10
	return []column{
		{name: grouped(20*b.count) + " new", unit: unit, size: size, count: 20 * b.count},
		{name: grouped(2*b.count) + " new", unit: unit, size: size, count: 2 * b.count},
		{name: grouped(b.count) + " new, 20 ms", unit: unit, size: size, count: b.count, latency: 20 * time.Millisecond},
		{name: fmt.Sprintf("1 new of %d MiB", b.size), unit: unit, size: b.size << 20, count: 1},
		{name: grouped(100*b.count) + " old", unit: unit, size: size, count: 100 * b.count, old: true},
		{name: grouped(600*b.count) + " old", unit: unit, size: size, count: 600 * b.count, old: true},
	}
}

// grouped formats n with a comma before the thousands.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// buildCommand builds this project's command in dir, and returns its file, whose name has the suffix that Windows needs.
func buildCommand(dir string) (string, error) {
	file := filepath.Join(dir, "pop3.exe")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", file, "github.com/seed-5b1d5243/pop3/cmd/pop3").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return file, nil
}

func (j *job) pop3Command(verb ...string) *exec.Cmd {
	args := append(verb, "-insecure", "-state", filepath.Join(j.dir, "state"), "pop://user@"+net.JoinHostPort(j.host, j.port))
	cmd := exec.Command(j.pop3, args...)
	cmd.Env = append(os.Environ(), "HOME="+j.dir, "POP3_PASSWORD=secret")
	return cmd
}

func fetchCommand(j job) (*exec.Cmd, error) {
	cmd := j.pop3Command("fetch")
	cmd.Args = append(cmd.Args, j.mail())
	return cmd, nil
}

// fetchState asks the server for the messages, and marks them as fetched.
func fetchState(j job) error {
	out, err := j.pop3Command("state", "mark").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// writeState writes a state file with a head and a line for each unique-id.
func (j *job) writeState(name, head, line string) error {
	text := []byte(head)
	for _, uid := range j.uids {
		text = fmt.Appendf(text, line, uid)
	}
	_, err := j.write(name, string(text))
	return err
}

// fetchmailMaildir is fetchmail with procmail, since it cannot deliver to a Maildir by itself.
func fetchmailMaildir(j job) (*exec.Cmd, error) {
	rules, err := j.write("procmailrc", fmt.Sprintf("LOGFILE=\nDEFAULT=%[1]s/\nORGMAIL=%[1]s/\n", j.mail()))
	if err != nil {
		return nil, err
	}
	cmd, err := runFetchmail(j, "protocol pop3 uidl", "", "procmail -m "+rules)
	if err == nil {
		cmd.Args = append(cmd.Args, "--idfile", filepath.Join(j.dir, "fetchids"))
	}
	return cmd, err
}

func getmail(j job) (*exec.Cmd, error) {
	config, err := j.write("getmailrc", strings.Join([]string{
		"[retriever]", "type = SimplePOP3Retriever", "server = " + j.host, "port = " + j.port, "username = user", "password = secret",
		"[destination]", "type = Maildir", "path = " + j.mail() + "/",
		"[options]", "read_all = false", "delete = false", "verbose = 0", "",
	}, "\n"))
	cmd := exec.Command(python, getmailFile, "--getmaildir", j.dir, "--rcfile", config)
	cmd.Env = append(os.Environ(), "HOME="+j.dir)
	return cmd, err
}

func fdm(j job) (*exec.Cmd, error) {
	config, err := j.write("fdm.conf", fmt.Sprintf("set maximum-size 1G\nset lock-file %q\n"+
		"account \"a\" pop3 server %q port %s user \"user\" pass \"secret\" new-only cache %q keep\n"+
		"action \"a\" maildir %q\nmatch all action \"a\"\n", filepath.Join(j.dir, "lock"), j.host, j.port, filepath.Join(j.dir, "cache"), j.mail()))
	cmd := exec.Command("fdm", "-q", "-f", config, "fetch")
	cmd.Env = append(os.Environ(), "HOME="+j.dir, "TMPDIR="+j.dir)
	return cmd, err
}
