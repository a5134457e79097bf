package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func TestFetch(t *testing.T) {
	for _, scheme := range []string{"pops", "pop"} {
		t.Run(scheme, func(t *testing.T) {
			e := newEnv(t)
			srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
			srv.User = "joe@example.com"
			srv.LoginRequiresTLS = true
			if scheme == "pops" {
				srv.StartTLS()
			} else {
				srv.Start()
			}
			defer srv.Close()
			dir := e.path("Maildir")
			url := scheme + "://joe%40example.com@" + srv.Addr
			r := e.run("fetch", url, dir).check(t, 0, "4 messages fetched, ", "0 deleted")
			if r.stderr != "" {
				t.Errorf("stderr %q", r.stderr)
			}
			for range 2 { // the second time nothing is new
				if got := delivered(t, dir); !slices.Equal(got, lf(texts...)) {
					t.Errorf("delivered %.200q", got)
				}
				e.run("fetch", url, dir).check(t, 0, "0 messages fetched, 0 B, 0 deleted")
			}
			if got := srv.Deleted(); got != nil {
				t.Errorf("deleted %q", got)
			}
			e.run("fetch", "-delete", url, dir).check(t, 0, "0 messages fetched", "4 deleted")
			if got := srv.Remaining(); len(got) > 0 {
				t.Errorf("remaining %q", got)
			}
			e.run("fetch", "-delete", url, dir).check(t, 0, "0 messages fetched, 0 B, 0 deleted")
			if got := delivered(t, dir); !slices.Equal(got, lf(texts...)) {
				t.Errorf("delivered %.200q", got)
			}
		})
	}
}

// The state is in its directory, with no access for others.
func TestFetchState(t *testing.T) {
	onUnix(t)
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	url := "pop://user@" + srv.Addr
	name := boltstore.FileName("user@" + srv.Addr)
	e.run("fetch", url, e.path("a")).check(t, 0, "4 messages")
	e.vars["XDG_STATE_HOME"] = e.path("xdg")
	e.run("fetch", url, e.path("b")).check(t, 0, "4 messages")
	e.run("fetch", "-state", e.path("flag"), url, e.path("c")).check(t, 0, "4 messages")
	for _, file := range []string{e.path(".local", "state", "pop3", name), e.path("xdg", "pop3", name), e.path("flag", name)} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

func TestFetchDests(t *testing.T) {
	onUnix(t)
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	n := 0
	fetchTo := func(flags []string, dest string) run {
		n++
		args := append([]string{"fetch", "-state", e.path(fmt.Sprint("state", n))}, flags...)
		return e.run(append(args, "pop://user@"+srv.Addr, dest)...)
	}
	fetchTo(nil, "eml:"+e.path("eml")).check(t, 0, "4 messages")
	if got := contents(t, e.path("eml")); !slices.Equal(got, slices.Sorted(slices.Values(texts))) {
		t.Errorf("eml %.300q", got)
	}
	fetchTo([]string{"-crlf"}, "maildir:"+e.path("crlf")).check(t, 0, "4 messages")
	if got := delivered(t, e.path("crlf")); !slices.Equal(got, slices.Sorted(slices.Values(texts))) {
		t.Errorf("Maildir with CRLF %.300q", got)
	}
	fetchTo(nil, "mbox:"+e.path("mbox")).check(t, 0, "4 messages")
	if got := contents(t, e.home); !slices.ContainsFunc(got, func(s string) bool { return strings.Count(s, "\nFrom ") == 3 }) {
		t.Errorf("mbox %.300q", got)
	}
	fetchTo([]string{"-received"}, e.path("received")).check(t, 0, "4 messages")
	if got := delivered(t, e.path("received")); !strings.HasPrefix(got[0], "Delivered-To: user\nReceived: from 127.0.0.1\n\tby ") {
		t.Errorf("received %.300q", got)
	}
	fetchTo(nil, "pipe:cat >>"+e.path("piped")).check(t, 0, "4 messages")
	if got, err := os.ReadFile(e.path("piped")); err != nil || string(got) != strings.ReplaceAll(strings.Join(texts, ""), "\r\n", "\n") {
		t.Errorf("piped %.300q, %v", got, err)
	}
	r := fetchTo(nil, "-").check(t, 0, "4 messages")
	if strings.Count(r.stdout, "From MAILER-DAEMON ") != 4 || strings.Contains(r.stdout, "4 messages") {
		t.Errorf("stdout %.300q", r.stdout)
	}
	s := &mailServer{}
	m := serveMail(t, s, config.SMTP, config.TLSNone)
	fetchTo(nil, "smtp://"+m.dest.Addr+"?to=joe@example.org").check(t, 0, "4 messages")
	if len(s.received) != 4 || !strings.HasPrefix(s.received[0], "joe@example.org joe@example.org\nSubject: one\r\n") {
		t.Errorf("received %.300q", s.received)
	}
}

// Messages that a destination refuses remain on the server, and are reported once by name.
func TestFetchRefusedByDest(t *testing.T) {
	onUnix(t)
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	url := "pop://user@" + srv.Addr
	dest := "pipe:if grep -q '^Subject: two'; then echo 'no such user'; exit 67; fi"
	r := e.run("fetch", "-delete", url, dest).check(t, 1, "3 messages fetched", "3 deleted", "1 refused", "pop3 fetch: message 2 (", "exit status 67: no such user")
	if n := strings.Count(r.stderr, "no such user"); n != 1 {
		t.Errorf("said %d times: %q", n, r.stderr)
	}
	if got := srv.Remaining(); len(got) != 1 {
		t.Errorf("remaining %q", got)
	}
	e.run("fetch", "-delete", url, dest).check(t, 0, "0 messages fetched")
	e.run("list", url).check(t, 0, "refused", "no such user")
	e.run("state", "forget", "-refused", url).check(t, 0, "1 message forgotten")
	e.run("fetch", "-delete", url, "pipe:exit 75").check(t, 1, "1 left", "exit status 75")
	e.run("fetch", "-delete", url, "pipe:true").check(t, 0, "1 message fetched", "1 deleted")
	if got := srv.Remaining(); len(got) != 0 {
		t.Errorf("remaining %q", got)
	}
}

// Messages that the server refuses remain there, and the others are fetched and deleted.
func TestFetchRefused(t *testing.T) {
	for verb, fetched := range map[string][]string{"RETR": {texts[0], texts[2], texts[3]}, "DELE": texts} {
		t.Run(verb, func(t *testing.T) {
			e := newEnv(t)
			srv := serve(t, func(s *pop3test.Server) { s.Refuse = refuse(verb, 2, "[SYS/TEMP] not \x1b[31mnow") }, texts...)
			uid := srv.Remaining()[1]
			r := e.run("fetch", "-delete", "pop://user@"+srv.Addr, e.path("Maildir")).
				check(t, 1, verb+" 2: -ERR [SYS/TEMP] not \\x1b[31mnow", "3 deleted")
			if n := strings.Count(r.stderr, "not \\x1b"); n != 1 {
				t.Errorf("said %d times: %q", n, r.stderr)
			}
			if got := delivered(t, e.path("Maildir")); !slices.Equal(got, lf(fetched...)) {
				t.Errorf("delivered %.200q", got)
			}
			if got := srv.Remaining(); !slices.Equal(got, []string{uid}) {
				t.Errorf("remaining %q, want %q", got, uid)
			}
		})
	}
}

func TestFetchFails(t *testing.T) {
	onUnix(t)
	write := func(e *env, text string, name ...string) {
		path := e.path(name...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			e.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			e.Fatal(err)
		}
	}
	type hook = func(e *env, srv *pop3test.Server)
	for name, test := range map[string]struct {
		before  hook // before the server starts
		started hook
		status  int
		want    string
	}{
		"wrong password": {nil, func(e *env, _ *pop3test.Server) { e.vars["POP3_PASSWORD"] = "wrong" }, exitLogin, "login refused: PASS"},
		"no password":    {nil, func(e *env, _ *pop3test.Server) { e.vars["POP3_PASSWORD"] = "" }, exitUsage, "no password: set POP3_PASSWORD"},
		"busy":           {func(_ *env, s *pop3test.Server) { s.Refuse = refuse("PASS", 1, "[IN-USE] locked") }, nil, exitServer, "[IN-USE] locked"},
		"no server":      {nil, func(_ *env, s *pop3test.Server) { s.Close() }, exitServer, "connection refused"},
		"no UIDL": {func(_ *env, s *pop3test.Server) {
			s.NoCAPA = true
			s.Refuse = func(verb string, _ int) string {
				if verb == "UIDL" {
					return "unknown command"
				}
				return ""
			}
		}, nil, exitUsage, "hint: -delete"},
		"no Maildir": {func(e *env, _ *pop3test.Server) { write(e, "", "Maildir") }, nil, exitSink, "not a directory"},
		"damaged state": {nil, func(e *env, s *pop3test.Server) {
			write(e, "garbage", ".local", "state", "pop3", boltstore.FileName("user@"+s.Addr))
		}, exitSink, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			srv := serve(t, func(s *pop3test.Server) {
				if test.before != nil {
					test.before(e, s)
				}
			}, texts...)
			if test.started != nil {
				test.started(e, srv)
			}
			e.run("fetch", "-insecure", "pop://user@"+srv.Addr, e.path("Maildir")).check(t, test.status, test.want)
			if got := srv.Deleted(); got != nil {
				t.Errorf("deleted %q", got)
			}
		})
	}
}

func TestFetchLocked(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	name := "user@" + srv.Addr
	store, err := boltstore.Open(e.path(".local", "state", "pop3", boltstore.FileName(name)), name)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	e.run("fetch", "pop://"+name, e.path("Maildir")).check(t, exitLocked, "locked by another run", "hint: ")
	e.run("list", "pop://"+name).check(t, 0, "unknown", "another run has the state")
	if got := srv.Commands(); slices.Contains(got, "RETR 1") {
		t.Errorf("commands %q", got)
	}
}

// An interrupt ends the run after the batch in hand.
func TestFetchInterrupted(t *testing.T) {
	e := newEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	srv := serve(t, func(s *pop3test.Server) { s.Refuse = before("RETR", 3, cancel) }, texts...)
	url := "pop://user@" + srv.Addr
	e.runContext(ctx, "fetch", "-delete", url, e.path("Maildir")).check(t, exitInterrupted, "interrupted")
	before := len(delivered(t, e.path("Maildir")))
	if got := len(srv.Deleted()); got > before {
		t.Errorf("%d deleted, %d delivered", got, before)
	}
	e.run("fetch", "-delete", url, e.path("Maildir")).check(t, 0)
	if got := delivered(t, e.path("Maildir")); !slices.Equal(got, lf(texts...)) || len(srv.Remaining()) > 0 {
		t.Errorf("delivered %d, remaining %q", len(got), srv.Remaining())
	}
}

// A reader of the output that is gone does not stop the fetch.
func TestFetchClosedOutput(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	a, _, _ := e.app()
	a.stdout, a.stderr = failingWriter{}, failingWriter{}
	if status := a.run(t.Context(), []string{"fetch", "-v", "-delete", "pop://user@" + srv.Addr, e.path("Maildir")}); status != 0 {
		t.Errorf("status %d", status)
	}
	if got := delivered(t, e.path("Maildir")); len(got) != 4 || len(srv.Remaining()) > 0 {
		t.Errorf("delivered %d, remaining %q", len(got), srv.Remaining())
	}
	a.stdout = failingWriter{}
	if status := a.run(t.Context(), []string{"fetch", "-state", e.path("other"), "pop://user@" + serve(t, nil, texts...).Addr, "-"}); status != exitSink {
		t.Errorf("messages to a closed standard output: status %d", status)
	}
}

func TestFetchInsecure(t *testing.T) {
	for name, test := range map[string]struct {
		insecure, stls, apop bool
		status               int
		want                 string
		first                []string // commands
	}{
		"no STLS":           {false, false, false, exitServer, "hint: a pops:// URL may work; -insecure", []string{"CAPA"}},
		"no STLS, APOP":     {false, false, true, exitServer, "-insecure", []string{"CAPA"}},
		"insecure":          {true, false, false, 0, "warning: the server does not offer STLS", []string{"CAPA", "USER user", "PASS secret"}},
		"insecure, STLS":    {true, true, false, 0, "4 messages", []string{"CAPA", "STLS", "CAPA", "USER user"}},
		"insecure and both": {true, true, true, 0, "4 messages", []string{"CAPA", "STLS", "CAPA", "USER user"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			srv := serve(t, func(s *pop3test.Server) { s.STLS, s.APOP = test.stls, test.apop }, texts...)
			args := []string{"fetch", "pop://user@" + srv.Addr, e.path("Maildir")}
			if test.insecure {
				args = slices.Insert(args, 1, "-insecure")
			}
			r := e.run(args...).check(t, test.status, test.want)
			if warned := strings.Contains(r.stderr, "warning"); warned != (test.insecure && !test.stls) {
				t.Errorf("stderr %q", r.stderr)
			}
			got := srv.Commands()
			if !slices.Equal(got[:min(len(got), len(test.first))], test.first) || test.status != 0 && len(got) != len(test.first) {
				t.Errorf("commands %q, want first %q", got, test.first)
			}
		})
	}
}

// A certificate that nothing vouches for ends the session before the password, and the hint makes it work.
func TestFetchDistrusts(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	a, _, stderr := e.app()
	a.tls = nil
	url := "pop://user@" + srv.Addr
	for _, flag := range []string{"-insecure", "-insecure=false"} {
		if status := a.run(t.Context(), []string{"fetch", flag, url, e.path("Maildir")}); status != exitServer {
			t.Errorf("%s: status %d, stderr %q", flag, status, stderr)
		}
	}
	for _, command := range srv.Commands() {
		if command != "CAPA" && command != "STLS" {
			t.Errorf("command %q", command)
		}
	}
	_, rest, _ := strings.Cut(stderr.String(), "use -pin ")
	pin, _, _ := strings.Cut(rest, ",")
	if status := a.run(t.Context(), []string{"fetch", "-pin", pin, url, e.path("Maildir")}); status != 0 {
		t.Errorf("with -pin %q: status %d, stderr %q", pin, status, stderr)
	}
	wrong := pin[:len(pin)-1] + map[bool]string{true: "1", false: "0"}[strings.HasSuffix(pin, "0")]
	if status := a.run(t.Context(), []string{"fetch", "-pin", wrong, url, e.path("Maildir")}); status != exitServer ||
		!strings.Contains(stderr.String(), "another fingerprint") {
		t.Errorf("with a wrong pin: status %d, stderr %q", status, stderr)
	}
}

func TestFetchPolicies(t *testing.T) {
	for name, test := range map[string]struct {
		flags []string
		want  string
		left  int
	}{
		"delete over":  {[]string{"-delete-over", "1"}, "4 messages fetched, 150.2 kB, 3 deleted", 1},
		"delete after": {[]string{"-delete-after", "14d"}, "4 messages fetched, 150.2 kB, 0 deleted", 4},
		"max messages": {[]string{"-max-messages", "2"}, "2 messages fetched", 4},
		"max size":     {[]string{"-max-size", "1k"}, "3 messages fetched, 145 B, 0 deleted, 1 skipped", 4},
		"headers":      {[]string{"-max-size", "1k", "-header-only"}, "1 of the header only", 4},
		"max total":    {[]string{"-max-total", "100"}, "2 messages fetched", 4},
		"filter":       {[]string{"-filter", "skip Subject: ^one$", "-filter", "delete subject: FÜNF", "-filter", "skip From: joe"}, "2 messages fetched, 150.1 kB, 1 deleted, 1 skipped", 3},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			srv := serve(t, nil, texts...)
			args := append([]string{"fetch"}, test.flags...)
			e.run(append(args, "pop://user@"+srv.Addr, e.path("Maildir"))...).check(t, 0, test.want)
			if got := srv.Remaining(); len(got) != test.left {
				t.Errorf("%d messages left, want %d", len(got), test.left)
			}
		})
	}
}

func TestFetchPlan(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	url := "pop://user@" + srv.Addr
	r := e.run("fetch", "-n", "-max-size", "1k", "-delete", url, e.path("Maildir")).check(t, 0, "fetch and delete message 1 (", "skip message 3 (")
	if _, err := os.Stat(e.path("Maildir")); !errors.Is(err, os.ErrNotExist) || strings.Count(r.stdout, "\n") != 4 {
		t.Errorf("Maildir: %v; stdout %q", err, r.stdout)
	}
	if _, err := os.Stat(e.path(".local")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a state was made: %v", err)
	}
	if got := srv.Deleted(); got != nil {
		t.Errorf("deleted %q", got)
	}
}

// All unique-ids are new: nothing is fetched unless the user wants it.
func TestFetchAllNew(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { withIDs(s, "a", "b", "c", "d") }, texts...)
	url := "pop://user@" + srv.Addr
	e.run("fetch", url, e.path("Maildir")).check(t, 0, "4 messages")
	srv.Maildrop.(*mutable).ids = []string{"e", "f", "g", "h"}
	e.run("fetch", url, e.path("Maildir")).check(t, exitIncomplete, "all unique-ids are new", "hint: -all-new")
	if got := delivered(t, e.path("Maildir")); len(got) != 4 {
		t.Errorf("%d delivered", len(got))
	}
	e.run("fetch", "-all-new=match", url, e.path("Maildir")).check(t, 0, "0 messages fetched")
	srv.Maildrop.(*mutable).ids = []string{"i", "j", "k", "l"}
	e.run("fetch", "-all-new", url, e.path("Maildir")).check(t, 0, "4 messages fetched")
}

func TestFetchJSON(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { s.Refuse = refuse("RETR", 2, "not now") }, texts...)
	r := e.run("fetch", "-json", "-delete", "pop://user@"+srv.Addr, e.path("Maildir")).check(t, exitIncomplete)
	if r.stderr != "" {
		t.Errorf("stderr %q", r.stderr)
	}
	types := make(map[string]int)
	var last event
	for line := range strings.Lines(r.stdout) {
		var ev event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, err := time.Parse(time.RFC3339Nano, ev.Time); err != nil {
			t.Error(err)
		}
		types[ev.Type]++
		last = ev
	}
	want := map[string]int{"connecting": 1, "connected": 1, "planned": 1, "fetched": 3, "left": 1, "deleted": 3, "account": 1, "summary": 1}
	if fmt.Sprint(types) != fmt.Sprint(want) {
		t.Errorf("events %v, want %v", types, want)
	}
	if last.Type != "summary" || last.Fetched != 3 || last.Left != 1 || last.Status == nil || *last.Status != 1 {
		t.Errorf("last event %+v", last)
	}
}

func TestFetchQuiet(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, nil, texts...)
	if r := e.run("fetch", "-q", "pop://user@"+srv.Addr, e.path("Maildir")).check(t, 0); r.stdout+r.stderr != "" {
		t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
	}
	e.run("fetch", "-v", "-state", e.path("s"), "pop://user@"+srv.Addr, e.path("Maildir")).check(t, 0, "connected\n", "4 messages to fetch, 150.2 kB\n", "fetched message 4 (")
	e.run("fetch", "-debug", "-state", e.path("u"), "pop://user@"+srv.Addr, e.path("Maildir")).check(t, 0, "C: UIDL\n", "S: +OK")
}

// A connection that is lost in the middle is opened again.
func TestFetchReconnects(t *testing.T) {
	e := newEnv(t)
	srv := serve(t, func(s *pop3test.Server) { s.Refuse = before("RETR", 3, s.CloseClientConnections) }, texts...)
	e.run("fetch", "pop://user@"+srv.Addr, e.path("Maildir")).check(t, 0, "4 messages fetched", "connection lost")
	if got := delivered(t, e.path("Maildir")); !slices.Equal(got, lf(texts...)) {
		t.Errorf("delivered %d", len(got))
	}
}

func TestFilter(t *testing.T) {
	rules := func(texts ...string) (rules []config.Rule) {
		for _, text := range texts {
			r, err := config.ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			rules = append(rules, r)
		}
		return rules
	}
	header := "Subject: =?iso-8859-1?q?caf=E9?=\r\nX-Spam: no\r\nX-Spam: YES\r\nbroken line\r\n and its fold\r\n" +
		"X-Raw: \x1b$B\x1b(B\r\nTo: joe\r\nX-Cp: =?windows-1252?q?=80?=\r\nX-Folded:\r\n a\r\n\t\r\n\tb\r\n\r\n"
	for _, test := range []struct {
		rules []config.Rule
		want  fetch.Action
	}{
		{rules("delete X-Spam: yes"), fetch.ActionDelete},
		{rules("keep Subject: café$", "delete X-Spam: yes"), fetch.ActionFetch},
		{rules("skip Subject: ^caf.$"), fetch.ActionSkip},
		{rules("delete To: joe"), fetch.ActionDelete}, // after the broken line
		{rules("keep To: joe", "delete X-Spam: yes"), fetch.ActionFetch},
		{rules("keep X-Folded: ^a b$", "delete X-Spam: yes"), fetch.ActionFetch},
		{rules("keep X-Cp: ^€$", "delete X-Spam: yes"), fetch.ActionFetch},
		{rules("delete X-None: "), fetch.ActionFetch},
	} {
		if got := filter(test.rules, []byte(header)); got != test.want {
			t.Errorf("%v: %v, want %v", test.rules, got, test.want)
		}
	}
}

func TestWorst(t *testing.T) {
	for _, test := range [][3]int{{0, 0, 0}, {0, 4, 4}, {4, 3, 3}, {1, 6, 6}, {130, 2, 130}, {2, 3, 2}, {5, 4, 5}, {1, 0, 1}} {
		if got := worst(test[0], test[1]); got != test[2] {
			t.Errorf("worst of %d and %d is %d", test[0], test[1], got)
		}
	}
}
