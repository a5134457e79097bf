package config

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// A table is an account, or the defaults, as it is in the file.
type table struct {
	name   string
	line   int
	values map[string]toml.Primitive
}

// account checks a table on top of the defaults. The defaults themselves are checked with base nil, and make no
// account.
func (l *loader) account(t, base *table) *Account {
	a := &Account{Name: t.name, Line: t.line}
	c := &checker{loader: l, a: a, t: t, lines: make(map[string]int)}
	for name, prim := range t.values {
		c.lines[name] = l.line(prim)
	}
	if t.name == "defaults" {
		c.set(t, func(string) bool { return true })
		c.agree()
		return nil
	}
	if base != nil {
		c.inherit(base)
	}
	c.set(t, func(string) bool { return true })
	if len(c.has("host")) > 0 && len(c.has("tls")) == 0 {
		a.TLS = true
	}
	c.agree()
	c.complete()
	return a
}

// A checker checks one table.
type checker struct {
	*loader
	a     *Account
	t     *table
	lines map[string]int // of the keys that are set, inherited ones too
}

func (c *checker) wrong(key, format string, args ...any) {
	line := c.t.line
	if n, ok := c.lines[key]; ok {
		line = n
	}
	c.mistake(line, c.t.name, format, args...)
}

// inherit sets the defaults that the table does not replace.
func (c *checker) inherit(base *table) {
	replaced := make(map[group]bool)
	for name := range c.t.values {
		if g := groupOf(name); g != other {
			replaced[g] = true
		}
	}
	inherits := func(name string) bool {
		_, own := c.t.values[name]
		return !own && !replaced[groupOf(name)]
	}
	for name, prim := range base.values {
		if inherits(name) {
			c.lines[name] = c.line(prim)
		}
	}
	found := len(c.mistakes)
	c.set(base, inherits)
	c.mistakes = c.mistakes[:found] // they were reported for the defaults
}

// groupOf returns the group of a key of an account.
func groupOf(name string) group {
	if name == "oauth" {
		return login
	}
	if i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name }); i >= 0 {
		return Keys[i].Group
	}
	return other
}

// set sets the keys of a table that are wanted.
func (c *checker) set(t *table, wanted func(name string) bool) {
	known := []string{"oauth"}
	for _, k := range Keys {
		known = append(known, k.Name)
		prim, ok := t.values[k.Name]
		if !ok || !wanted(k.Name) {
			continue
		}
		v := c.value(prim)
		if err := k.set(c.a, v); err != nil {
			c.wrong(k.Name, "%s: %v", k.Name, err)
		}
		if c.exposed() && (k.secret || k.Name == "proxy" && hasPassword(v)) {
			c.wrong(k.Name, "%s: others can read the file (mode %04o): chmod 600", k.Name, c.mode)
		}
	}
	if prim, ok := t.values["oauth"]; ok && wanted("oauth") {
		c.oauth(prim)
	}
	for _, name := range sortedKeys(t.values) {
		if wanted(name) && !slices.Contains(known, name) {
			c.wrong(name, "unknown key %q%s", name, didYouMean(name, known))
		}
	}
}

func (c *checker) oauth(prim toml.Primitive) {
	values, ok := c.table(prim)
	if !ok {
		c.wrong("oauth", "oauth: a table is wanted, such as [%s.oauth]", c.t.name)
		return
	}
	o := &OAuth{}
	c.a.Secret.OAuth = o
	var known []string
	for _, k := range OAuthKeys {
		known = append(known, k.Name)
		prim, ok := values[k.Name]
		if !ok {
			continue
		}
		c.lines["oauth."+k.Name] = c.line(prim)
		if err := k.set(o, c.value(prim)); err != nil {
			c.wrong("oauth."+k.Name, "oauth.%s: %v", k.Name, err)
		}
		if k.secret && c.exposed() {
			c.wrong("oauth."+k.Name, "oauth.%s: others can read the file (mode %04o): chmod 600", k.Name, c.mode)
		}
	}
	for _, name := range sortedKeys(values) {
		if !slices.Contains(known, name) {
			c.lines["oauth."+name] = c.line(values[name])
			c.wrong("oauth."+name, "unknown key \"oauth.%s\"%s", name, didYouMean(name, known))
		}
	}
	if _, ok := values["client_id"]; !ok {
		c.wrong("oauth", "oauth: client_id is missing")
	}
	_, provider := values["provider"]
	_, tokenURL := values["token_url"]
	if !provider && !tokenURL {
		c.wrong("oauth", "oauth: provider or token_url is missing")
	}
}

// has reports whether keys are set, and returns those that are.
func (c *checker) has(keys ...string) (set []string) {
	for _, k := range keys {
		if _, ok := c.lines[k]; ok {
			set = append(set, k)
		}
	}
	return set
}

// agree finds keys that contradict each other.
func (c *checker) agree() {
	a := c.a
	if set := c.has("host", "port", "tls", "user"); len(c.has("url")) > 0 && len(set) > 0 {
		c.wrong(set[0], "%s: the url says that already", strings.Join(set, ", "))
	}
	if set := c.has("password", "password_command", "keyring", "netrc", "token_command", "oauth"); len(set) > 1 {
		last := slices.MaxFunc(set, func(x, y string) int { return c.lines[x] - c.lines[y] })
		c.wrong(last, "more than one source of the password or token: %s", strings.Join(set, ", "))
	}
	if len(c.has("keep")) > 0 && !a.Delete {
		if set := c.has("delete_after", "delete_over"); len(set) > 0 {
			c.wrong(set[0], "%s: contradicts keep = true", set[0])
		}
	}
	if set := c.has("delete_after", "delete_over"); a.Delete && len(set) > 0 {
		c.wrong(set[0], "%s: has no effect with keep = false", set[0])
	}
	isToken := a.Auth == "xoauth2" || a.Auth == "oauthbearer"
	switch {
	case isToken && len(c.has("password", "password_command", "keyring", "netrc")) > 0:
		c.wrong("auth", "auth: %s needs a token: set token_command or [%s.oauth]", a.Auth, c.t.name)
	case len(c.has("token_command", "oauth")) > 0 && a.Auth != "" && a.Auth != "auto" && !isToken:
		c.wrong("auth", "auth: a token needs xoauth2 or oauthbearer, not %s", a.Auth)
	case a.Auth == "external" && len(c.has("client_cert")) == 0:
		c.wrong("auth", "auth: external needs a client_cert")
	}
	if len(c.has("client_key")) > 0 && len(c.has("client_cert")) == 0 {
		c.wrong("client_key", "client_key: client_cert is missing")
	}
	if len(c.has("header_only")) > 0 && a.HeaderOnly && len(c.has("max_size")) == 0 {
		c.wrong("header_only", "header_only: max_size is missing")
	}
	if a.Insecure && len(c.has("url", "host")) > 0 && a.TLS {
		c.wrong("insecure", "insecure: has no effect, because the mailbox uses TLS")
	}
}

// complete finds keys that are missing. If a line was left out, it may have been one of them.
func (c *checker) complete() {
	a := c.a
	if len(c.broken) > 0 {
		return
	}
	switch {
	case len(c.has("url", "host")) == 0:
		c.wrong("", "url is missing (or host and user)")
	case len(c.has("host")) > 0 && len(c.has("user")) == 0 && len(c.has("url")) == 0:
		c.wrong("host", "user is missing")
	}
	if len(c.has("dest")) == 0 {
		c.wrong("", "dest is missing")
	}
	if isToken := a.Auth == "xoauth2" || a.Auth == "oauthbearer"; isToken && a.Secret.IsZero() {
		c.wrong("auth", "auth: %s needs a token: set token_command or [%s.oauth]", a.Auth, a.Name)
	}
}

func hasPassword(v any) bool {
	s, _ := v.(string)
	u, err := url.Parse(s)
	if err != nil {
		return true
	}
	_, ok := u.User.Password()
	return ok
}

func sortedKeys(m map[string]toml.Primitive) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// didYouMean names the known key that is the least different, if there is a close one.
func didYouMean(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(strings.ReplaceAll(strings.ToLower(name), "-", "_"), k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance returns the number of insertions, deletions, and replacements that turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Set sets a key of an account, as a file would, for a flag of the command line. Numbers may be given as a string.
func Set(a *Account, key string, v any) error {
	for _, k := range Keys {
		if k.Name != key {
			continue
		}
		s, isString := v.(string)
		if n, err := strconv.ParseInt(s, 10, 64); isString && err == nil && k.number {
			v = n
		}
		return k.set(a, v)
	}
	return fmt.Errorf("unknown key %q", key)
}
