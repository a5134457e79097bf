package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
)

func newFlagSet(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}

// accountFlags are the flags that select accounts and change them for one run.
type accountFlags struct {
	config, state string
	changes       []change
}

// A change is a key of an account that a flag has set.
type change struct {
	key   string
	value any
}

// define defines the flags of all verbs that deal with accounts.
func (f *accountFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.config, "config", "", "read the accounts from `FILE` instead of ~/.config/pop3/config.toml")
	flags.StringVar(&f.state, "state", "", "keep the state in `DIR` instead of ~/.local/state/pop3")
}

// defineConnection defines the flags for connecting.
func (f *accountFlags) defineConnection(flags *flag.FlagSet) {
	f.boolean(flags, "insecure", "insecure", true, "permit a pop:// URL to continue without TLS if the server does not offer it")
	f.value(flags, "auth", "auth", "log in by `METHOD`: "+strings.Join(config.AuthNames, ", "))
	f.file(flags, "ca", "ca_file", "trust the certificates in `FILE` instead of the system's")
	f.file(flags, "cert", "client_cert", "present the client certificate in `FILE`")
	f.file(flags, "key", "client_key", "the key of the client certificate is in `FILE`")
	f.value(flags, "pin", "pin", "accept the certificate with this `FINGERPRINT`: sha256:HEX, or spki:HEX for its public key")
	flags.Func("proxy", "connect by the proxy at `URL`: socks5://, http://, or https://", func(s string) error {
		u, err := config.ParseProxy(s)
		if err != nil {
			return err
		}
		if _, ok := u.User.Password(); ok {
			return errors.New("no password is taken from the command line: write it in the configuration")
		}
		return f.add("proxy", s)
	})
	f.value(flags, "timeout", "timeout", "give up after this `DURATION` of silence of the server (2m)")
}

// definePolicy defines the flags that select messages to fetch and to delete.
func (f *accountFlags) definePolicy(flags *flag.FlagSet) {
	f.boolean(flags, "delete", "keep", false, "delete each message from the server once it is delivered")
	f.value(flags, "delete-after", "delete_after", "delete messages that were fetched longer than `DURATION` ago, such as 14d")
	f.value(flags, "delete-over", "delete_over", "keep at most `N` fetched messages on the server")
	f.boolean(flags, "delete-unproven", "delete_unproven", true, "delete also messages that nothing proves to be the recorded ones, as after an import")
	f.boolean(flags, "no-uidl", "no_uidl", true, "fetch from a server without unique-ids also if nothing is deleted")
	f.value(flags, "max-messages", "max_messages", "fetch at most `N` messages")
	f.value(flags, "max-total", "max_total", "fetch at most `SIZE` in all, such as 500M")
	f.value(flags, "max-size", "max_size", "leave messages larger than `SIZE`, such as 25M, on the server")
	f.boolean(flags, "header-only", "header_only", true, "fetch the headers of messages larger than -max-size")
	f.value(flags, "filter", "filter", "decide by the `RULE` \"ACTION FIELD: REGEXP\", ACTION being keep, skip, or delete; repeatable")
	f.boolean(flags, "crlf", "crlf", true, "keep the CRLF line ends of the server")
	f.boolean(flags, "received", "received", true, "add Delivered-To and Received fields")
}

func (f *accountFlags) add(key string, v any) error {
	if err := config.Set(&config.Account{}, key, v); err != nil {
		return err
	}
	f.changes = append(f.changes, change{key, v})
	return nil
}

func (f *accountFlags) value(flags *flag.FlagSet, name, key, about string) {
	flags.Func(name, about, func(s string) error { return f.add(key, s) })
}

func (f *accountFlags) file(flags *flag.FlagSet, name, key, about string) {
	flags.Func(name, about, func(s string) error {
		path, err := filepath.Abs(s)
		if err != nil {
			return err
		}
		return f.add(key, path)
	})
}

// boolean defines a flag that sets a key to a value.
func (f *accountFlags) boolean(flags *flag.FlagSet, name, key string, value bool, about string) {
	flags.BoolFunc(name, about, func(s string) error {
		switch s {
		case "true":
			return f.add(key, value)
		case "false":
			return f.add(key, !value)
		}
		return errors.New("true or false is wanted")
	})
}

// apply changes a copy of an account according to the flags.
func (f *accountFlags) apply(account *config.Account) (*config.Account, error) {
	a := *account
	fresh := make(map[string]bool)
	for _, c := range f.changes {
		if !fresh[c.key] { // a list replaces the list of the configuration
			fresh[c.key] = true
			switch c.key {
			case "pin":
				a.Pins = nil
			case "filter":
				a.Filter = nil
			}
		}
		if err := config.Set(&a, c.key, c.value); err != nil {
			return nil, err
		}
	}
	switch {
	case a.HeaderOnly && a.MaxSize == 0:
		return nil, usagef("-header-only needs -max-size")
	case a.ClientKey != "" && a.ClientCert == "":
		return nil, usagef("-key needs -cert")
	case a.Auth == "external" && a.ClientCert == "":
		return nil, usagef("-auth external needs -cert")
	case (a.Auth == "xoauth2" || a.Auth == "oauthbearer") && !a.Secret.IsToken():
		return nil, usagef("-auth %s needs an account with a token_command or an oauth table in the configuration", a.Auth)
	}
	return &a, nil
}

// allNew is the value of -all-new.
type allNew struct{ fetch.AllNew }

func (n *allNew) IsBoolFlag() bool { return true }

func (n *allNew) String() string { return "" }

func (n *allNew) Set(s string) error {
	switch s {
	case "true":
		n.AllNew = fetch.AllNewFetch
	case "match":
		n.AllNew = fetch.AllNewMatch
	case "false":
		n.AllNew = fetch.AllNewStop
	default:
		return errors.New("-all-new or -all-new=match is wanted")
	}
	return nil
}

// flagLine returns a flag and its argument.
func flagLine(f *flag.Flag) (line, about string) {
	name, about := flag.UnquoteUsage(f)
	line = "-" + f.Name
	if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
		return line, about
	}
	return line + " " + name, about
}

// wrap breaks a text into lines of at most width columns.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// columns formats pairs of a name and a text, whose lines begin at the same column.
func columns(b *strings.Builder, indent, gap int, pairs [][2]string) {
	pad := strings.Repeat(" ", indent+gap)
	for _, p := range pairs {
		lines := wrap(p[1], 100-len(pad))
		if len(p[0]) >= gap {
			fmt.Fprintf(b, "%*s%s\n%s%s\n", indent, "", p[0], pad, lines[0])
		} else {
			fmt.Fprintf(b, "%*s%-*s%s\n", indent, "", gap, p[0], lines[0])
		}
		for _, line := range lines[1:] {
			fmt.Fprintf(b, "%s%s\n", pad, line)
		}
	}
}
