package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// TLSMode says how the connection to a server is protected.
type TLSMode string

const (
	TLSImplicit TLSMode = "tls"      // from the first byte, port 995 by default
	TLSStart    TLSMode = "starttls" // STLS or no session, port 110 by default
	TLSNone     TLSMode = "none"     // the password may be sent in the clear, port 110 by default
)

// A Mailbox is one maildrop that the fleet polls.
type Mailbox struct {
	User string  `json:"user"`
	Addr string  `json:"addr"` // host:port
	TLS  TLSMode `json:"tls"`  // if empty, TLSImplicit

	// Secret refers to the password, such as file:ann; see Secrets. It is never the password itself.
	Secret string `json:"secret"`

	// Provider is the class of the mailbox, whose limit applies: lower-case letters, digits, hyphens, and underscores. If empty, it
	// is the provider in Config that has the host, or one of 16 classes by the host. It cannot be changed while the mailbox is
	// enrolled.
	Provider string `json:"provider"`

	// Interval is the time from the beginning of a poll to the next poll. If 0, it is 5 min.
	Interval time.Duration `json:"interval_ns"`

	// Keep leaves messages on the server. KeepFor, if not 0, deletes messages that were fetched longer ago than that. Otherwise a
	// message is deleted as soon as it is durable in the sink.
	Keep    bool          `json:"keep,omitempty"`
	KeepFor time.Duration `json:"keep_for_ns,omitempty"`

	// Paused mailboxes are not polled. See Fleet.Pause.
	Paused bool `json:"paused,omitempty"`
}

const defaultInterval = 5 * time.Minute

// ID returns 32 hexadecimal digits that stand for the mailbox in subjects, so that no user name is in them.
func (m Mailbox) ID() string { return digest(m.User, m.Addr) }

// Account returns the user and the address, which identify the mailbox.
func (m Mailbox) Account() string { return m.User + "@" + m.Addr }

// complete fills in defaults, and refuses a Mailbox that cannot be polled.
func (m Mailbox) complete(c *Config) (Mailbox, error) {
	if m.TLS == "" {
		m.TLS = TLSImplicit
	}
	port := "110"
	switch m.TLS {
	case TLSImplicit:
		port = "995"
	case TLSStart, TLSNone:
	default:
		return m, fmt.Errorf("fleet: unknown TLS mode %q", m.TLS)
	}
	if m.User == "" || strings.ContainsAny(m.User, "\r\n\x00") {
		return m, errors.New("fleet: mailbox without a valid user")
	}
	if m.Secret == "" {
		return m, errors.New("fleet: mailbox without a reference to its secret")
	}
	if _, _, err := net.SplitHostPort(m.Addr); err != nil {
		m.Addr = net.JoinHostPort(strings.Trim(m.Addr, "[]"), port)
	}
	host, _, err := net.SplitHostPort(m.Addr)
	if err != nil || host == "" {
		return m, fmt.Errorf("fleet: %q is not an address", m.Addr)
	}
	m.Addr = strings.ToLower(m.Addr)
	if m.Interval < 0 || m.KeepFor < 0 {
		return m, errors.New("fleet: negative duration")
	}
	if m.Interval == 0 {
		m.Interval = defaultInterval
	}
	if m.Provider == "" {
		m.Provider = c.classOf(strings.ToLower(host), m.Addr)
	}
	if !isToken(m.Provider) || m.Provider == watchClass {
		return m, fmt.Errorf("fleet: %q cannot be the name of a provider", m.Provider)
	}
	return m, nil
}

func decodeMailbox(data []byte) (m Mailbox, err error) {
	err = json.Unmarshal(data, &m)
	return m, err
}

// A Provider is a mail provider with a limit of its own.
type Provider struct {
	// Name is the class of its mailboxes.
	Name string

	// Hosts are the hosts of its servers; "*.example.org" is any host in example.org.
	Hosts []string

	// Limit is the number of sessions that the whole fleet has with the provider at once. If 0, it is Config.Limit.
	Limit int
}

// classOf returns the class of a host.
func (c *Config) classOf(host, addr string) string {
	for _, p := range c.Providers {
		for _, pattern := range p.Hosts {
			pattern = strings.ToLower(pattern)
			if host == pattern || strings.HasPrefix(pattern, "*.") && strings.HasSuffix(host, pattern[1:]) {
				return p.Name
			}
		}
	}
	return otherClass(addr)
}

// limit returns the number of sessions at once of a class, and whether a Provider sets it.
func (c *Config) limit(class string) (limit int, own bool) {
	if class == watchClass {
		return 1, true
	}
	for _, p := range c.Providers {
		if p.Name == class && p.Limit > 0 {
			return p.Limit, true
		}
	}
	return c.Limit, false
}
