package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
)

func defineMan(a *app, flags *flag.FlagSet) func(context.Context) error {
	return func(context.Context) error {
		fmt.Fprint(a.stdout, manPage())
		return nil
	}
}

// manPage returns pop3.1, made of the verbs, their flags, and the keys of the configuration.
func manPage() string {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	entry := func(term, text string) { fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(term), roff(text)) }
	paragraph := func(text string) { fmt.Fprintf(&b, ".PP\n%s\n", roff(text)) }

	b.WriteString(".\\\" Generated from the flags of the command. Do not edit.\n.TH POP3 1\n")
	section("NAME")
	b.WriteString("pop3 \\- fetch mail over POP3, each message once\n")
	section("SYNOPSIS")
	b.WriteString(".nf\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, ".B %s\n", roff(v.usage()))
	}
	b.WriteString(".fi\n")
	section("DESCRIPTION")
	for i, text := range aboutCommand {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		b.WriteString(roff(text) + "\n")
	}
	section("DESTINATIONS")
	for _, d := range aboutDests {
		entry(d[0], d[1])
	}
	section("VERBS")
	for _, v := range verbs {
		fmt.Fprintf(&b, ".SS %s\n", roff(v.usage()))
		b.WriteString(roff(strings.ToUpper(v.short[:1])+v.short[1:]+".") + "\n")
		for _, text := range v.about {
			paragraph(text)
		}
		for _, f := range v.flags() {
			line, about := flagLine(f)
			entry(line, about)
		}
	}
	section("CONFIGURATION")
	for i, text := range aboutConfiguration {
		if i == 1 {
			fmt.Fprintf(&b, ".PP\n.nf\n.RS\n%s.RE\n.fi\n", roffLines(exampleConfiguration))
		}
		paragraph(text)
	}
	for _, k := range config.Keys {
		entry(k.Name+" = "+k.Form, k.Doc)
	}
	paragraph("The keys of the oauth table of an account, such as [work.oauth]:")
	for _, k := range config.OAuthKeys {
		entry(k.Name+" = "+k.Form, k.Doc)
	}
	paragraph("Keys outside of any table:")
	for _, k := range topKeys {
		entry(k[0], k[1])
	}
	for _, s := range []struct {
		title   string
		entries [][2]string
	}{{"EXIT STATUS", aboutStatus}, {"ENVIRONMENT", aboutEnvironment}, {"FILES", aboutFiles}, {"SIGNALS", aboutSignals}} {
		section(s.title)
		for _, e := range s.entries {
			entry(e[0], e[1])
		}
	}
	section("EXAMPLES")
	fmt.Fprintf(&b, ".nf\n%s.fi\n", roffLines(examples))
	section("BUGS")
	b.WriteString(roff(aboutBugs) + "\n")
	return b.String()
}

// roff escapes a text for troff.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "…", "...").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func roffLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(roff(line))
	}
	return b.String()
}

var aboutCommand = []string{
	"Pop3 fetches mail over POP3: what is new, once, safely, to somewhere else. It remembers by unique-id what it has fetched. It may be killed at any " +
		"moment, and the machine may lose power: run it again and nothing is missing, and, with a destination that stages messages, nothing is there " +
		"twice. A message is deleted from the server only if you ask for it, and only after it is safe in the destination.",
	"A mailbox is given by a URL, pops://USER@HOST[:PORT] for TLS from the first byte (port 995), or pop://USER@HOST[:PORT] for a connection that " +
		"is encrypted by STLS or ends (port 110), or by the name of an ACCOUNT of the configuration. Other characters of USER than letters, digits, and " +
		"-._~!$&'()*+,;=@ are percent-encoded. The names of accounts can have the wildcards *, ?, and [...]. Flags come before the other arguments.",
	"The password of a URL is taken from the environment variable POP3_PASSWORD, or asked for on the terminal. It is never taken from the command line.",
}

var aboutDests = [][2]string{
	{"PATH or maildir:PATH", "A Maildir. It is created if it does not exist, but its parent folder must exist. Files have LF line ends and mode 0600. Staged."},
	{"eml:PATH", "A folder with a .eml file for each message, as the server sent it. Staged."},
	{"mbox:PATH", "An mbox with mboxrd quoting, locked by fcntl and PATH.lock. Staged."},
	{"lmtp://HOST[:PORT]?to=ADDRESS or lmtp:///SOCKET?to=ADDRESS", "An LMTP server. Parameters: to, which can be repeated; from, the envelope sender " +
		"(the null sender); tls, which is none or implicit. Not staged."},
	{"smtp://HOST[:PORT]?to=ADDRESS or smtps://...", "An SMTP server. Parameters as above; the sender is the first recipient, unless from says otherwise; " +
		"tls is starttls, or none for the local machine. Not staged."},
	{"pipe:COMMAND", "A command that reads each message from standard input. Exit status 0 means delivered; 67, 77, and 100 refuse the message permanently; " +
		"others leave it for the next run. The environment has POP3_ACCOUNT, and POP3_ID, which is the same each time for a message. Not staged."},
	{"-", "Standard output, in the form of an mbox. Not staged."},
	{"staged or not", "A staged message is never lost and never delivered twice. One that is not is never lost, but it is delivered again if pop3 is killed after the " +
		"delivery and before it is recorded. A message that is refused stays on the server, is shown by list, and is not tried again until it is forgotten " +
		"(pop3 state forget -refused)."},
}

var aboutConfiguration = []string{
	"The configuration is a TOML file with a table for each account:",
	"A table [defaults] has keys for all accounts that do not set them. A key that says where the mailbox is, how to log in, or what to delete replaces all default keys " +
		"of its kind. Paths are absolute or begin with ~/. A command is a line for the shell, or an array of a program and its arguments. Sizes can end " +
		"with k, M, or G; durations have the units w, d, h, m, and s. The keys of an account:",
}

const exampleConfiguration = `[work]
url = "pops://joe@pop.example.org"
password_command = "pass show mail/work"
dest = "~/Maildir"
delete_after = "14d"

[home]
host = "pop.example.net"
user = "joe@example.net"
token_command = ["oama", "access", "joe@example.net"]
dest = "lmtp:///run/dovecot/lmtp?to=joe"
`

var topKeys = [][2]string{
	{`state_dir = "/path"`, "The folder of the state files."},
	{"jobs = 8", "How many accounts are fetched at once."},
	{"per_host = 1", "How many of these on one host."},
}

var aboutStatus = [][2]string{
	{"0", "All was done, also if nothing was new."},
	{"1", "Some messages were refused or left, or all look new at once."},
	{"2", "The command line or the configuration is wrong, or there is no password."},
	{"3", "The server refused the login."},
	{"4", "The server or the network failed. It is worth trying later."},
	{"5", "The destination or the state failed."},
	{"6", "Another run works for the account."},
	{"130", "The run was interrupted. What was fetched is remembered."},
	{"several accounts", "The status is the first of 130, 2, 3, 5, 4, 6, 1 that any account has."},
}

var aboutEnvironment = [][2]string{
	{"POP3_PASSWORD", "The password, if one account is fetched that has no other source of it. The commands that pop3 runs do not see it."},
	{"XDG_CONFIG_HOME, XDG_STATE_HOME", "The folders in which pop3 has a folder for the configuration and for the state."},
}

var aboutFiles = [][2]string{
	{"~/.config/pop3/config.toml", "The configuration."},
	{"~/.local/state/pop3/", "A file for each account: what was fetched. Without it, all is fetched again; pop3 state rebuild helps. A file is locked while it is in use."},
}

var aboutSignals = [][2]string{
	{"SIGINT, SIGTERM, SIGHUP", "End after the batch of messages in hand, with exit status 130. A second signal ends at once, which loses nothing."},
	{"SIGUSR1", "Makes watch print the status of all accounts and look for new messages."},
}

const examples = `pop3 fetch pops://joe@pop.example.org ~/Maildir
pop3 fetch -delete-after 14d pops://joe%40example.org@pop.example.org mbox:~/inbox
pop3 watch -every 2m
pop3 check work
pop3 state import -from mpop work ~/.mpop_uidls/joe_at_pop.example.org
*/5 * * * * pop3 fetch -q work || [ $? -eq 4 ] || [ $? -eq 6 ]
`

const aboutBugs = "Not covered by the promise: a disk that loses what it has confirmed, a server that gives one message two unique-ids, and a state " +
	"that was deleted or restored from a backup."
