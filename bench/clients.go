package main

import (
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
	uids       []string // of the messages, if all of them have been fetched before
	ca         string   // a file with the server's certificate; if "", no TLS
	dir        string   // a scratch folder with an empty Maildir in it
	pop3       string   // the file of this project's command, or ""
}

func (j *job) mail() string { return filepath.Join(j.dir, "mail") }

// write writes a file that only its owner can read to the job's folder, and returns its name.
func (j *job) write(name, text string) (file string, err error) {
	file = filepath.Join(j.dir, name)
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// A client is a program to compare. It delivers to stdout, or to the Maildir of the job.
type client struct {
	name     string
	limit    bool     // the reference for the others: it delivers nothing
	lists    bool     // reads listings only: it is not run if there are messages to fetch
	maildir  bool     // delivers to a Maildir
	slow     bool     // gets a large message a quarter the size, as it would take minutes
	noTLS    bool     // is not run over TLS
	ordinary bool     // is run by an ordinary user
	idle     int      // the exit status if there is nothing new
	pkg      string   // the Debian packages, or "" if none is needed
	probe    []string // a command that succeeds if it is installed
	command  func(j job) (*exec.Cmd, error)
	remember func(j job) error // writes the state of a client that has fetched the messages of the job
}

var clients = []client{
	{name: "raw socket", limit: true, command: ours("raw")},
	{name: "pop3 Retr", command: ours("retr")},
	{name: "pop3 RetrAll", command: ours("retrall")},
	{name: "curl", pkg: "curl", probe: []string{"curl", "--version"}, command: curl},
	{name: "poplib", slow: true, pkg: "python3", probe: []string{python, "-c", "import poplib"},
		command: func(j job) (*exec.Cmd, error) {
			return exec.Command(python, "-c", poplibScript, j.host, j.port, strconv.Itoa(j.count), j.ca), nil
		}},
	{name: "Twisted", slow: true, noTLS: true, pkg: "python3-twisted", probe: []string{python, "-c", "import twisted.mail.pop3client"},
		command: func(j job) (*exec.Cmd, error) {
			return exec.Command(python, "-c", twistedScript, j.host, j.port, strconv.Itoa(j.count)), nil
		}},
	{name: "fetchmail", slow: true, noTLS: true, pkg: "fetchmail", probe: []string{"which", "fetchmail"}, command: fetchmail},
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

// installed reports whether the client can be run.
func (c *client) installed() bool {
	return c.probe == nil || exec.Command(c.probe[0], c.probe[1:]...).Run() == nil
}

func ours(mode string) func(job) (*exec.Cmd, error) {
	return func(j job) (*exec.Cmd, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(self, net.JoinHostPort(j.host, j.port), strconv.Itoa(j.count), j.ca, j.mail())
		cmd.Env = append(os.Environ(), clientMode+"="+mode)
		return cmd, nil
	}
}

func curl(j job) (*exec.Cmd, error) {
	url := fmt.Sprintf("://%s/[1-%d]", net.JoinHostPort(j.host, j.port), j.count)
	args := []string{"-q", "-sS", "-u", "user:secret"}
	if j.ca == "" {
		return exec.Command("curl", append(args, "pop3"+url)...), nil
	}
	return exec.Command("curl", append(args, "--cacert", j.ca, "pop3s"+url)...), nil
}

func mpop(j job) (*exec.Cmd, error) {
	security := "tls off"
	if j.ca != "" {
		security = "tls on\ntls_starttls off\ntls_trust_file " + j.ca
	}
	config, err := j.write("mpoprc", fmt.Sprintf("account default\nhost %s\nport %s\nuser user\npassword secret\nauth user\n%s\n"+
		"keep on\nreceived_header off\nuidls_file %s\ndelivery maildir %s\n",
		j.host, j.port, security, filepath.Join(j.dir, "uidls"), j.mail()))
	return exec.Command("mpop", "-q", "-C", config), err
}

// fetchmail fetches all messages and delivers them to stdout.
func fetchmail(j job) (*exec.Cmd, error) { return runFetchmail(j, "protocol pop3", "fetchall", "cat") }

func runFetchmail(j job, protocol, what, mda string) (*exec.Cmd, error) {
	config, err := j.write("fetchmailrc", fmt.Sprintf("set invisible\npoll %s service %s %s user \"user\" password \"secret\" sslproto \"\"\n"+
		"%s keep no rewrite mda \"%s\"\n", j.host, j.port, protocol, what, mda))
	cmd := exec.Command("fetchmail", "--silent", "--nosyslog", "-f", config)
	cmd.Env = append(os.Environ(), "FETCHMAILHOME="+j.dir, "HOME="+j.dir)
	return cmd, err
}
