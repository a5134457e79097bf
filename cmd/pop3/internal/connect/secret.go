package connect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/git-lfs/go-netrc/netrc"
	"github.com/zalando/go-keyring"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
)

// credential returns the password or the token of the account. If renew is set, a token is replaced by a new one.
func (c *Connector) credential(ctx context.Context, renew bool) (string, error) {
	s := &c.Account.Secret
	switch {
	case s.Password != "":
		return s.Password, nil
	case s.TokenCommand != nil:
		return c.output(ctx, "token_command", s.TokenCommand)
	case s.OAuth != nil:
		return c.oauthToken(ctx, renew)
	}
	c.mu.Lock()
	cached := c.secret
	c.mu.Unlock()
	if cached != "" {
		return cached, nil
	}
	password, err := c.password(ctx)
	if err != nil {
		return "", err
	}
	if password == "" || strings.ContainsAny(password, "\r\n\x00") {
		return "", setupError("the password is empty or has a line break or NUL")
	}
	c.mu.Lock()
	c.secret = password
	c.mu.Unlock()
	return password, nil
}

// forget makes the next login obtain the password again, unless only the user knows it.
func (c *Connector) forget() {
	if !c.Account.Secret.IsZero() {
		c.mu.Lock()
		c.secret = ""
		c.mu.Unlock()
	}
}

func (c *Connector) password(ctx context.Context) (string, error) {
	a := c.Account
	switch s := &a.Secret; {
	case s.Command != nil:
		return c.output(ctx, "password_command", s.Command)
	case s.Keyring != "":
		return fromKeyring(ctx, s.Keyring, a.Mailbox.String())
	case s.Netrc != "":
		return fromNetrc(s.Netrc, a.Host, a.User)
	case c.Password != "":
		return c.Password, nil
	case c.Ask == nil:
		return "", setupError("no password: set POP3_PASSWORD, run on a terminal, or configure password_command")
	}
	password, err := c.Ask(ctx, "Password for "+a.Mailbox.String()+": ")
	if err != nil && ctx.Err() == nil {
		err = &SetupError{err}
	}
	return password, err
}

// commandTimeout bounds a command that prints a password or token. A user may have to unlock something.
const commandTimeout = 2 * time.Minute

// output runs a command and returns the first line that it prints.
func (c *Connector) output(ctx context.Context, what string, command config.Command) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	cmd.Stderr = os.Stderr
	out := &limitedBuffer{limit: 64 << 10}
	cmd.Stdout = out
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) { // it may leave an agent in the background
		return "", setupError("%s: %w", what, err)
	}
	line, _, _ := bytes.Cut(out.Bytes(), []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return "", setupError("%s: it printed nothing", what)
	}
	return string(line), nil
}

// A limitedBuffer keeps the first bytes that are written to it.
type limitedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); room < len(p) {
		b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

// fromKeyring asks the keyring of the desktop, which may wait for the user to unlock it.
func fromKeyring(ctx context.Context, service, user string) (string, error) {
	type answer struct {
		secret string
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		secret, err := keyring.Get(service, user)
		answers <- answer{secret, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return "", setupError("keyring, service %q, user %q: %w", service, user, a.err)
		}
		return a.secret, nil
	case <-ctx.Done():
		return "", fmt.Errorf("keyring: %w", ctx.Err())
	}
}

// fromNetrc returns the password of a user on a host. Like other programs it refuses a file that others can read.
func fromNetrc(name, host, user string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", setupError("netrc: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", setupError("netrc: others can read %s (mode %04o): chmod 600", name, info.Mode().Perm())
	}
	n, err := netrc.ParseFile(name)
	if err != nil {
		return "", setupError("netrc: %w", err)
	}
	m := n.FindMachine(host, user)
	if m == nil || m.Login != "" && m.Login != user || m.Password == "" {
		return "", &SetupError{errors.New("netrc: no password for " + user + " on " + host + " in " + name)}
	}
	return m.Password, nil
}
