package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]Mailbox{
		"pops://joe@example.com":                 {"joe", "example.com", "", true},
		"pop://joe@example.com/":                 {"joe", "example.com", "", false},
		"POPS://joe%40example.com@pop.x.y:9950":  {"joe@example.com", "pop.x.y", "9950", true},
		"pops://joe@example.com@pop.x.y":         {"joe@example.com", "pop.x.y", "", true},
		"pops://joe@[::1]":                       {"joe", "::1", "", true},
		"pops://joe@[fe80::1%25eth0]:995":        {"joe", "fe80::1%eth0", "995", true},
		"pops://joe@Example.COM:":                {"joe", "example.com", "", true},
		"pops://joe@b%C3%BCcher.example":         {},
		"pops://joe@bücher.example":              {"joe", "xn--bcher-kva.example", "", true},
		"pop://joe@my_host:1":                    {"joe", "my_host", "1", false},
		"pops://a%3Ab%5Cc%2Fd%23e%3Ff%25g%20@h":  {`a:b\c/d#e?f%g `, "h", "", true},
		"pops://j%C3%B6e@h":                      {"jöe", "h", "", true},
		"pops://j%F6e@h":                         {"j\xf6e", "h", "", true},
		"pops://-._~!$&'()*+,;=@h":               {"-._~!$&'()*+,;=", "h", "", true},
		"pops://joe@127.0.0.1:65535":             {"joe", "127.0.0.1", "65535", true},
		"pops://joe@exa%mple.com":                {},
		"pops://joe@[127.0.0.1]":                 {},
		"pops://joe@[::1":                        {},
		"pops://joe@[::1]x":                      {},
		"pops://joe@::1":                         {},
		"pops://joe@example.com:0":               {},
		"pops://joe@example.com:65536":           {},
		"pops://joe%0d%0aDELE@example.com":       {},
		"":                                       {},
		"example.com":                            {},
		"pops:joe@example.com":                   {},
		"http://joe@example.com":                 {},
		"pops://example.com":                     {},
		"pops://@example.com":                    {},
		"pops://joe@":                            {},
		"pops://joe@:995":                        {},
		"pops://joe@example.com/INBOX":           {},
		"pops://joe@example.com?a=b":             {},
		"pops://joe@example.com#a":               {},
		"pops://joe:secret@example.com":          {},
		"pops://joe:@example.com":                {},
		"pops://joe:secret%zz@example.com":       {},
		"pops://joe:secret@exa mple.com":         {},
		"pops://joe@x.y:secret@example.com":      {},
		"pops://joe@example.com:secret":          {},
		"pops://joe@secret/example.com":          {},
		"pops://joe@exa mple.com":                {},
		"pops://joe@example.com\n":               {},
		"pops://joe@" + strings.Repeat("a", 300): {"joe", strings.Repeat("a", 300), "", true},
	} {
		got, err := ParseURL(text)
		if got != want || (err == nil) != (want != Mailbox{}) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: a password is shown: %v", text, err)
		}
	}
}

// The error lists the characters that need an encoding.
func TestParseURLEncoding(t *testing.T) {
	for text, want := range map[string]string{
		`pops://DOM\joe@h`:       `write \ as %5C`,
		"pops://a/b@h":           "write / as %2F",
		"pops://a#b?c@h":         "write # as %23, ? as %3F",
		"pops://50%@h":           "write % as %25",
		"pops://50%4@h":          "write % as %25",
		"pops://joe doe@h":       "write the blank as %20",
		"pops://jöe/ö@h":         "write ö as %C3%B6, / as %2F",
		"pops://joe:@h":          "write it as %3A",
		"pops://a\x1b[31m@h":     "control characters and invalid UTF-8 byte by byte as %XX, [ as %5B",
		"pops://j\xf6e@h":        "byte by byte as %XX",
		`pops://"<joe>"@h`:       `write " as %22, < as %3C, > as %3E`,
		"pops://joe|x^y`{z}@h":   "write | as %7C, ^ as %5E, ` as %60, { as %7B, } as %7D",
		"pops://joe@host:secret": "the port is not a number",
	} {
		if _, err := ParseURL(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

func TestMailbox(t *testing.T) {
	for _, test := range []struct {
		m          Mailbox
		addr, name string
	}{
		{Mailbox{"joe", "h", "", true}, "h:995", "joe@h"},
		{Mailbox{"joe", "h", "110", false}, "h:110", "joe@h"},
		{Mailbox{"joe", "::1", "", false}, "[::1]:110", "joe@::1"},
		{Mailbox{"a\x1bb", "::1", "99", false}, "[::1]:99", `"a\x1bb"@[::1]:99`},
	} {
		if got := test.m.Addr(); got != test.addr {
			t.Errorf("addr %q, want %q", got, test.addr)
		}
		if got := test.m.String(); got != test.name {
			t.Errorf("name %q, want %q", got, test.name)
		}
	}
}

func TestParseDuration(t *testing.T) {
	day := 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"14d": 14 * day, "2w": 14 * day, "1w2d3h": 9*day + 3*time.Hour, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0s": 0,
		"": -1, "14": -1, "-1d": -1, "-1h": -1, "d": -1, "1.5d": -1, "1d2w": -1, "1dx": -1, "99999999999d": -1, "4000000000w": -1,
		"106751d2562047h": -1, "+1d": -1,
	} {
		got, err := ParseDuration(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"4096": 4096, "10M": 10 << 20, "512k": 512 << 10, "1.5G": 3 << 29, "1MiB": 1 << 20, "1mb": 1 << 20, "2T": 2 << 40, " 7 b ": -1,
		"": -1, "M": -1, "-1": -1, "1x": -1, "NaN": -1, "inf": -1, "9e18k": -1, "1 M": -1,
	} {
		got, err := ParseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParsePin(t *testing.T) {
	sum := make([]byte, 32)
	for i := range sum {
		sum[i] = byte(i)
	}
	digits := hex.EncodeToString(sum)
	colons := strings.TrimSuffix(strings.ToUpper(fmt.Sprintf("% x", sum)), " ")
	base := base64.StdEncoding.EncodeToString(sum)
	for text, want := range map[string]string{
		"sha256:" + digits: "sha256:" + digits,
		"SHA256:" + strings.ReplaceAll(colons, " ", ":"): "sha256:" + digits,
		"spki:" + digits:          "spki:" + digits,
		"spki:" + base:            "spki:" + digits,
		"sha256//" + base:         "spki:" + digits,
		"sha256:" + base:          "",
		digits:                    "",
		"sha256:" + digits[2:]:    "",
		"sha256:" + digits + "00": "",
		"sha256//x":               "",
		"sha1:" + digits:          "",
		"spki:" + base64.StdEncoding.EncodeToString(sum[1:]): "",
	} {
		p, err := ParsePin(text)
		got := p.String()
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestParseDest(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", "/home/joe")
	if wd, err := os.Getwd(); err == nil {
		dir = wd
	}
	for text, want := range map[string]string{
		"Maildir":                          "maildir:" + filepath.Join(dir, "Maildir"),
		"~/Mail":                           "maildir:/home/joe/Mail",
		"/a/b/":                            "maildir:/a/b",
		"./with:colon":                     "maildir:" + filepath.Join(dir, "with:colon"),
		"maildir:x":                        "maildir:" + filepath.Join(dir, "x"),
		"eml:/x":                           "eml:/x",
		"mbox:~/inbox":                     "mbox:/home/joe/inbox",
		"pipe:cat >x":                      "pipe:cat >x",
		"-":                                "-",
		"stdout:":                          "-",
		"lmtp://localhost?to=joe":          "lmtp://localhost:24?to=joe",
		"lmtp:///run/lmtp?to=joe&to=a@b,c": "lmtp:///run/lmtp?to=joe,a@b,c",
		"smtp://[::1]?to=a@b":              "smtp://[::1]:25?to=a@b",
		"smtps://h?to=a@b":                 "smtp://h:465?to=a@b",
		"":                                 "", "maildir:": "", "pipe: ": "", "imap://x": "", "foo:bar": "",
		"smtp://h": "", "smtp:///run/x?to=a": "", "lmtp://u:p@h?to=a": "", "smtp://h/x?to=a": "", "smtp://?to=a": "",
		"smtp://h?to=a&tls=maybe": "", "smtp://h?to=a&color=red": "", "smtp://h?to=a%0d%0aDATA": "", "smtp://h?to=": "",
		"smtp://h?to=<a>": "", "smtp://h?to=a@b&from=x%20y": "", "lmtp://h?to=a&tls=starttls": "", "smtp://h?to=Joe%20<a@b>": "", "smtp://h:x?to=a": "",
	} {
		d, err := ParseDest(text)
		got := d.String()
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]Dest{
		"smtp://h?to=a@b":                   {Kind: SMTP, Addr: "h:25", TLS: TLSStart, From: "a@b", To: []string{"a@b"}},
		"smtp://h?to=a@b&from=<>&tls=none":  {Kind: SMTP, Addr: "h:25", TLS: TLSNone, To: []string{"a@b"}},
		"smtp://127.0.0.1?to=a@b&from=x@y":  {Kind: SMTP, Addr: "127.0.0.1:25", TLS: TLSNone, From: "x@y", To: []string{"a@b"}},
		"lmtp://h:2424?to=joe&tls=implicit": {Kind: LMTP, Addr: "h:2424", TLS: TLSImplicit, To: []string{"joe"}},
	} {
		if got, err := ParseDest(text); err != nil || fmt.Sprint(got) != fmt.Sprint(want) || got.From != want.From || got.TLS != want.TLS {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestDefaultPlaces(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	env := map[string]string{"HOME": "/home/joe"}
	getenv := func(name string) string { return env[name] }
	check := func(config, state string) {
		t.Helper()
		if got, err := DefaultFile(getenv); got != config || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := DefaultStateDir(getenv); got != state || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	check("/home/joe/.config/pop3/config.toml", "/home/joe/.local/state/pop3")
	env["XDG_CONFIG_HOME"], env["XDG_STATE_HOME"] = "/c", "relative"
	check("/c/pop3/config.toml", "/home/joe/.local/state/pop3")
	env["XDG_STATE_HOME"] = "/s"
	check("/c/pop3/config.toml", "/s/pop3")
}
