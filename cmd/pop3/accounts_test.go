package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func TestFetchAccounts(t *testing.T) {
	e := newEnv(t)
	good := serve(t, nil, texts...)
	bad := serve(t, func(s *pop3test.Server) { s.Password = "another" }, texts...)
	closed := serve(t, nil)
	closed.Close()
	e.config(fmt.Sprintf(`
[defaults]
password_command = "echo secret"

[one]
url = "pop://user@%s"
dest = "%s"
on_new = "echo $POP3_ACCOUNT $POP3_NEW ${POP3_PASSWORD-unset} >>%s"

[two]
url = "pop://user@%s"
dest = "%s"
keep = false

[bad]
url = "pop://user@%s"
dest = "%s"

[gone]
url = "pop://user@%s"
dest = "%s"
`, good.Addr, e.path("one"), e.path("new"), good.Addr, e.path("two"), bad.Addr, e.path("bad"), closed.Addr, e.path("gone")))
	for range 2 {
		e.run("fetch", "one").check(t, 0, "one: ")
	}
	if got, err := os.ReadFile(e.path("new")); err != nil || string(got) != "one 4 unset\n" {
		t.Errorf("on_new: %q, %v", got, err)
	}
	e.run("fetch", "t*").check(t, 0, "two: 4 messages fetched, 150.2 kB, 4 deleted")
	r := e.run("fetch").check(t, exitLogin, "one: 0 messages fetched", "pop3 fetch: bad: login refused", "pop3 fetch: gone: server or network failed", "all: 0 messages")
	if strings.Contains(r.stdout, "bad: ") {
		t.Errorf("stdout %q", r.stdout)
	}
	e.run("fetch", "gone", "one").check(t, exitServer)
	e.run("fetch", "none").check(t, exitUsage, `no account "none" in `)
	e.run("fetch", "a:secret").check(t, exitUsage, "no such account")
	e.run("fetch", "-auth", "xoauth2", "one").check(t, exitUsage, "token_command")
	e.run("fetch", "-config", e.path("none"), "one").check(t, exitUsage, "no such file")
	for _, name := range []string{"one", "two"} {
		if got := delivered(t, e.path(name)); len(got) != 4 {
			t.Errorf("%s: %d messages", name, len(got))
		}
	}
}

// POP3_PASSWORD is for one account; several accounts must not get each other's.
func TestFetchPasswordOfOne(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	e.config(fmt.Sprintf("[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\n[b]\nurl = \"pop://user@%s\"\ndest = \"%s\"\n", srv.Addr, e.path("a"), srv.Addr, e.path("b")))
	e.run("fetch", "a").check(t, 0)
	e.run("fetch").check(t, exitUsage, "no password")
}

// Two accounts on one host are fetched one after the other, unless configured otherwise. Accounts on other hosts do not
// wait for them.
func TestFetchSlots(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	newRunner := func(perHost int64, jobs int) *runner {
		e := newEnv(t)
		a, _, _ := e.app()
		f := &runFlags{jobs: jobs, perHost: int(perHost)}
		r, err := a.newRunner(t.Context(), "fetch", f, []string{"pop://user@" + listener.Addr().String(), e.path("x")})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one, two, other := &config.Account{Mailbox: config.Mailbox{Host: "h"}}, &config.Account{Mailbox: config.Mailbox{Host: "h"}}, &config.Account{Mailbox: config.Mailbox{Host: "i"}}
	taken := func(r *runner, a *config.Account) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		release, err := r.slot(ctx, a)
		if err == nil {
			t.Cleanup(release)
		}
		return err == nil
	}
	r := newRunner(0, 0)
	if !taken(r, one) || taken(r, two) || !taken(r, other) {
		t.Error("by default one account a host")
	}
	r = newRunner(2, 0)
	if !taken(r, one) || !taken(r, two) {
		t.Error("-per-host 2")
	}
	r = newRunner(2, 1)
	if !taken(r, one) || taken(r, other) {
		t.Error("-j 1")
	}
	// An account that is canceled while it waits for a job releases its host.
	r = newRunner(1, 1)
	release, err := r.slot(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if taken(r, other) {
		t.Error("-j 1, another host")
	}
	release()
	if !taken(r, other) {
		t.Error("a host is not given back")
	}
}
