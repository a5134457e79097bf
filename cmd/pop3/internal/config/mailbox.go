package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// A Mailbox names a user on a server.
type Mailbox struct {
	User string
	Host string // without brackets
	Port string // "" for the default
	TLS  bool   // from the first byte; otherwise by STLS
}

// Addr returns the address to dial.
func (m Mailbox) Addr() string {
	port := m.Port
	if port == "" {
		port = m.defaultPort()
	}
	return net.JoinHostPort(m.Host, port)
}

func (m Mailbox) defaultPort() string {
	if m.TLS {
		return "995"
	}
	return "110"
}

// String returns USER@HOST, with the port unless it is the default. Control characters are escaped.
func (m Mailbox) String() string {
	host := m.Host
	if m.Port != "" && m.Port != m.defaultPort() {
		host = net.JoinHostPort(host, m.Port)
	}
	user := m.User
	if !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return !unicode.IsPrint(r) }) {
		user = strconv.QuoteToGraphic(user)
	}
	return user + "@" + host
}

const urlForm = "a mailbox is pops://USER@HOST[:PORT] or pop://USER@HOST[:PORT]"

var errPasswordInURL = errors.New("no password is taken from a URL, where other users of the machine can see it" +
	" (if the \":\" belongs to the user name, write it as %3A)")

// ParseURL parses pops://USER@HOST[:PORT] or pop://USER@HOST[:PORT]. Its errors show nothing of the URL but the
// characters that need percent-encoding, because the URL may hold a password by mistake.
func ParseURL(text string) (Mailbox, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "pop" && scheme != "pops" {
		return Mailbox{}, errors.New(urlForm)
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return Mailbox{}, errors.New(urlForm + ": the user name is missing")
	}
	user, err := parseUser(rest[:at])
	if err != nil {
		return Mailbox{}, err
	}
	host, port, err := parseHost(rest[at+1:])
	if err != nil {
		return Mailbox{}, err
	}
	return Mailbox{User: user, Host: host, Port: port, TLS: scheme == "pops"}, nil
}

// parseUser decodes a user name of a URL, in which only what RFC 3986 permits there, and @, stands for itself.
func parseUser(text string) (string, error) {
	if text == "" {
		return "", errors.New(urlForm + ": the user name is empty")
	}
	if strings.Contains(text, ":") {
		return "", errPasswordInURL
	}
	var wrong []string
	for i, r := range text {
		var c string
		switch {
		case r == '%' && isHex(text, i+1) && isHex(text, i+2):
			continue
		case r < utf8.RuneSelf && (isAlphanumeric(byte(r)) || strings.ContainsRune("-._~!$&'()*+,;=@", r)):
			continue
		case r == ' ':
			c = "the blank as %20"
		case r == utf8.RuneError || unicode.IsControl(r):
			c = "control characters and invalid UTF-8 byte by byte as %XX"
		default:
			c = fmt.Sprintf("%c as %s", r, url.PathEscape(string(r)))
		}
		if !slices.Contains(wrong, c) {
			wrong = append(wrong, c)
		}
	}
	if len(wrong) > 0 {
		return "", errors.New("characters of the user name must be percent-encoded in a URL: write " + strings.Join(wrong, ", "))
	}
	user, err := url.PathUnescape(text)
	if err != nil || strings.ContainsAny(user, "\r\n\x00") {
		return "", errors.New("the user name in the URL holds a line break or NUL")
	}
	return user, nil
}

func isHex(s string, i int) bool {
	return i < len(s) && strings.IndexByte("0123456789abcdefABCDEF", s[i]) >= 0
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// parseHost parses HOST[:PORT], in which an IPv6 address has brackets. Names are returned in ASCII.
func parseHost(text string) (host, port string, err error) {
	text = strings.TrimSuffix(text, "/")
	switch {
	case strings.ContainsAny(text, "/?#"):
		return "", "", errors.New(urlForm + ": nothing may follow the host and the port")
	case strings.HasPrefix(text, "["):
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return "", "", errors.New(urlForm + ": \"]\" is missing after the IPv6 address")
		}
		host, port = strings.Replace(text[1:end], "%25", "%", 1), text[end+1:]
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is6() {
			return "", "", errors.New(urlForm + ": the address in brackets is not an IPv6 address")
		}
	default:
		var colon bool
		if host, port, colon = strings.Cut(text, ":"); colon {
			port = ":" + port
		}
		if host, err = parseHostName(host); err != nil {
			return "", "", err
		}
	}
	if port != "" && port[0] != ':' {
		return "", "", errors.New(urlForm)
	}
	port = strings.TrimPrefix(port, ":")
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return "", "", errors.New(urlForm + ": the port is not a number from 1 to 65535")
	}
	return host, port, nil
}

// parseHostName checks a host name or address, and returns it in lower-case ASCII.
func parseHostName(host string) (string, error) {
	if host == "" {
		return "", errors.New(urlForm + ": the host is missing")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), nil
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil { // a name that only the local resolver knows may have an underscore
		ascii = strings.ToLower(host)
	}
	if strings.ContainsFunc(ascii, func(r rune) bool {
		return r >= utf8.RuneSelf || !isAlphanumeric(byte(r)) && !strings.ContainsRune("-._", r)
	}) {
		return "", errors.New("invalid host name: only letters, digits, \"-\", and \".\" may be in it")
	}
	return ascii, nil
}
