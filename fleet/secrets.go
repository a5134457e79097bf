package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

var errSecret = errors.New("secret not available")

// Secrets resolve the references to passwords that mailboxes have. A reference is a kind and a name, such as file:ann. Anyone who can
// write to the engine can choose the name only: where it is looked up is decided by each worker.
type Secrets struct {
	// Env resolves env:NAME to the environment variable POP3_SECRET_NAME.
	Env bool

	// Dir, if not empty, resolves file:NAME to the first line of a file in this folder. Links that leave the folder are refused.
	Dir string

	// Command, if not empty, resolves command:NAME to the first line that this command prints, with NAME as its last argument.
	Command []string

	// Keyring, if not nil, resolves keyring:NAME.
	Keyring func(ctx context.Context, name string) (string, error)

	// Timeout bounds each resolution. If 0, it is 15 s.
	Timeout time.Duration
}

const maxSecret = 64 << 10

// Resolve returns the secret that ref refers to. No error shows a secret.
func (s *Secrets) Resolve(ctx context.Context, ref string) (string, error) {
	timeout := s.Timeout
	setDefault(&timeout, 15*time.Second)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	kind, name, _ := strings.Cut(ref, ":")
	secret, err := s.resolve(ctx, kind, name)
	if err == nil && secret == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", errSecret, kind, err)
	}
	return secret, nil
}

func (s *Secrets) resolve(ctx context.Context, kind, name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "\r\n\x00") {
		return "", errors.New("a reference is KIND:NAME")
	}
	switch {
	case kind == "env" && s.Env:
		return os.Getenv("POP3_SECRET_" + name), nil
	case kind == "file" && s.Dir != "":
		root, err := os.OpenRoot(s.Dir)
		if err != nil {
			return "", err
		}
		defer root.Close()
		f, err := root.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxSecret))
		return firstLine(data), err
	case kind == "command" && len(s.Command) > 0:
		if strings.HasPrefix(name, "-") {
			return "", errors.New("the name would be taken for an option")
		}
		args := append(s.Command[1:len(s.Command):len(s.Command)], name)
		cmd := exec.CommandContext(ctx, s.Command[0], args...)
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("the command ended with %v", exit.ProcessState)
		}
		return firstLine(out), err
	case kind == "keyring" && s.Keyring != nil:
		return s.Keyring(ctx, name)
	}
	return "", fmt.Errorf("this worker resolves no references of the kind %q", kind)
}

func firstLine(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSuffix(line, "\r")
}
