package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Key is a key of an account's table. The list is also used for the manual page.
type Key struct {
	Name   string
	Form   string // form of the value
	Doc    string
	Group  group
	secret bool
	number bool // no strings are taken
	set    func(a *Account, v any) error
}

// group is a set of keys of which an account overrides all defaults if it sets one.
type group string

const (
	server   group = "server"
	login    group = "login"
	deletion group = "deletion"
	other    group = ""
)

// Keys are the keys of an account's table.
var Keys = []Key{
	{"url", `"pops://USER@HOST"`, "The mailbox: pops:// for TLS, pop:// for STLS. Percent-encode special characters of USER.",
		server, false, false, func(a *Account, v any) (err error) {
			s, err := text(v)
			if err == nil {
				a.Mailbox, err = ParseURL(s)
			}
			return err
		}},
	{"host", `"HOST"`, "The server, if there is no url.", server, false, false, func(a *Account, v any) (err error) {
		s, err := text(v)
		if err == nil {
			a.Host, err = parseHostName(strings.Trim(s, "[]"))
		}
		return err
	}},
	{"port", "995", "The port, if it is not the default.", server, false, true, func(a *Account, v any) error {
		n, err := integer(v, 1, 65535)
		a.Port = fmt.Sprint(n)
		return err
	}},
	{"tls", `"implicit"`, `"implicit" (default, port 995) or "starttls" (port 110).`, server, false, false,
		func(a *Account, v any) error {
			s, err := text(v)
			if err == nil && s != "implicit" && s != "starttls" {
				err = fmt.Errorf(`%q is neither "implicit" nor "starttls"`, s)
			}
			a.TLS = s == "implicit"
			return err
		}},
	{"user", `"USER"`, "The user name, if there is no url. It needs no encoding.", server, false, false,
		func(a *Account, v any) (err error) {
			a.User, err = text(v)
			if err == nil && strings.ContainsAny(a.User, "\r\n\x00") {
				err = errors.New("a user name has no line break and no NUL")
			}
			return err
		}},
	{"insecure", "false", "Permit a login without TLS if the server does not offer STLS.", other, false, false,
		func(a *Account, v any) (err error) { a.Insecure, err = boolean(v); return err }},
	{"auth", `"auto"`, "How to log in: " + strings.Join(AuthNames, ", ") + ".", other, false, false,
		func(a *Account, v any) error {
			s, err := text(v)
			a.Auth = strings.ToLower(s)
			if err == nil && !slices.Contains(AuthNames, a.Auth) {
				err = fmt.Errorf("%q is not one of %s", s, strings.Join(AuthNames, ", "))
			}
			return err
		}},
	{"password", `"SECRET"`, "The password. The file must not be readable by others. Better use one of the next three.", login, true, false,
		func(a *Account, v any) (err error) { a.Secret.Password, err = text(v); return err }},
	{"password_command", `"COMMAND" or ["PROGRAM", "ARG"]`, "A command that prints the password in its first line.", login, false, false,
		func(a *Account, v any) (err error) { a.Secret.Command, err = command(v); return err }},
	{"keyring", `true or "SERVICE"`, `Take the password from the keyring of the desktop: service "pop3", user USER@HOST.`, login, false, false,
		func(a *Account, v any) (err error) { a.Secret.Keyring, err = switchOr(v, "pop3"); return err }},
	{"netrc", `true or "FILE"`, "Take the password from ~/.netrc or another file of its form.", login, false, false,
		func(a *Account, v any) (err error) {
			if a.Secret.Netrc, err = switchOr(v, "~/.netrc"); err == nil {
				a.Secret.Netrc, err = absolute(a.Secret.Netrc)
			}
			return err
		}},
	{"token_command", `"COMMAND" or ["PROGRAM", "ARG"]`,
		"A command that prints an OAuth access token. It is run again once if the server refuses the token.", login, false, false,
		func(a *Account, v any) (err error) { a.Secret.TokenCommand, err = command(v); return err }},
	{"dest", `"~/Maildir"`, "Where messages go, as on the command line, with an absolute path.", other, false, false,
		func(a *Account, v any) error {
			s, err := text(v)
			if err != nil {
				return err
			}
			if path := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(s, "maildir:"), "eml:"), "mbox:"); path != s ||
				!destScheme.MatchString(s) && s != "-" {
				if _, err := absolute(path); err != nil {
					return err
				}
			}
			a.Dest, err = ParseDest(s)
			return err
		}},
	{"crlf", "false", "Keep the CRLF line ends of the server in files and pipes.", other, false, false,
		func(a *Account, v any) (err error) { a.CRLF, err = boolean(v); return err }},
	{"received", "false", "Add Delivered-To and Received fields.", other, false, false,
		func(a *Account, v any) (err error) { a.Received, err = boolean(v); return err }},
	{"keep", "true", "false deletes each message from the server once it is delivered.", deletion, false, false,
		func(a *Account, v any) error {
			keep, err := boolean(v)
			a.Delete = !keep
			return err
		}},
	{"delete_after", `"14d"`, "Delete messages that were fetched longer ago.", deletion, false, false,
		func(a *Account, v any) (err error) { a.DeleteAge, err = duration(v); return err }},
	{"delete_over", "5000", "Keep at most so many fetched messages on the server.", deletion, false, true,
		func(a *Account, v any) (err error) { a.DeleteOver, err = integer(v, 1, 1<<31-1); return err }},
	{"delete_unproven", "false", "Delete also messages that nothing proves to be the recorded ones, as after an import.", other, false, false,
		func(a *Account, v any) (err error) { a.DeleteUnproven, err = boolean(v); return err }},
	{"no_uidl", "false", "Fetch from a server without unique-ids also if nothing is deleted, which takes a TOP for each message.", other, false, false,
		func(a *Account, v any) (err error) { a.NoUIDL, err = boolean(v); return err }},
	{"max_messages", "1000", "Fetch at most so many messages a run.", other, false, true,
		func(a *Account, v any) (err error) { a.MaxMessages, err = integer(v, 1, 1<<31-1); return err }},
	{"max_total", `"500M"`, "Fetch at most so many octets a run.", other, false, false,
		func(a *Account, v any) (err error) { a.MaxOctets, err = size(v); return err }},
	{"max_size", `"25M"`, "Leave larger messages on the server.", other, false, false,
		func(a *Account, v any) (err error) { a.MaxSize, err = size(v); return err }},
	{"header_only", "false", "Fetch the headers of messages larger than max_size.", other, false, false,
		func(a *Account, v any) (err error) { a.HeaderOnly, err = boolean(v); return err }},
	{"filter", `["skip List-Id: announce"]`,
		"Rules ACTION FIELD: REGEXP; the first that matches decides: keep fetches, skip leaves, delete deletes unread.", other, false, false,
		func(a *Account, v any) error {
			rules, err := texts(v)
			if err != nil {
				return err
			}
			for i, s := range rules {
				r, err := ParseRule(s)
				if err != nil {
					return fmt.Errorf("rule %d: %w", i+1, err)
				}
				a.Filter = append(a.Filter, r)
			}
			return nil
		}},
	{"proxy", `"socks5://HOST:PORT"`, "Connect by a proxy: socks5://, http://, or https://.", other, false, false,
		func(a *Account, v any) (err error) {
			if a.Proxy, err = text(v); err == nil {
				_, err = ParseProxy(a.Proxy)
			}
			return err
		}},
	{"ca_file", `"/path/ca.pem"`, "Trust the certificates in this file instead of the system's.", other, false, false,
		func(a *Account, v any) (err error) { a.CAFile, err = file(v); return err }},
	{"client_cert", `"/path/cert.pem"`, "Present this certificate to the server.", other, false, false,
		func(a *Account, v any) (err error) { a.ClientCert, err = file(v); return err }},
	{"client_key", `"/path/key.pem"`, "The key of client_cert, if it is in another file.", other, false, false,
		func(a *Account, v any) (err error) { a.ClientKey, err = file(v); return err }},
	{"pin", `"sha256:HEX" or a list`,
		"Accept a certificate by its fingerprint alone; spki:HEX pins the public key. With ca_file, both must hold.", other, false, false,
		func(a *Account, v any) error {
			list, err := texts(v)
			if err != nil {
				return err
			}
			for _, s := range list {
				p, err := ParsePin(s)
				if err != nil {
					return err
				}
				a.Pins = append(a.Pins, p)
			}
			return nil
		}},
	{"timeout", `"2m"`, "The longest silence of the server.", other, false, false,
		func(a *Account, v any) (err error) { a.Timeout, err = duration(v); return err }},
	{"on_new", `"COMMAND" or ["PROGRAM", "ARG"]`, "A command to run once after new messages were delivered.", other, false, false,
		func(a *Account, v any) (err error) { a.OnNew, err = command(v); return err }},
	{"interval", `"5m"`, "How often watch looks for new messages.", other, false, false,
		func(a *Account, v any) (err error) {
			if a.Interval, err = duration(v); err == nil && a.Interval < time.Second {
				err = errors.New("an interval is at least one second")
			}
			return err
		}},
}

// AuthNames are the values of auth.
var AuthNames = []string{"auto", "user", "apop", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "scram-sha-1-plus",
	"scram-sha-256-plus", "xoauth2", "oauthbearer", "external"}

// An oauthKey is a key of the oauth table of an account.
type oauthKey struct {
	Name, Form, Doc string
	secret          bool
	set             func(o *OAuth, v any) error
}

// OAuthKeys are the keys of the oauth table of an account.
var OAuthKeys = []oauthKey{
	{"provider", `"google" or "microsoft"`, "Whose URLs and scopes to use.", false, func(o *OAuth, v any) (err error) {
		if o.Provider, err = text(v); err == nil && o.Provider != "google" && o.Provider != "microsoft" {
			err = fmt.Errorf(`%q is neither "google" nor "microsoft": give token_url instead`, o.Provider)
		}
		return err
	}},
	{"tenant", `"common"`, "The tenant of Microsoft.", false, func(o *OAuth, v any) (err error) { o.Tenant, err = text(v); return err }},
	{"client_id", `"ID"`, "The id of the application that you registered.", false,
		func(o *OAuth, v any) (err error) { o.ClientID, err = text(v); return err }},
	{"client_secret", `"SECRET"`, "Its secret, if it has one.", true,
		func(o *OAuth, v any) (err error) { o.ClientSecret, err = text(v); return err }},
	{"refresh_token", `"TOKEN"`, "The first refresh token. Newer ones are kept beside the state.", true,
		func(o *OAuth, v any) (err error) { o.RefreshToken, err = text(v); return err }},
	{"scopes", `["SCOPE"]`, "What to ask for, if it is not the provider's POP3 scope.", false,
		func(o *OAuth, v any) (err error) { o.Scopes, err = texts(v); return err }},
	{"token_url", `"https://…"`, "The token endpoint.", false,
		func(o *OAuth, v any) (err error) { o.TokenURL, err = httpsURL(v); return err }},
	{"device_url", `"https://…"`, "The device authorization endpoint (RFC 8628).", false,
		func(o *OAuth, v any) (err error) { o.DeviceURL, err = httpsURL(v); return err }},
}
