package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

func TestCheck(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { s.Caps = []string{"LOGIN-DELAY 900", "EXPIRE 30"}; s.Pipelining = false }, texts...)
	e.run("check", "pop://user@"+srv.Addr).check(t, 0, "connected     in ", "TLS 1.3, ", "certificate   localhost, issued by CN=pop3test",
		"valid until   2100-01-01, in ", "fingerprint   sha256:", "login         accepted", "capabilities  ", "UIDL", "mailbox       4 messages, 150.2 kB",
		"round trip    ", "advice        TLS from the first byte", "no PIPELINING", "900 s between logins", "after 30 days")
	for _, command := range srv.Commands() {
		if verb, _, _ := strings.Cut(command, " "); verb == "RETR" || verb == "DELE" {
			t.Errorf("command %q", command)
		}
	}
}

func TestCheckConfig(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	e.config(fmt.Sprintf("[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\npasword = \"x\"\nkeep = 3\n[b]\nurl = \"pop://user@%s\"\n", srv.Addr, e.path("a"), srv.Addr))
	r := e.run("check").check(t, exitUsage, `config.toml:4: a: unknown key "pasword" (did you mean "password"?)`, "config.toml:5: a: keep: true or false is wanted", "config.toml:6: b: dest is missing")
	if lines := strings.Split(strings.TrimSpace(r.stderr), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], "pop3 check: ") {
		t.Errorf("stderr %q", r.stderr)
	}
	e.config(fmt.Sprintf("[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\n[b]\nurl = \"pop://user@%s\"\ndest = \"%s\"\nca_file = \"%s\"\n",
		srv.Addr, e.path("a"), srv.Addr, e.path("none", "b"), e.path("none")))
	e.run("check").check(t, exitUsage, "line 4: b: CA file: open ", "line 4: b: dest: stat ")
	if len(srv.Commands()) > 0 {
		t.Errorf("commands %q", srv.Commands())
	}
	e.config(fmt.Sprintf("[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\npassword = \"secret\"\n[b]\nurl = \"pop://user@%s\"\ndest = \"-\"\npassword_command = \"echo wrong\"\n",
		srv.Addr, e.path("a"), srv.Addr))
	r = e.run("check").check(t, exitLogin, "2 accounts has no mistakes", "\na\n", "\nb\n", "login refused", "password_command or keyring keeps it elsewhere")
	if strings.Index(r.stdout, "\nb\n") < strings.Index(r.stdout, "round trip") {
		t.Errorf("stdout %q", r.stdout)
	}
	before := len(srv.Commands())
	e.run("check", "-offline").check(t, 0, "no mistakes")
	if len(srv.Commands()) != before {
		t.Errorf("commands %q", srv.Commands()[before:])
	}
}

// The certificate that is not trusted is shown.
func TestCheckDistrusts(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	a, stdout, stderr := e.app()
	a.tls = nil
	status := a.run(t.Context(), []string{"check", "pop://user@" + srv.Addr})
	if status != exitServer || !strings.Contains(stdout.String(), "fingerprint   sha256:") || !strings.Contains(stderr.String(), "hint: ") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	if slices.Contains(srv.Commands(), "USER user") {
		t.Errorf("commands %q", srv.Commands())
	}
}

func TestCheckAdvice(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) {
		s.STLS = false
		s.Refuse = func(verb string, _ int) string {
			if verb == "UIDL" {
				return "no such command"
			}
			return ""
		}
	}, texts...)
	e.run("check", "-insecure", "pop://user@"+srv.Addr).check(t, 0, "not encrypted", "everyone on the network path", "unique-ids    none: no such command", "no_uidl = true")
	same := serve(t, func(s *pop3test.Server) { withIDs(s, "a", "a", "b", "a") }, texts...)
	e.run("check", "pop://user@"+same.Addr).check(t, 0, "2 messages share one")
}
