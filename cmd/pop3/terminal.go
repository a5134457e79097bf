package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// askPassword returns the password of the environment, or asks on the terminal.
func askPassword(ctx context.Context, mailbox string) (string, error) {
	if password := os.Getenv("POP3_PASSWORD"); password != "" {
		return password, nil
	}
	fd := int(os.Stdin.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", errors.New("no password: set POP3_PASSWORD, or run on a terminal to be asked")
	}
	fmt.Fprintf(os.Stderr, "Password for %s: ", mailbox)
	defer fmt.Fprintln(os.Stderr)
	var password []byte
	read := make(chan error, 1)
	go func() {
		var err error
		password, err = term.ReadPassword(fd)
		read <- err
	}()
	select {
	case <-ctx.Done():
		term.Restore(fd, state) // the echo back on
		return "", ctx.Err()
	case err := <-read:
		if err == nil && len(password) == 0 {
			err = errors.New("no password given")
		}
		return string(password), err
	}
}

// newProgress returns a Writer that moves a bar by the octets written to it,
// and the function that takes the bar away. There is a bar on a terminal only.
func newProgress(stderr io.Writer, octets int64) (io.Writer, func()) {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return io.Discard, func() {}
	}
	bar := progressbar.NewOptions64(max(octets, 1),
		progressbar.OptionSetWriter(f),
		progressbar.OptionShowBytes(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
	)
	return progress{bar}, func() { bar.Clear() }
}

// A progress bar as a Writer. Sizes are what the server says: that there is
// more than the bar is long is no error.
type progress struct{ bar *progressbar.ProgressBar }

func (p progress) Write(b []byte) (int, error) {
	p.bar.Add(len(b))
	return len(b), nil
}

// megabytes is how sizes are shown.
func megabytes[N int64 | uint64](octets N) string {
	return fmt.Sprintf("%.1f MB", float64(octets)/1e6)
}
