package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
)

var update = flag.Bool("update", false, "write the generated files")

// TestGenerated compares the manual page and the completions with the flags that they are made of.
func TestGenerated(t *testing.T) {
	onUnix(t)
	for name, text := range map[string]string{
		"pop3.1": manPage(), "completion/pop3.bash": bashCompletion(), "completion/_pop3": zshCompletion(), "completion/pop3.fish": fishCompletion(),
	} {
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Errorf("%s is not as generated: run go generate (%v)", name, err)
		}
	}
}

// The shells understand the completions, and man the manual page.
func TestGeneratedSyntax(t *testing.T) {
	for _, test := range [][]string{
		{"bash", "-n", "completion/pop3.bash"}, {"zsh", "-n", "completion/_pop3"}, {"fish", "--no-execute", "completion/pop3.fish"},
		{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "pop3.1"},
	} {
		if _, err := exec.LookPath(test[0]); err != nil {
			t.Logf("no %s", test[0])
			continue
		}
		cmd := exec.Command(test[0], test[1:]...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 {
			t.Errorf("%s: %v: %s", test[0], err, stderr.String())
		}
	}
}

func TestUsage(t *testing.T) {
	onUnix(t)
	e := newEnv(t)
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"", 2, "usage: pop3 VERB"},
		{"help", 0, "usage: pop3 VERB"},
		{"-h", 0, "usage: pop3 VERB"},
		{"--help", 0, "usage: pop3 VERB"},
		{"help fetch", 0, "-delete-after DURATION"},
		{"help state", 0, "usage: pop3 state forget [flags] URL | ACCOUNT [UNIQUE-ID...]"},
		{"help nothing", 2, "usage: pop3 VERB"},
		{"steal", 2, "usage: pop3 VERB"},
		{"state", 2, "usage: pop3 VERB"},
		{"demo -h", 0, "-keep"},
		{"demo extra", 2, "wrong number of arguments: 1\nhint: usage: pop3 demo [flags]"},
		{"demo -n 0", 2, "1 or more"},
		{"demo -n many", 2, "invalid value"},
		{"list", 2, "hint: usage: pop3 list [flags] URL | ACCOUNT"},
		{"fetch", 2, "there is no configuration"},
		{"fetch pops://joe@example.com", 2, "a URL needs one DEST"},
		{"fetch pops://joe:secret@example.com", 2, "a URL needs one DEST"},
		{"fetch pops://joe@example.com dir -delete", 2, "flags come before"},
		{"fetch pops://joe:secret@example.com dir", 2, "no password is taken from a URL"},
		{"fetch pop:joe:secret@example.com dir", 2, "a mailbox is pops://"},
		{`fetch pops://DOM\joe@example.com dir`, 2, `write \ as %5C`},
		{"fetch pops://joe@example.com imap://x", 2, "unknown kind of destination"},
		{"fetch -password=secret pops://joe@example.com dir", 2, "not defined"},
		{"fetch -proxy socks5://joe:secret@proxy pops://joe@example.com dir", 2, "no password is taken from the command line"},
		{"fetch -proxy http://joe:secret@proxy:x pops://joe@example.com dir", 2, "a proxy is"},
		{"fetch -delete-after soon pops://joe@example.com dir", 2, "is not a duration"},
		{"fetch -header-only pops://joe@example.com dir", 2, "-header-only needs -max-size"},
		{"fetch -key k pops://joe@example.com dir", 2, "-key needs -cert"},
		{"fetch -auth external pops://joe@example.com dir", 2, "-auth external needs -cert"},
		{"fetch -auth magic pops://joe@example.com dir", 2, "is not one of auto"},
		{"fetch -filter nonsense pops://joe@example.com dir", 2, "a rule is ACTION FIELD: REGEXP"},
		{"fetch -j -1 pops://joe@example.com dir", 2, "at least 1"},
		{"fetch -all-new=maybe pops://joe@example.com dir", 2, "-all-new=match is wanted"},
		{"fetch -insecure=maybe pops://joe@example.com dir", 2, "true or false"},
		{"watch -every 1ms pops://joe@example.com dir", 2, "at least one second"},
		{"state forget pops://joe@example.com", 2, "give unique-ids"},
		{"state show pops://joe@example.com", 2, "nothing is remembered"},
		{"state import -from outlook pops://joe@example.com -", 2, "mpop, getmail, or fetchmail is wanted"},
		{"completion tcsh", 2, "bash, zsh, or fish is wanted"},
		{"completion bash", 0, "complete -o filenames -F _pop3 pop3"},
		{"version", 0, "pop3 "},
	} {
		t.Run(test.args, func(t *testing.T) {
			e.run(strings.Fields(test.args)...).check(t, test.status, test.want)
		})
	}
	if entries, err := os.ReadDir("."); err != nil || len(entries) > 0 {
		t.Errorf("made %v, %v", entries, err)
	}
}

func TestVersionText(t *testing.T) {
	info := &debug.BuildInfo{
		Main: debug.Module{Version: "v0.1.0"}, Deps: []*debug.Module{{Path: libraryPath, Version: "v0.2.0"}, {Path: "other", Version: "v1"}},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}},
	}
	if got := versionText(info); !strings.HasPrefix(got, "pop3 v0.1.0 (0123456789ab, modified)\n"+libraryPath+" v0.2.0\ngo") {
		t.Errorf("%q", got)
	}
}

func TestExplain(t *testing.T) {
	refusal := &pop3.ServerError{Command: "PASS", Code: "AUTH", Text: "no"}
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: %w", fetch.ErrLogin, refusal), "login refused: PASS: -ERR [AUTH] no"},
		{fmt.Errorf("fetch: %w: %w", fetch.ErrServer, refusal), "server or network failed: PASS: -ERR [AUTH] no"},
		{errors.Join(refusal, refusal), "PASS: -ERR [AUTH] no\nPASS: -ERR [AUTH] no"},
	} {
		if got := explain(test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain ünï\tcode 🎉":      "plain ünï\tcode 🎉",
		"\x1b]0;title\x07":       `\x1b]0;title\x07`,
		"a\r\nb\x7f\x00":         `a\x0d\x0ab\x7f\x00`,
		"latin \xe9":             `latin \xe9`,
		"c1 \u009b31m":           `c1 \u009b31m`,
		"bidi \u202eevil\u2066.": `bidi \u202eevil\u2066.`,
		"real \uFFFD":            "real \uFFFD",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1 << 62: "4.6 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
