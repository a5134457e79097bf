package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// terminal returns the terminal that a stream is.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return f, true
}

// interactive reports whether a user can be prompted.
func (a *app) interactive() bool {
	_, in := terminal(a.stdin)
	_, out := terminal(a.stderr)
	return in && out
}

// warn prints a line on standard error.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "pop3: %s\n", clean(fmt.Sprintf(format, args...)))
}

// ask asks for a password on the terminal, without echo.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	in, ok := terminal(a.stdin)
	if !ok {
		return "", errors.New("no terminal")
	}
	fd := int(in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	io.WriteString(a.stderr, clean(prompt))
	defer io.WriteString(a.stderr, "\n")
	type answer struct {
		password []byte
		err      error
	}
	answers := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(fd)
		answers <- answer{password, err}
	}()
	select {
	case <-ctx.Done():
		term.Restore(fd, state) // the echo back on
		return "", ctx.Err()
	case got := <-answers:
		if got.err == nil && len(got.password) == 0 {
			got.err = errors.New("no password given")
		}
		return string(got.password), got.err
	}
}

// confirm asks a question on the terminal and returns the first letter of the answer, in lower case.
func (a *app) confirm(ctx context.Context, question string) string {
	if !a.interactive() {
		return ""
	}
	io.WriteString(a.stderr, clean(question)+" ")
	answers := make(chan string, 1)
	go func() {
		var answer string
		fmt.Fscanln(a.stdin, &answer)
		answers <- answer
	}()
	select {
	case <-ctx.Done():
		io.WriteString(a.stderr, "\n")
		return ""
	case answer := <-answers:
		if answer == "" {
			return ""
		}
		return string(answer[0] | 0x20)
	}
}

// bytesText is how sizes are shown.
func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", max(n, 0))
	}
	f := float64(n)
	i := -1
	for f >= 999.95 && i < len(units)-1 {
		f /= 1000
		i++
	}
	return fmt.Sprintf("%.1f %cB", f, units[i])
}
