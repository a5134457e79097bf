// Package config reads the configuration of the command: mailboxes, the destinations of their mail, and how to log in.
package config

import (
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Config is a configuration file without mistakes.
type Config struct {
	File     string
	StateDir string // "" for the default
	Jobs     int    // accounts fetched at once; 0 for the default
	PerHost  int    // of these, on one host; 0 for the default
	Accounts []*Account
}

// An Account is a mailbox, with the handling of its messages.
type Account struct {
	Name string
	Line int // of its table in the file; 0 for an account made of a URL
	Mailbox
	Insecure bool // without TLS if the server does not offer STLS
	Auth     string
	Secret   Secret

	Dest       Dest
	CRLF       bool
	Received   bool
	Delete     bool
	DeleteAge  time.Duration
	DeleteOver int

	DeleteUnproven bool
	NoUIDL         bool

	MaxMessages int
	MaxOctets   int64
	MaxSize     int64
	HeaderOnly  bool
	Filter      []Rule

	Proxy      string
	CAFile     string
	ClientCert string
	ClientKey  string
	Pins       []Pin
	Timeout    time.Duration

	OnNew    Command
	Interval time.Duration
}

// A Secret is the source of the password or the token of an account. At most one field is set; without any, the
// terminal is asked.
type Secret struct {
	Password     string
	Command      Command // prints the password
	Keyring      string  // service name
	Netrc        string  // file
	TokenCommand Command // prints an access token
	OAuth        *OAuth
}

// IsToken reports whether the secret is an access token rather than a password.
func (s *Secret) IsToken() bool { return s.TokenCommand != nil || s.OAuth != nil }

// IsZero reports whether there is no source, so that the user is asked.
func (s *Secret) IsZero() bool {
	return s.Password == "" && s.Command == nil && s.Keyring == "" && s.Netrc == "" && !s.IsToken()
}

// OAuth configures how to obtain access tokens.
type OAuth struct {
	Provider     string // "google", "microsoft", or "" if the URLs are given
	Tenant       string // of Microsoft
	ClientID     string
	ClientSecret string
	RefreshToken string
	Scopes       []string
	TokenURL     string
	DeviceURL    string
}

// A Command is a program and its arguments.
type Command []string

// A Rule decides about messages by one field of their header. The first rule that matches wins.
type Rule struct {
	Action string // "keep", "skip", or "delete"
	Field  string // in canonical form
	Match  *regexp.Regexp
}

// ParseRule parses a rule such as "skip Subject: ^\[list\]".
func ParseRule(text string) (Rule, error) {
	action, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	field, expr, ok := strings.Cut(rest, ":")
	field = strings.TrimSpace(field)
	if !slices.Contains([]string{"keep", "skip", "delete"}, action) || !ok || !isFieldName(field) {
		return Rule{}, fmt.Errorf("a rule is ACTION FIELD: REGEXP, with the action keep, skip, or delete")
	}
	match, err := regexp.Compile("(?i)" + strings.TrimSpace(expr))
	if err != nil {
		return Rule{}, fmt.Errorf("invalid regular expression: %w", err)
	}
	return Rule{action, textproto.CanonicalMIMEHeaderKey(field), match}, nil
}

func isFieldName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

// Find returns the accounts that the names and patterns select, each once, in the order of the file; all without any
// names.
func (c *Config) Find(names []string) ([]*Account, error) {
	if len(names) == 0 {
		return c.Accounts, nil
	}
	selected := make(map[*Account]bool)
	for _, name := range names {
		found := false
		for _, a := range c.Accounts {
			if ok, err := path.Match(name, a.Name); err != nil {
				return nil, errors.New("invalid pattern of accounts")
			} else if ok || a.Name == name {
				selected[a] = true
				found = true
			}
		}
		if !found {
			if !isAccountName(name) { // it may hold a password
				return nil, fmt.Errorf("no such account in %s", c.File)
			}
			return nil, fmt.Errorf("no account %q in %s", name, c.File)
		}
	}
	var accounts []*Account
	for _, a := range c.Accounts {
		if selected[a] {
			accounts = append(accounts, a)
		}
	}
	return accounts, nil
}

// FromURL returns the account of a mailbox that no file describes.
func FromURL(mailbox string) (*Account, error) {
	m, err := ParseURL(mailbox)
	if err != nil {
		return nil, err
	}
	return &Account{Name: m.String(), Mailbox: m}, nil
}

// DefaultFile returns the path of the configuration file.
func DefaultFile(getenv func(string) string) (string, error) {
	dir, err := xdgDir(getenv, "XDG_CONFIG_HOME", ".config")
	return filepath.Join(dir, "pop3", "config.toml"), err
}

// DefaultStateDir returns the folder of the state files.
func DefaultStateDir(getenv func(string) string) (string, error) {
	dir, err := xdgDir(getenv, "XDG_STATE_HOME", ".local/state")
	return filepath.Join(dir, "pop3"), err
}

// xdgDir follows the XDG Base Directory Specification, by which relative paths in the variables are ignored.
func xdgDir(getenv func(string) string, variable, fallback string) (string, error) {
	if dir := getenv(variable); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := getenv("HOME")
	if home == "" {
		var err error
		if home, err = os.UserHomeDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(home, filepath.FromSlash(fallback)), nil
}
