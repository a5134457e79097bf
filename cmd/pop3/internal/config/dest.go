package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// A Dest is the destination of messages.
type Dest struct {
	Kind DestKind
	Path string // of Maildir, EML, Mbox; the socket of LMTP
	Addr string // HOST:PORT of SMTP and LMTP
	TLS  DestTLS
	From string   // envelope sender of SMTP and LMTP, "" for the null sender
	To   []string // envelope recipients
	Run  string   // command line of Pipe
}

// DestKind is a form of destination.
type DestKind string

// The forms of destinations.
const (
	Maildir DestKind = "maildir"
	EML     DestKind = "eml"
	Mbox    DestKind = "mbox"
	Pipe    DestKind = "pipe"
	SMTP    DestKind = "smtp"
	LMTP    DestKind = "lmtp"
	Stdout  DestKind = "stdout"
)

// DestTLS selects the encryption of a connection to an SMTP or LMTP server.
type DestTLS string

// The ways to encrypt.
const (
	TLSNone     DestTLS = "none"
	TLSStart    DestTLS = "starttls"
	TLSImplicit DestTLS = "implicit"
)

// String returns a form that identifies the target, without any secret.
func (d Dest) String() string {
	switch d.Kind {
	case Pipe:
		return "pipe:" + d.Run
	case Stdout:
		return "-"
	case SMTP, LMTP:
		at := d.Addr
		if at == "" {
			at = d.Path
		}
		return string(d.Kind) + "://" + at + "?to=" + strings.Join(d.To, ",")
	}
	return string(d.Kind) + ":" + d.Path
}

var destScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:`)

const destForms = "PATH or maildir:PATH, eml:PATH, mbox:PATH, lmtp://HOST:PORT?to=ADDRESS, lmtp:///SOCKET?to=ADDRESS," +
	" smtp://HOST?to=ADDRESS, pipe:COMMAND, or -"

// ParseDest parses a destination. The path of a folder or a file is made absolute.
func ParseDest(text string) (Dest, error) {
	if text == "" {
		return Dest{}, errors.New("the destination is empty: " + destForms)
	}
	if text == "-" || text == "stdout:" {
		return Dest{Kind: Stdout}, nil
	}
	kind, rest := "maildir:", text
	if prefix := destScheme.FindString(text); prefix != "" {
		kind, rest = strings.ToLower(prefix), text[len(prefix):]
	}
	switch kind {
	case "maildir:", "eml:", "mbox:":
		if rest == "" {
			return Dest{}, fmt.Errorf("%s needs a path", kind)
		}
		path, err := expandHome(rest)
		if err != nil {
			return Dest{}, err
		}
		if path, err = filepath.Abs(path); err != nil {
			return Dest{}, err
		}
		return Dest{Kind: DestKind(strings.TrimSuffix(kind, ":")), Path: path}, nil
	case "pipe:":
		if strings.TrimSpace(rest) == "" {
			return Dest{}, errors.New("pipe: needs a command")
		}
		return Dest{Kind: Pipe, Run: rest}, nil
	case "smtp:", "smtps:", "lmtp:":
		return parseMailDest(text)
	}
	return Dest{}, fmt.Errorf("unknown kind of destination %q: %s", kind, destForms)
}

// parseMailDest parses a URL of SMTP or LMTP.
func parseMailDest(text string) (Dest, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return Dest{}, errors.New("invalid URL: " + destForms)
	}
	if u.User != nil {
		return Dest{}, errors.New("no user or password is taken in the URL of an SMTP or LMTP server")
	}
	d := Dest{Kind: LMTP}
	port := "24"
	if u.Scheme != "lmtp" {
		d.Kind, port = SMTP, "25"
	}
	switch {
	case u.Host != "" && (u.Path == "" || u.Path == "/"):
		host := u.Hostname()
		if u.Port() != "" {
			port = u.Port()
		} else if u.Scheme == "smtps" {
			port = "465"
		}
		if host == "" {
			return Dest{}, errors.New("the host is missing: " + destForms)
		}
		d.Addr = net.JoinHostPort(host, port)
		switch {
		case u.Scheme == "smtps":
			d.TLS = TLSImplicit
		case u.Scheme == "lmtp" || isLoopback(host): // LMTP is not for wide area networks (RFC 2033, section 5)
			d.TLS = TLSNone
		default:
			d.TLS = TLSStart
		}
	case u.Host == "" && u.Scheme == "lmtp" && u.Path != "" && u.Path != "/":
		d.Path, d.TLS = u.Path, TLSNone
	default:
		return Dest{}, errors.New("the host is missing or a path follows it: " + destForms)
	}
	return d, d.setQuery(u.Query())
}

func (d *Dest) setQuery(query url.Values) error {
	from := ""
	for key, values := range query {
		switch value := values[len(values)-1]; key {
		case "to":
			for _, list := range values {
				d.To = append(d.To, strings.Split(list, ",")...)
			}
		case "from":
			from = value
		case "tls":
			switch t := DestTLS(value); t {
			case TLSNone, TLSStart, TLSImplicit:
				d.TLS = t
			default:
				return errors.New("tls= is none, starttls, or implicit")
			}
		default:
			return fmt.Errorf("unknown parameter %q: there are to, from, and tls", key)
		}
	}
	if d.Kind == LMTP && d.TLS == TLSStart {
		return errors.New("tls= is none or implicit for LMTP")
	}
	if len(d.To) == 0 {
		return errors.New("the recipient is missing: add ?to=ADDRESS")
	}
	for _, to := range d.To {
		if !isEnvelope(to) {
			return fmt.Errorf("%q is not the address of a recipient", to)
		}
	}
	switch {
	case from == "<>" || from == "" && d.Kind == LMTP: // bounces are not expected of local delivery
	case from == "":
		d.From = d.To[0] // which then receives the bounces
	case !isEnvelope(from):
		return fmt.Errorf("%q is not the address of a sender", from)
	default:
		d.From = from
	}
	return nil
}

// isEnvelope reports whether s can stand between < and > of MAIL and RCPT. A local part alone is permitted, as LMTP
// servers do.
func isEnvelope(s string) bool {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '<' || r == '>' }) {
		return false
	}
	if !strings.Contains(s, "@") {
		return true
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Name == ""
}
