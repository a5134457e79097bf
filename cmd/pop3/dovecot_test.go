package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/dovecot"
)

// Several accounts of a real Dovecot are fetched once each, and then emptied.
func TestDovecot(t *testing.T) {
	srv := dovecot.Start(t, dovecot.Options{})
	e := newEnv(t)
	var configuration strings.Builder
	for n := 1; n <= 3; n++ {
		user := fmt.Sprintf("u%d", n)
		for i := range 10 * n {
			srv.Deliver(user, fmt.Sprintf("Subject: message %d of %s\n\nFrom dusk till dawn\n.\n", i, user))
		}
		host, port, _ := strings.Cut(srv.TLSAddr, ":")
		fmt.Fprintf(&configuration, "[%s]\nhost = %q\nport = %s\nuser = %q\npassword_command = \"echo %s\"\ndest = %q\n",
			user, host, port, user, srv.Password(user), "mbox:"+e.path(user))
	}
	e.config(configuration.String())
	run := func(args ...string) run {
		a, stdout, stderr := e.app()
		a.tls = srv.TLSConfig()
		a.tls.ServerName = ""
		status := a.run(t.Context(), args)
		return newRun(status, stdout, stderr)
	}
	run("check").check(t, 0, "3 accounts has no mistakes", "mailbox       30 messages", "TOP, ")
	run("fetch").check(t, 0, "u1: 10 messages fetched", "u2: 20 messages fetched", "u3: 30 messages fetched", "all: 60 messages fetched")
	run("fetch", "-per-host", "3", "-delete").check(t, 0, "all: 0 messages fetched, 0 B, 60 deleted")
	run("list", "u3").check(t, 0)
	for _, box := range contents(t, e.home) {
		if n := strings.Count(box, "\nSubject: message "); n != strings.Count(box, "\n>From dusk") || !slices.Contains([]int{10, 20, 30}, n) {
			t.Errorf("%d messages in %.200q", n, box)
		}
	}
}
