package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

func TestList(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { withIDs(s, "one", "two", "with blank \xe9", "four") }, texts...)
	url := "pop://user@" + srv.Addr
	e.run("fetch", "-max-messages", "2", url, e.path("Maildir")).check(t, 0, "2 messages")
	want := `1      43 B known    one              one
2      45 B known    two              two
3  150.0 kB new      with blank \xe9  three
4      57 B new      four             fünf
`
	if got := e.run("list", url).check(t, 0).stdout; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := e.run("list", "-subject=false", url).check(t, 0).stdout; strings.Contains(got, "fünf") || strings.Count(got, "\n") != 4 {
		t.Errorf("got\n%s", got)
	}
	if slices.ContainsFunc(srv.Commands(), func(s string) bool { return s == "RETR 3" || strings.HasPrefix(s, "DELE") }) {
		t.Errorf("commands %q", srv.Commands())
	}
	var last listed
	for line := range strings.Lines(e.run("list", "-json", url).check(t, 0).stdout) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatal(err)
		}
	}
	if last != (listed{Number: 4, Octets: 57, UID: "four", State: "new", Subject: "fünf", From: "joe@example.org"}) {
		t.Errorf("last %+v", last)
	}
}

func TestListDue(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	e.config(fmt.Sprintf("[a]\nurl = \"pop://user@%s\"\ndest = \"%s\"\ndelete_over = 3\n", srv.Addr, e.path("a")))
	e.run("fetch", "-delete-over", "4", "a").check(t, 0, "4 messages", "0 deleted")
	if got := e.run("list", "a").check(t, 0).stdout; !regexp.MustCompile(`(?m)^1 .* known  \* .*\n2 .* known    `).MatchString(got) {
		t.Errorf("got\n%s", got)
	}
}

// A server without TOP, and one that refuses it for a message, still have a list.
func TestListNoTop(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { s.Refuse = refuse("TOP", 2, "not this one") }, texts...)
	if got := e.run("list", "pop://user@"+srv.Addr).check(t, 0).stdout; !strings.Contains(got, "  one\n") || strings.Contains(got, "  two\n") || !strings.Contains(got, "  three\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestListFails(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { s.Password = "another" }, texts...)
	e.run("list", "pop://user@"+srv.Addr).check(t, exitLogin, "pop3 list: login refused: PASS")
	e.config("[a]\nurl = \"pops://a@b\"\ndest = \"-\"\n[b]\nurl = \"pops://a@b\"\ndest = \"-\"\n")
	e.run("list", "*").check(t, exitUsage, "2 accounts match; one is wanted")
	good := serve(t, nil, texts...)
	a, _, _ := e.app()
	a.stdout = failingWriter{}
	if status := a.run(t.Context(), []string{"list", "pop://user@" + good.Addr}); status == 0 {
		t.Error("a list that was not written is a success")
	}
}

func TestDecode(t *testing.T) {
	for field, want := range map[string]string{
		"plain":                       "plain",
		"=?koi8-r?B?8NLJ18XU?=":       "Привет",
		"=?windows-1252?q?=80_5?=":    "€ 5",
		"=?unknown?q?abc?=":           "=?unknown?q?abc?=",
		"=?utf-8?q?a?= =?utf-8?q?b?=": "ab",
	} {
		if got := decode(field); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}
