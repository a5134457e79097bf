package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
)

// A verb is a subcommand. The usage, the manual page, and the shell completion are made of the verbs and their flags.
type verb struct {
	name        string // "state show" is one of several verbs of a group
	args        string // operands
	least, most int    // number of operands; most is -1 if there is no limit
	short       string
	about       []string // paragraphs of the manual page
	define      func(a *app, flags *flag.FlagSet) func(ctx context.Context) error
}

// verbs is set by init, because help needs it.
var verbs []*verb

func init() {
	verbs = []*verb{
		{"fetch", "URL DEST | [ACCOUNT...]", 0, -1, "fetch what is new, once", aboutFetch, defineFetch},
		{"watch", "URL DEST | [ACCOUNT...]", 0, -1, "fetch again and again", aboutWatch, defineWatch},
		{"list", "URL | ACCOUNT", 1, 1, "list the messages on the server", aboutList, defineList},
		{"check", "[URL | ACCOUNT...]", 0, -1, "check the configuration and the servers", aboutCheck, defineCheck},
		{"state show", "URL | ACCOUNT", 1, 1, "show what is remembered", aboutStateShow, defineStateShow},
		{"state forget", "URL | ACCOUNT [UNIQUE-ID...]", 1, -1, "forget messages, so that they are fetched again", aboutStateForget, defineStateForget},
		{"state mark", "URL | ACCOUNT [UNIQUE-ID...]", 1, -1, "take messages for fetched", aboutStateMark, defineStateMark},
		{"state rebuild", "URL DEST | ACCOUNT", 1, 2, "find out from the destination what was fetched", aboutStateRebuild, defineStateRebuild},
		{"state export", "URL | ACCOUNT", 1, 1, "print the state as text", aboutStateExport, defineStateExport},
		{"state import", "URL | ACCOUNT FILE", 2, 2, "read the state from a text, or from another program", aboutStateImport, defineStateImport},
		{"demo", "", 0, 0, "fetch a generated mailbox, and measure it", aboutDemo, defineDemo},
		{"version", "", 0, 0, "print the version", nil, defineVersion},
		{"man", "", 0, 0, "print the manual page", nil, defineMan},
		{"completion", "bash | zsh | fish", 1, 1, "print the completion for a shell", nil, defineCompletion},
	}
}

// findVerb returns the verb that the arguments begin with, and the other arguments; nil if there is none.
func findVerb(args []string) (*verb, []string) {
	for _, words := range []int{2, 1} {
		if len(args) < words {
			continue
		}
		name := strings.Join(args[:words], " ")
		for _, v := range verbs {
			if v.name == name {
				return v, args[words:]
			}
		}
	}
	return nil, args
}

func isHelp(arg string) bool {
	switch arg {
	case "help", "-h", "-help", "--help":
		return true
	}
	return false
}

// help prints the usage, or the documentation of verbs.
func (a *app) help(names []string) int {
	if len(names) == 0 {
		fmt.Fprint(a.stdout, usage())
		return exitOK
	}
	prefix := strings.Join(names, " ")
	found := false
	for _, v := range verbs {
		if v.name == prefix || strings.HasPrefix(v.name, prefix+" ") {
			fmt.Fprint(a.stdout, v.help())
			found = true
		}
	}
	if !found {
		fmt.Fprint(a.stderr, usage())
		return exitUsage
	}
	return exitOK
}

// usage returns the overview of the verbs.
func usage() string {
	var b strings.Builder
	b.WriteString("Pop3 fetches mail over POP3, each message once.\n\nusage: pop3 VERB [flags] ...\n\n")
	var pairs [][2]string
	for _, v := range verbs {
		pairs = append(pairs, [2]string{v.name, v.short})
	}
	columns(&b, 2, 15, pairs)
	b.WriteString(`
URL is pops://USER@HOST[:PORT] for TLS, or pop://USER@HOST[:PORT] for STLS. The password is taken from POP3_PASSWORD,
or asked for on the terminal. DEST is the path of a Maildir, or one of maildir:PATH, eml:PATH, mbox:PATH, pipe:COMMAND,
lmtp://HOST?to=ADDRESS, smtp://HOST?to=ADDRESS, and - for standard output. ACCOUNT is a table of
~/.config/pop3/config.toml.

"pop3 help VERB" says more about a verb, "pop3 man" about everything.
`)
	return b.String()
}

// usage returns one line.
func (v *verb) usage() string {
	line := "pop3 " + v.name
	if len(v.flags()) > 0 {
		line += " [flags]"
	}
	if v.args != "" {
		line += " " + v.args
	}
	return line
}

// flags returns the flags of a verb, sorted by name.
func (v *verb) flags() []*flag.Flag {
	set := newFlagSet(v.name)
	v.define(&app{getenv: func(string) string { return "" }}, set)
	var flags []*flag.Flag
	set.VisitAll(func(f *flag.Flag) { flags = append(flags, f) })
	return flags
}

// help returns the documentation of a verb.
func (v *verb) help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s\n\n%s%s.\n", v.usage(), strings.ToUpper(v.short[:1]), v.short[1:])
	for _, paragraph := range v.about {
		b.WriteString("\n" + strings.Join(wrap(paragraph, 100), "\n") + "\n")
	}
	flags := v.flags()
	if len(flags) > 0 {
		b.WriteString("\nflags:\n")
		var pairs [][2]string
		for _, f := range flags {
			line, about := flagLine(f)
			pairs = append(pairs, [2]string{line, about})
		}
		columns(&b, 2, 26, pairs)
	}
	return b.String()
}
