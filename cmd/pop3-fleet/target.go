package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// target returns the sink for the text of a target.
func (d *drainer) target(text string, timeout time.Duration) (fetch.Sink, error) {
	kind, rest, _ := strings.Cut(text, ":")
	if rest == "" {
		return nil, fmt.Errorf("the target must be maildir:DIR, files:DIR, command:CMD, or an http or https URL")
	}
	switch kind {
	case "maildir":
		return &fetch.Maildir{Dir: rest}, nil
	case "files":
		return &fetch.EML{Dir: rest}, nil
	case "command":
		args := strings.Fields(rest)
		if len(args) == 0 {
			return nil, errors.New("no command")
		}
		return &fetch.Delivery{Name: "command", Timeout: timeout, Func: func(ctx context.Context, m fetch.Message, body io.ReadSeeker) error {
			return d.command(ctx, args, m, body)
		}}, nil
	case "http", "https":
		client := &http.Client{}
		return &fetch.Delivery{Name: "http", Timeout: timeout, Func: func(ctx context.Context, m fetch.Message, body io.ReadSeeker) error {
			return d.post(ctx, client, text, m, body)
		}}, nil
	}
	return nil, fmt.Errorf("unknown kind of target %q", kind)
}

// command runs a command with the mail as its standard input. Exit status 0 means delivered; with any other the mail stays in the
// stream.
func (d *drainer) command(ctx context.Context, args []string, m fetch.Message, body io.Reader) error {
	mail := d.current[m.Key.UID]
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	secret := func(v string) bool { return strings.HasPrefix(v, "POP3_SECRET_") }
	cmd.Env = append(slices.DeleteFunc(os.Environ(), secret), "POP3_MAILBOX="+mail.Account, "POP3_KEY="+mail.Key, "POP3_SHA256="+mail.SHA256,
		"POP3_SIZE="+strconv.FormatInt(mail.Size, 10))
	cmd.Stdin = body
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fetch.Later(fmt.Errorf("the command ended with %v", exit.ProcessState))
	}
	return err
}

// post sends the mail as the body of a request. A status of 2xx means delivered; 409 means that the key was known.
func (d *drainer) post(ctx context.Context, client *http.Client, url string, m fetch.Message, body io.Reader) error {
	mail := d.current[m.Key.UID]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(body))
	if err != nil {
		return err
	}
	req.ContentLength = mail.Size
	req.Header.Set("Content-Type", "message/rfc822")
	req.Header.Set("Idempotency-Key", mail.Key)
	req.Header.Set("Pop3-Mailbox", strconv.QuoteToASCII(mail.Account))
	req.Header.Set("Pop3-Sha256", mail.SHA256)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusConflict {
		return nil
	}
	return fetch.Later(fmt.Errorf("the response is %s", resp.Status))
}
