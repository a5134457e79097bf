package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// write writes a configuration file with a mode.
func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // in spite of the umask
		t.Fatal(err)
	}
	return name
}

func TestLoad(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	t.Setenv("HOME", "/home/joe")
	c, err := Load(write(t, `
jobs = 3
per_host = 2
state_dir = "~/state"

[defaults]
password_command = "pass mail"
timeout = "30s"
delete_after = "14d"
filter = ['skip subject: ^\[list\]']

[work]
url = "pops://joe%40example.org@pop.example.org"
dest = "~/Maildir"

["joe@home"]
host = "pop.example.net"
user = 'DOMAIN\joe'
token_command = ["~/bin/token", "joe"]
auth = "XOAUTH2"
dest = "lmtp:///run/lmtp?to=joe"
keep = false
max_size = "10M"
header_only = true
max_total = 1000
pin = ["sha256:`+strings.Repeat("ab", 32)+`"]
filter = ["keep X: y", "delete X-Spam: yes"]

[local]
url = "pop://joe@localhost:1110"
insecure = true
dest = "pipe:cat > /dev/null"
keyring = true
interval = "1m"
on_new = "true"
crlf = true

[cloud]
url = "pops://joe@cloud.example"
dest = "-"
[cloud.oauth]
provider = "microsoft"
client_id = "id"
`, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if c.Jobs != 3 || c.PerHost != 2 || c.StateDir != "/home/joe/state" {
		t.Errorf("top level: %+v", c)
	}
	var pin Pin
	for i := range pin.Sum {
		pin.Sum[i] = 0xab
	}
	rule := func(action, field, match string) Rule {
		return Rule{action, field, regexp.MustCompile("(?i)" + match)}
	}
	want := []*Account{
		{
			Name: "work", Line: 12, Mailbox: Mailbox{"joe@example.org", "pop.example.org", "", true},
			Secret: Secret{Command: Command{"/bin/sh", "-c", "pass mail"}}, Timeout: 30 * time.Second, DeleteAge: 14 * 24 * time.Hour,
			Dest: Dest{Kind: Maildir, Path: "/home/joe/Maildir"}, Filter: []Rule{rule("skip", "Subject", `^\[list\]`)},
		},
		{
			Name: "joe@home", Line: 16, Mailbox: Mailbox{`DOMAIN\joe`, "pop.example.net", "", true},
			Secret: Secret{TokenCommand: Command{"/home/joe/bin/token", "joe"}}, Auth: "xoauth2", Timeout: 30 * time.Second,
			Delete: true, Dest: Dest{Kind: LMTP, Path: "/run/lmtp", TLS: TLSNone, To: []string{"joe"}}, MaxSize: 10 << 20,
			HeaderOnly: true, MaxOctets: 1000, Pins: []Pin{pin}, Filter: []Rule{rule("keep", "X", "y"), rule("delete", "X-Spam", "yes")},
		},
		{
			Name: "local", Line: 29, Mailbox: Mailbox{"joe", "localhost", "1110", false}, Insecure: true,
			Dest: Dest{Kind: Pipe, Run: "cat > /dev/null"}, Secret: Secret{Keyring: "pop3"}, Interval: time.Minute,
			OnNew: Command{"/bin/sh", "-c", "true"}, CRLF: true, Timeout: 30 * time.Second, DeleteAge: 14 * 24 * time.Hour,
			Filter: []Rule{rule("skip", "Subject", `^\[list\]`)},
		},
		{
			Name: "cloud", Line: 38, Mailbox: Mailbox{"joe", "cloud.example", "", true}, Dest: Dest{Kind: Stdout},
			Secret: Secret{OAuth: &OAuth{Provider: "microsoft", ClientID: "id"}}, Timeout: 30 * time.Second,
			DeleteAge: 14 * 24 * time.Hour, Filter: []Rule{rule("skip", "Subject", `^\[list\]`)},
		},
	}
	if len(c.Accounts) != len(want) {
		t.Fatalf("%d accounts, want %d", len(c.Accounts), len(want))
	}
	for i, a := range c.Accounts {
		if !reflect.DeepEqual(a, want[i]) {
			t.Errorf("account %d:\ngot  %+v\nwant %+v", i, a, want[i])
		}
	}
}

func TestMistakes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	t.Setenv("HOME", "/home/joe")
	tests := []struct {
		name, text string
		want       []string // LINE: TEXT
	}{
		{"empty", "", []string{"1: there is no account: add a table such as [work]"}},
		{"many", `colour = "red"
url = "pops://joe@example.org"
jobs = "two"
[work]
url = "pops://joe@example.org/INBOX"
delete-after = "14d"
passwrod_command = "pass"
dest = "Maildir"
timeout = 30
pin = "md5:00"
filter = ["skip Subject: (", "drop X: y"]
max_size = "huge"
keep = "no"
on_new = []

[home]
dest = "maildir:/tmp/x"

["../etc"]
url = "pops://joe@example.org"
`, []string{
			`1: unknown key "colour"`,
			`2: unknown key "url": it belongs in the table of an account, such as [work]`,
			`3: jobs: an integer is wanted, not a string`,
			`5: work: url: a mailbox is pops://USER@HOST[:PORT] or pop://USER@HOST[:PORT]: nothing may follow the host and the port`,
			`6: work: unknown key "delete-after" (did you mean "delete_after"?)`,
			`7: work: unknown key "passwrod_command" (did you mean "password_command"?)`,
			`8: work: dest: "Maildir" is a relative path: begin it with / or ~/`,
			`9: work: timeout: a duration such as "14d" is wanted, not an integer`,
			`10: work: pin: "md5:00" is not a fingerprint: write "sha256:" and 64 hexadecimal digits for a certificate, "spki:" for a public key`,
			"11: work: filter: rule 1: invalid regular expression: error parsing regexp: missing closing ): `(?i)(`",
			`12: work: max_size: "huge" is not a size such as "10M", "512k", or "4096"`,
			`13: work: keep: true or false is wanted, not a string`,
			`14: work: on_new: the program is missing`,
			`16: home: url is missing (or host and user)`,
			`19: invalid name of an account "../etc": letters, digits, and any of ._@+- may be in it`,
		}},
		{"contradictions", `[a]
url = "pops://joe@example.org"
user = "joe"
dest = "-"
password_command = "pass"
netrc = true
keep = true
delete_after = "1d"
auth = "xoauth2"
client_key = "/k"
header_only = true
insecure = true
[b]
host = "example.org"
dest = "-"
auth = "external"
[b.oauth]
provider = "google"
colour = "red"
[c]
url = "pops://joe@example.org"
dest = "-"
auth = "oauthbearer"
[c.oauth.more]
x = 1
[d.oauth]
client_id = "x"
`, []string{
			"3: a: user: the url says that already",
			"6: a: more than one source of the password or token: password_command, netrc",
			"8: a: delete_after: contradicts keep = true",
			"9: a: auth: xoauth2 needs a token: set token_command or [a.oauth]",
			"10: a: client_key: client_cert is missing",
			"11: a: header_only: max_size is missing",
			"12: a: insecure: has no effect, because the mailbox uses TLS",
			"14: b: user is missing",
			"16: b: auth: a token needs xoauth2 or oauthbearer, not external",
			"17: b: oauth: client_id is missing",
			`19: b: unknown key "oauth.colour"`,
			`24: c: unknown key "oauth.more"`,
			"24: c: oauth: client_id is missing",
			"24: c: oauth: provider or token_url is missing",
			"26: d: oauth: provider or token_url is missing",
			"26: d: url is missing (or host and user)",
			"26: d: dest is missing",
		}},
		{"syntax, and more after it", `[work
url = pops://joe:hunter2@example.org
dest = "-"

[home]
keep = maybe
dest = "-"
password = hunter2
colour = "red"
colour = "blue"
`, []string{
			"1: not TOML: expected '.' or ']' to end table name, but got '\\n' instead",
			"2: not TOML: strings need quotes, brackets must be closed, and a key must not be repeated",
			"6: not TOML: expected value but found \"maybe\" instead",
			"8: not TOML: strings need quotes, brackets must be closed, and a key must not be repeated",
			"9: home: unknown key \"colour\"",
			"10: not TOML: Key 'home.colour' has already been defined.",
		}},
		{"an open bracket", `[work]
url = x y z
filter = [
dest = "-"
`, []string{
			`2: not TOML: strings need quotes, brackets must be closed, and a key must not be repeated`,
			`4: not TOML: expected value but found "dest" instead`,
		}},
		{"defaults", `[defaults]
keep = 1
[work]
url = "pops://joe@example.org"
dest = "-"
`, []string{"2: defaults: keep: true or false is wanted, not an integer"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			name := write(t, test.text, 0o600)
			_, err := Load(name)
			if err == nil {
				t.Fatal("no mistakes")
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), name+":", ""), "\n")
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("a password is shown")
			}
		})
	}
}

// A file with a secret must not be readable by others.
func TestLoadExposed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	for text, secret := range map[string]string{
		`password = "x"`: "password: others can read", `password_command = "x"`: "",
		`proxy = "http://u:p@h:1"`: "proxy: others can read", `proxy = "http://h:1"`: "",
		"oauth = { provider = \"google\", client_id = \"a\", refresh_token = \"b\" }": "oauth.refresh_token: others can read",
	} {
		for _, mode := range []os.FileMode{0o600, 0o640, 0o604} {
			_, err := Load(write(t, "[a]\nurl = \"pops://a@b\"\ndest = \"-\"\n"+text+"\n", mode))
			if want := secret != "" && mode != 0o600; (err != nil) != want || want && !strings.Contains(err.Error(), ":4: a: "+secret) {
				t.Errorf("%s, mode %o: %v", text, mode, err)
			}
		}
	}
}

func TestLoadNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(write(t, strings.Repeat("#", maxSize+1), 0o600)); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a large file: %v", err)
	}
}

func TestFind(t *testing.T) {
	c := &Config{File: "f", Accounts: []*Account{{Name: "work"}, {Name: "home"}, {Name: "work2"}}}
	for names, want := range map[string]string{"": "work home work2", "work*": "work work2", "work2 home work2": "home work2", "none": "!", "[": "!"} {
		accounts, err := c.Find(strings.Fields(names))
		var got []string
		for _, a := range accounts {
			got = append(got, a.Name)
		}
		if (err != nil) != (want == "!") || err == nil && strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v", names, got, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("[a]\nurl = \"pops://a@b\"\ndest = \"-\"\n[[a.oauth]]\nx=1")
	f.Add("[a]\nurl = [\n[b\n'''\n")
	f.Add("a = {b = {c = 1}}\n[defaults]\noauth.x = 1979-05-27\n")
	f.Fuzz(func(t *testing.T, text string) {
		l := &loader{config: &Config{}, text: text, mode: 0o600}
		l.load()
		for _, m := range l.mistakes {
			if m.Line < 1 || m.Line > strings.Count(text, "\n")+1 {
				t.Errorf("line %d: %s", m.Line, m.Text)
			}
		}
	})
}
