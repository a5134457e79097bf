package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
)

func defineCompletion(a *app, flags *flag.FlagSet) func(context.Context) error {
	return func(context.Context) error {
		script, ok := completions[flags.Arg(0)]
		if !ok {
			return usagef("bash, zsh, or fish is wanted")
		}
		fmt.Fprint(a.stdout, script())
		return nil
	}
}

// completions returns the scripts, made of the verbs and their flags.
var completions = map[string]func() string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}

// words returns the verbs of one word, and the second words of those of two.
func words() (first []string, second map[string][]string) {
	second = make(map[string][]string)
	for _, v := range verbs {
		a, b, two := strings.Cut(v.name, " ")
		if !slices.Contains(first, a) {
			first = append(first, a)
		}
		if two {
			second[a] = append(second[a], b)
		}
	}
	return append(first, "help"), second
}

// takesFile reports whether the argument of a flag is a path.
func takesFile(f *flag.Flag) bool {
	name, _ := flag.UnquoteUsage(f)
	return name == "FILE" || name == "DIR"
}

func bashCompletion() string {
	var b strings.Builder
	first, second := words()
	b.WriteString("# bash completion for pop3. Generated from the flags of the command.\n_pop3() {\n" +
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} flags=\n\tCOMPREPLY=()\n" +
		"\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n")
	fmt.Fprintf(&b, "\t\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n\t\treturn\n\tfi\n", strings.Join(first, " "))
	for _, group := range first {
		if names := second[group]; names != nil {
			fmt.Fprintf(&b, "\tif [ \"$verb\" = %s ]; then\n\t\tif [ \"$COMP_CWORD\" -eq 2 ]; then\n"+
				"\t\t\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n\t\t\treturn\n\t\tfi\n\t\tverb=\"$verb ${COMP_WORDS[2]}\"\n\tfi\n",
				group, strings.Join(names, " "))
		}
	}
	b.WriteString("\tcase $verb in\n")
	var fileFlags []string
	for _, v := range verbs {
		var names []string
		for _, f := range v.flags() {
			names = append(names, "-"+f.Name)
			if takesFile(f) && !slices.Contains(fileFlags, "-"+f.Name) {
				fileFlags = append(fileFlags, "-"+f.Name)
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(&b, "\t'%s') flags='%s' ;;\n", v.name, strings.Join(names, " "))
		}
	}
	b.WriteString("\tcompletion) flags='bash zsh fish' ;;\n\tesac\n")
	fmt.Fprintf(&b, "\tcase $prev in\n\t%s)\n\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n\t\treturn\n\t\t;;\n\tesac\n", strings.Join(fileFlags, "|"))
	b.WriteString("\tcase $cur in\n\t-*) COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\")) ;;\n" +
		"\t*)\n\t\tlocal config=${XDG_CONFIG_HOME:-$HOME/.config}/pop3/config.toml\n" +
		"\t\tlocal accounts=$(sed -n -e 's/^\\[\"\\([^\"]*\\)\"\\].*/\\1/p' -e 's/^\\[\\([A-Za-z0-9_-]*\\)\\].*/\\1/p'" +
		" \"$config\" 2>/dev/null | grep -vx defaults)\n" +
		"\t\t[ \"$verb\" = completion ] && accounts=$flags\n" +
		"\t\tCOMPREPLY=($(compgen -W \"$accounts\" -- \"$cur\") $(compgen -f -- \"$cur\"))\n\t\t;;\n\tesac\n}\ncomplete -o filenames -F _pop3 pop3\n")
	return b.String()
}

// quoted makes a text one word within single quotes.
func quoted(s string) string { return strings.ReplaceAll(s, "'", `'\''`) }

func zshCompletion() string {
	var b strings.Builder
	first, second := words()
	b.WriteString("#compdef pop3\n# zsh completion for pop3. Generated from the flags of the command.\n_pop3() {\n\tlocal verb=$words[2]\n" +
		"\tif (( CURRENT == 2 )); then\n\t\tlocal -a verbs=(\n")
	for _, name := range first {
		fmt.Fprintf(&b, "\t\t\t'%s:%s'\n", name, quoted(shortOf(name)))
	}
	b.WriteString("\t\t)\n\t\t_describe verb verbs\n\t\treturn\n\tfi\n")
	for _, group := range first {
		if names := second[group]; names != nil {
			fmt.Fprintf(&b, "\tif [[ $verb == %s ]]; then\n\t\tif (( CURRENT == 3 )); then\n\t\t\tlocal -a verbs=(\n", group)
			for _, name := range names {
				fmt.Fprintf(&b, "\t\t\t\t'%s:%s'\n", name, quoted(shortOf(group+" "+name)))
			}
			b.WriteString("\t\t\t)\n\t\t\t_describe verb verbs\n\t\t\treturn\n\t\tfi\n\t\tverb=\"$verb $words[3]\"\n\t\tshift words\n\t\t(( CURRENT-- ))\n\tfi\n")
		}
	}
	b.WriteString("\tshift words\n\t(( CURRENT-- ))\n\tcase $verb in\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "\t'%s')\n\t\t_arguments", v.name)
		for _, f := range v.flags() {
			line, about := flagLine(f)
			_, arg, hasArg := strings.Cut(line, " ")
			spec := "-" + f.Name + "[" + strings.NewReplacer("[", `\[`, "]", `\]`).Replace(about) + "]"
			if hasArg {
				action := " "
				if takesFile(f) {
					action = "_files"
				}
				spec += ":" + arg + ":" + action
			}
			fmt.Fprintf(&b, " \\\n\t\t\t'%s'", quoted(spec))
		}
		if v.name == "completion" {
			b.WriteString(" '1:shell:(bash zsh fish)'")
		} else if v.args != "" {
			b.WriteString(" \\\n\t\t\t'*:argument:_files'")
		}
		b.WriteString("\n\t\t;;\n")
	}
	b.WriteString("\tesac\n}\n_pop3 \"$@\"\n")
	return b.String()
}

// shortOf returns the description of a verb, or of a group of verbs.
func shortOf(name string) string {
	for _, v := range verbs {
		if v.name == name {
			return v.short
		}
	}
	if name == "help" {
		return "say more about a verb"
	}
	return "show and change what is remembered"
}

func fishCompletion() string {
	var b strings.Builder
	first, second := words()
	b.WriteString("# fish completion for pop3. Generated from the flags of the command.\ncomplete -c pop3 -f\n")
	for _, name := range first {
		fmt.Fprintf(&b, "complete -c pop3 -n __fish_use_subcommand -a %s -d '%s'\n", name, fishQuoted(shortOf(name)))
	}
	for _, group := range first {
		for _, name := range second[group] {
			fmt.Fprintf(&b, "complete -c pop3 -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %s' -a %s -d '%s'\n",
				group, strings.Join(second[group], " "), name, fishQuoted(shortOf(group+" "+name)))
		}
	}
	for _, v := range verbs {
		var conditions []string
		for _, word := range strings.Fields(v.name) {
			conditions = append(conditions, "__fish_seen_subcommand_from "+word)
		}
		when := strings.Join(conditions, "; and ")
		for _, f := range v.flags() {
			line, about := flagLine(f)
			option := "-o " + f.Name
			if len(f.Name) == 1 {
				option = "-s " + f.Name
			}
			if strings.Contains(line, " ") {
				option += " -r"
			}
			if takesFile(f) {
				option += " -F"
			}
			fmt.Fprintf(&b, "complete -c pop3 -n '%s' %s -d '%s'\n", when, option, fishQuoted(about))
		}
		if v.name == "completion" {
			fmt.Fprintf(&b, "complete -c pop3 -n '%s' -a 'bash zsh fish'\n", when)
		} else if v.args != "" {
			fmt.Fprintf(&b, "complete -c pop3 -n '%s' -F\n", when)
		}
	}
	return b.String()
}

func fishQuoted(s string) string { return strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) }
