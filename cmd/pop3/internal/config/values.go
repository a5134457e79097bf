package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// ParseDuration parses a duration of Go, in which d is a day and w a week: "14d", "1w12h", "90m".
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration such as \"14d\", \"36h\", or \"90s\"", text)
	var total time.Duration
	rest := text
	for _, u := range []struct {
		suffix string
		length time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, ok := strings.Cut(rest, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || time.Duration(n) > (math.MaxInt64-total)/u.length {
			return 0, bad
		}
		total += time.Duration(n) * u.length
		rest = after
	}
	if rest == "" && text != "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-total {
		return 0, bad
	}
	return total + d, nil
}

// ParseSize parses a number of bytes: "10M", "512k", "1.5G", "4096". The units are powers of 1024.
func ParseSize(text string) (int64, error) {
	bad := fmt.Errorf("%q is not a size such as \"10M\", \"512k\", or \"4096\"", text)
	unit := int64(1)
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text)), "b"), "i")
	for i, suffix := range []string{"k", "m", "g", "t"} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = n, 1<<(10*(i+1))
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0) || n*float64(unit) >= math.MaxInt64 {
		return 0, bad
	}
	return int64(n * float64(unit)), nil
}

// A Pin is the SHA-256 digest of a certificate, or of its public key (SubjectPublicKeyInfo, RFC 7469).
type Pin struct {
	SPKI bool
	Sum  [32]byte
}

// ParsePin parses "sha256:HEX", with or without colons, for a certificate, and "spki:HEX", "spki:BASE64", or
// "sha256//BASE64" for a public key.
func ParsePin(text string) (Pin, error) {
	var p Pin
	var sum []byte
	var err error
	if digest, ok := strings.CutPrefix(text, "sha256//"); ok { // as curl has it
		p.SPKI = true
		sum, err = base64.StdEncoding.DecodeString(digest)
	} else {
		kind, digest, _ := strings.Cut(text, ":")
		switch strings.ToLower(kind) {
		case "sha256":
		case "spki":
			p.SPKI = true
		default:
			err = errors.New("unknown kind")
		}
		if sum, _ = hex.DecodeString(strings.ReplaceAll(digest, ":", "")); len(sum) != len(p.Sum) && p.SPKI {
			sum, _ = base64.StdEncoding.DecodeString(digest)
		}
	}
	if err != nil || len(sum) != len(p.Sum) {
		return Pin{}, fmt.Errorf("%q is not a fingerprint: write \"sha256:\" and 64 hexadecimal digits for a certificate,"+
			" \"spki:\" for a public key", text)
	}
	p.Sum = [32]byte(sum)
	return p, nil
}

func (p Pin) String() string {
	if p.SPKI {
		return "spki:" + hex.EncodeToString(p.Sum[:])
	}
	return "sha256:" + hex.EncodeToString(p.Sum[:])
}

// ParseProxy checks the URL of a proxy. The error does not show it, because it may hold a password.
func ParseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.Path != "" && u.Path != "/" {
		return nil, errors.New("a proxy is socks5://HOST:PORT, http://HOST:PORT, or https://HOST:PORT")
	}
	switch u.Scheme {
	case "socks5", "socks5h", "http", "https":
		return u, nil
	}
	return nil, errors.New("a proxy is socks5://HOST:PORT, http://HOST:PORT, or https://HOST:PORT")
}

// expandHome replaces a leading ~/ by the home folder.
func expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || rest != "" && rest[0] != '/' {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, rest), nil
}

// absolute expands ~/ and refuses relative paths, which would depend on the working directory.
func absolute(path string) (string, error) {
	path, err := expandHome(path)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is a relative path: begin it with / or ~/", path)
	}
	return path, nil
}

// The functions below convert a TOML value, or report the required type.

func text(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", wantType("a string", v)
	}
	if s == "" {
		return "", errors.New("the string is empty")
	}
	return s, nil
}

func texts(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		s, err := text(v)
		if err != nil {
			return nil, wantType("a string or an array of strings", v)
		}
		return []string{s}, nil
	}
	var texts []string
	for _, v := range list {
		s, err := text(v)
		if err != nil {
			return nil, err
		}
		texts = append(texts, s)
	}
	if len(texts) == 0 {
		return nil, errors.New("the array is empty")
	}
	return texts, nil
}

func boolean(v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, wantType("true or false", v)
	}
	return b, nil
}

func integer(v any, lowest, highest int) (int, error) {
	n, ok := v.(int64)
	if !ok {
		return 0, wantType("an integer", v)
	}
	if n < int64(lowest) || n > int64(highest) {
		return 0, fmt.Errorf("%d is not between %d and %d", n, lowest, highest)
	}
	return int(n), nil
}

func duration(v any) (time.Duration, error) {
	s, ok := v.(string)
	if !ok {
		return 0, wantType(`a duration such as "14d"`, v)
	}
	d, err := ParseDuration(s)
	if err == nil && d == 0 {
		err = errors.New("the duration is zero")
	}
	return d, err
}

func size(v any) (n int64, err error) {
	switch v := v.(type) {
	case int64:
		n = v
	case string:
		n, err = ParseSize(v)
	default:
		return 0, wantType(`a size such as "10M"`, v)
	}
	if err == nil && n <= 0 {
		err = errors.New("the size is not positive")
	}
	return n, err
}

// command takes a string for the shell, or a program and its arguments.
func command(v any) (Command, error) {
	if s, ok := v.(string); ok && strings.TrimSpace(s) != "" {
		return ShellCommand(s), nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, wantType("a command line or an array of a program and its arguments", v)
	}
	var c Command
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, wantType("an array of strings", v)
		}
		c = append(c, s)
	}
	if len(c) == 0 || c[0] == "" {
		return nil, errors.New("the program is missing")
	}
	var err error
	c[0], err = expandHome(c[0])
	return c, err
}

// ShellCommand returns the command that runs a line in the shell of the system.
func ShellCommand(line string) Command {
	if runtime.GOOS == "windows" {
		return Command{"cmd", "/C", line}
	}
	return Command{"/bin/sh", "-c", line}
}

// switchOr takes true for the default, or a string.
func switchOr(v any, byDefault string) (string, error) {
	if b, ok := v.(bool); ok {
		if !b {
			return "", nil
		}
		return byDefault, nil
	}
	s, ok := v.(string)
	if !ok || s == "" {
		return "", wantType("true or a string", v)
	}
	return s, nil
}

func file(v any) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	return absolute(s)
}

func httpsURL(v any) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.User != nil ||
		u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return "", errors.New("an https URL is wanted")
	}
	return s, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func wantType(want string, got any) error {
	name := "another type"
	switch got.(type) {
	case string:
		name = "a string"
	case int64:
		name = "an integer"
	case float64:
		name = "a float"
	case bool:
		name = "a boolean"
	case time.Time:
		name = "a date"
	case []any:
		name = "an array"
	case map[string]any, []map[string]any:
		name = "a table"
	}
	return fmt.Errorf("%s is wanted, not %s", want, name)
}
