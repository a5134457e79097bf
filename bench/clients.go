package main

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

var (
	//go:embed peers/poplib_fetch.py
	poplibScript string
	//go:embed peers/twisted_fetch.py
	twistedScript string
)

const python = "/usr/bin/python3" // Debian's, which finds Debian's Twisted

// A job describes one run of a client, which fetches the messages 1 to count.
type job struct {
	host, port string
	count      int
	ca         string // a file with the server's certificate; if "", no TLS
	dir        string // an empty scratch folder
}

// A client is a program to compare. It delivers to stdout, or to the Maildir "mail" in the job's folder.
type client struct {
	name    string
	limit   bool     // the reference for the others: it delivers nothing
	maildir bool     // delivers to a Maildir
	slow    bool     // gets a large message a quarter the size, as it would take minutes
	noTLS   bool     // is not run over TLS
	pkg     string   // the Debian package, or "" if none is needed
	probe   []string // a command that succeeds if it is installed
	command func(ctx context.Context, j job) (*exec.Cmd, error)
}

var clients = []client{
	{name: "raw socket", limit: true, command: ours("raw")},
	{name: "pop3 Retr", command: ours("retr")},
	{name: "pop3 RetrAll", command: ours("retrall")},
	{name: "curl", pkg: "curl", probe: []string{"curl", "--version"}, command: curl},
	{name: "poplib", slow: true, pkg: "python3", probe: []string{python, "-c", "import poplib"},
		command: func(ctx context.Context, j job) (*exec.Cmd, error) {
			return exec.CommandContext(ctx, python, "-c", poplibScript, j.host, j.port, strconv.Itoa(j.count), j.ca), nil
		}},
	{name: "Twisted", slow: true, noTLS: true, pkg: "python3-twisted", probe: []string{python, "-c", "import twisted.mail.pop3client"},
		command: func(ctx context.Context, j job) (*exec.Cmd, error) {
			return exec.CommandContext(ctx, python, "-c", twistedScript, j.host, j.port, strconv.Itoa(j.count)), nil
		}},
	{name: "fetchmail", slow: true, noTLS: true, pkg: "fetchmail", probe: []string{"fetchmail", "--version", "-f", "/dev/null"}, command: fetchmail},
	{name: "pop3 RetrAll", maildir: true, command: ours("maildir")},
	{name: "mpop", maildir: true, pkg: "mpop", probe: []string{"mpop", "--version"}, command: mpop},
}

func (c *client) target() string {
	switch {
	case c.limit:
		return "nowhere"
	case c.maildir:
		return "Maildir"
	}
	return "stdout"
}

// installed reports whether the client can be run; fetchmail's exit status is of no use.
func (c *client) installed() bool {
	if c.probe == nil {
		return true
	}
	err := exec.Command(c.probe[0], c.probe[1:]...).Run()
	_, ran := err.(*exec.ExitError)
	return err == nil || ran && c.name == "fetchmail"
}

func ours(mode string) func(context.Context, job) (*exec.Cmd, error) {
	return func(ctx context.Context, j job) (*exec.Cmd, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		addr := net.JoinHostPort(j.host, j.port)
		cmd := exec.CommandContext(ctx, self, addr, strconv.Itoa(j.count), j.ca, filepath.Join(j.dir, "mail"))
		cmd.Env = append(os.Environ(), clientMode+"="+mode)
		return cmd, nil
	}
}

func curl(ctx context.Context, j job) (*exec.Cmd, error) {
	url := fmt.Sprintf("://%s/[1-%d]", net.JoinHostPort(j.host, j.port), j.count)
	args := []string{"-q", "-sS", "-u", "user:secret"}
	if j.ca == "" {
		return exec.CommandContext(ctx, "curl", append(args, "pop3"+url)...), nil
	}
	return exec.CommandContext(ctx, "curl", append(args, "--cacert", j.ca, "pop3s"+url)...), nil
}

func mpop(ctx context.Context, j job) (*exec.Cmd, error) {
	security := "tls off"
	if j.ca != "" {
		security = "tls on\ntls_starttls off\ntls_trust_file " + j.ca
	}
	config := filepath.Join(j.dir, "mpoprc")
	text := fmt.Sprintf("account default\nhost %s\nport %s\nuser user\npassword secret\nauth user\n%s\n"+
		"keep on\nreceived_header off\nuidls_file %s\ndelivery maildir %s\n",
		j.host, j.port, security, filepath.Join(j.dir, "uidls"), filepath.Join(j.dir, "mail"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, "mpop", "-q", "-C", config), nil
}

func fetchmail(ctx context.Context, j job) (*exec.Cmd, error) {
	config := filepath.Join(j.dir, "fetchmailrc")
	text := fmt.Sprintf("set invisible\npoll %s service %s protocol pop3 user \"user\" password \"secret\" sslproto \"\"\n"+
		"fetchall keep no rewrite mda \"cat\"\n", j.host, j.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "fetchmail", "--silent", "--nosyslog", "-f", config)
	cmd.Env = append(os.Environ(), "FETCHMAILHOME="+j.dir, "HOME="+j.dir)
	return cmd, nil
}
