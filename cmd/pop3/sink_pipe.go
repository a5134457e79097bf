package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

// Exit statuses of sysexits.h, and the one that qmail has for a permanent failure.
const (
	exitNoUser   = 67
	exitTempFail = 75
	exitNoPerm   = 77
	exitRefused  = 100
)

// pipeTimeout bounds one run of a program that takes messages.
const pipeTimeout = 10 * time.Minute

// A piper gives each message to a program on its standard input.
type piper struct {
	line    string // for the shell
	crlf    bool
	timeout time.Duration
}

// deliver runs the program. Exit status 0 means that the message is delivered. 67, 77, and 100 refuse it for good. Any
// other status, a signal, and a timeout leave it for the next run.
func (p *piper) deliver(ctx context.Context, msg fetch.Message, body io.ReadSeeker) error {
	limit, cancel := context.WithTimeoutCause(ctx, p.timeout, errPipeTimeout)
	defer cancel()
	command := config.ShellCommand(p.line)
	cmd := exec.CommandContext(limit, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	killGroup(cmd)
	cmd.Env = append(os.Environ(), "POP3_ACCOUNT="+msg.Account, "POP3_ID="+msg.Key.Digest(msg.Account))
	output := &lastBytes{}
	cmd.Stdout, cmd.Stderr = output, output
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	copied := make(chan error, 1)
	go func() {
		err := p.copy(stdin, body)
		stdin.Close()
		copied <- err
	}()
	err = cmd.Wait() // which closes stdin, so that the copy ends
	copyErr := <-copied
	if errors.Is(err, exec.ErrWaitDelay) { // it has exited with 0, and has left a process that has its output open
		err = nil
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("pipe: %w", context.Cause(ctx))
	case limit.Err() != nil:
		return fetch.Later(fmt.Errorf("pipe: %w after %v%s", errPipeTimeout, p.timeout, output))
	case err == nil && copyErr != nil && !isClosedPipe(copyErr):
		return fmt.Errorf("pipe: %w", copyErr) // the spooled message could not be read
	case err == nil:
		return nil
	case errors.As(err, &exit):
		err = fmt.Errorf("pipe: %w%s", err, output)
		switch exit.ExitCode() {
		case exitNoUser, exitNoPerm, exitRefused:
			return fetch.Never(err)
		case 126, 127: // the shell did not find the program: no message can be delivered
			return err
		}
		return fetch.Later(err)
	}
	return fmt.Errorf("pipe: %w", err)
}

var errPipeTimeout = errors.New("the program did not end")

func (p *piper) copy(w io.Writer, body io.Reader) error {
	if p.crlf {
		_, err := io.Copy(w, body)
		return err
	}
	buffered := bufio.NewWriter(w)
	lf := fetch.NewLFWriter(buffered)
	if _, err := io.Copy(lf, body); err != nil {
		return err
	}
	if err := lf.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// isClosedPipe reports whether the program did not read to the end. If it still exits with 0, it needs no more input.
func isClosedPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// lastBytes keeps the end of a program's output. Its String is the last line, for an error.
type lastBytes struct{ b []byte }

const keepBytes = 1024

func (l *lastBytes) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if len(l.b) > 2*keepBytes {
		l.b = append(l.b[:0], l.b[len(l.b)-keepBytes:]...)
	}
	return len(p), nil
}

func (l *lastBytes) String() string {
	text := bytes.TrimSpace(l.b)
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	if len(text) > keepBytes {
		text = text[len(text)-keepBytes:]
	}
	if len(text) == 0 {
		return ""
	}
	return ": " + strings.ToValidUTF8(string(text), "?")
}
