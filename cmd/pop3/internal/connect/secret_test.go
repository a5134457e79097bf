package connect

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func credential(t *testing.T, c *Connector) (string, error) {
	t.Helper()
	c.Account.Mailbox = config.Mailbox{User: "joe", Host: "pop.example.org", TLS: true}
	return c.credential(t.Context(), false)
}

func TestSources(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	dir := t.TempDir()
	netrcFile := filepath.Join(dir, "netrc")
	text := "machine other login joe password wrong\nmachine pop.example.org login jim password wrong\n" +
		"machine pop.example.org login joe password from-netrc\n"
	if err := os.WriteFile(netrcFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	exposed := filepath.Join(dir, "exposed")
	if err := os.WriteFile(exposed, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("machine pop.example.org login jim password wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyring.MockInit()
	if err := keyring.Set("pop3", "joe@pop.example.org", "from-keyring"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		s         config.Secret
		want, err string
	}{
		{"password", config.Secret{Password: "p"}, "p", ""},
		{"command", config.Secret{Command: config.ShellCommand("echo first; echo second")}, "first", ""},
		{"program", config.Secret{Command: config.Command{"printf", `%s\r\n`, "a b"}}, "a b", ""},
		{"silent command", config.Secret{Command: config.ShellCommand("true")}, "", "password_command: it printed nothing"},
		{"agent", config.Secret{Command: config.ShellCommand("echo x; sleep 5 &")}, "x", ""},
		{"failed command", config.Secret{Command: config.ShellCommand("echo x; exit 3")}, "", "password_command: exit status 3"},
		{"no command", config.Secret{Command: config.Command{filepath.Join(dir, "none")}}, "", "no such file"},
		{"much output", config.Secret{Command: config.ShellCommand("echo x; head -c 1000000 /dev/zero")}, "x", ""},
		{"NUL", config.Secret{Command: config.ShellCommand(`printf 'a\0b\n'`)}, "", "line break or NUL"},
		{"keyring", config.Secret{Keyring: "pop3"}, "from-keyring", ""},
		{"no entry of the keyring", config.Secret{Keyring: "other"}, "", `keyring, service "other", user "joe@pop.example.org"`},
		{"netrc", config.Secret{Netrc: netrcFile}, "from-netrc", ""},
		{"exposed netrc", config.Secret{Netrc: exposed}, "", "chmod 600"},
		{"no entry of netrc", config.Secret{Netrc: empty}, "", "netrc: no password for joe on pop.example.org"},
		{"no netrc", config.Secret{Netrc: filepath.Join(dir, "none")}, "", "netrc: stat"},
		{"environment", config.Secret{}, "from-environment", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := credential(t, &Connector{Account: &config.Account{Secret: test.s}, Password: "from-environment"})
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q, %v", got, err)
			}
			var setup *SetupError
			if err != nil && !errors.As(err, &setup) {
				t.Errorf("%v would be tried again", err)
			}
		})
	}
}

func TestAsk(t *testing.T) {
	c := &Connector{Account: &config.Account{}}
	if _, err := credential(t, c); err == nil || !strings.Contains(err.Error(), "POP3_PASSWORD") {
		t.Errorf("without a user: %v", err)
	}
	asked := 0
	c.Ask = func(_ context.Context, prompt string) (string, error) {
		asked++
		if prompt != "Password for joe@pop.example.org: " {
			t.Errorf("prompt %q", prompt)
		}
		return "typed", nil
	}
	if err := c.Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if got, err := credential(t, c); got != "typed" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	c.forget() // the user does not know another one
	if _, err := credential(t, c); err != nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// A command that hangs ends with the context.
func TestCommandCanceled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c := &Connector{Account: &config.Account{Secret: config.Secret{Command: config.Command{"sleep", "60"}}}}
	start := time.Now()
	if _, err := c.credential(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// A password that changes is asked for again after it was refused.
func TestForget(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	_, a := serve(t, true, nil)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Secret.Command = config.Command{"cat", file}
	c := connector(a)
	if err := dial(t, c); !refused(err) {
		t.Fatalf("error %v", err)
	}
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, c); err != nil {
		t.Error(err)
	}
}

// A refused token is asked for once more, and a second refusal is final.
func TestTokenCommandRenewed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	srv, a := serve(t, true, func(s *pop3test.Server) { s.SASL = []string{"XOAUTH2"} })
	file := filepath.Join(t.TempDir(), "count")
	a.Secret.TokenCommand = config.ShellCommand("echo x >>" + file + `; if [ $(wc -l <` + file + `) -lt 2 ]; then echo old; else echo secret; fi`)
	if err := dial(t, connector(a)); err != nil {
		t.Error(err)
	}
	a.Secret.TokenCommand = config.ShellCommand("echo x >>" + file + "; echo wrong")
	before := len(srv.Commands())
	if err := dial(t, connector(a)); !refused(err) {
		t.Errorf("error %v", err)
	}
	logins := 0
	for _, line := range srv.Commands()[before:] {
		if strings.HasPrefix(line, "AUTH") {
			logins++
		}
	}
	if logins != 2 {
		t.Errorf("%d logins", logins)
	}
}
