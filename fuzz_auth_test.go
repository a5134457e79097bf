package pop3

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

// The outcomes of an exchange.
const (
	unsent   = "nothing sent"
	success  = "success"
	refused  = "refused"
	canceled = "canceled"
	broken   = "broken"
)

// slowExchange is the reference for AUTH.
type slowExchange struct {
	lines      []string // sent
	challenges []string // received by the mechanism
	end        string
	err        error // of a closed session; see statusSlowly
}

var (
	notLetters     = regexp.MustCompile(`[^A-Za-z0-9]`)
	mechanismName  = regexp.MustCompile(`^[A-Z0-9_-]+$`)
	strictlyBase64 = regexp.MustCompile(`^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`)
)

// authSlowly is the reference for the exchange of a mechanism that has these responses and then fails.
func authSlowly(h *hearing, name string, initial []byte, responses []string, mayShow bool) (x slowExchange) {
	name = strings.ToUpper(name)
	if !mechanismName.MatchString(name) || !mayShow && slices.Contains([]string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"}, name) {
		return slowExchange{end: unsent}
	}
	say := func(line string) bool {
		if len(x.lines) > 0 && h.probe() == io.EOF {
			x.end, x.err = broken, io.ErrUnexpectedEOF
			return false
		}
		x.lines = append(x.lines, line+"\r\n")
		h.send()
		return true
	}
	waiting := initial != nil // the initial response is not sent yet
	line := "AUTH " + name
	if waiting {
		response := in64(string(initial))
		if response == "" {
			response = "="
		}
		if len(line+" "+response+"\r\n") <= 255 {
			line += " " + response
			waiting = false
		}
	}
	say(line)
	for answered := 0; ; answered++ {
		word, text, err := h.status()
		switch {
		case err != nil:
			x.end, x.err = broken, err
			return x
		case word == "-ERR":
			x.end = refused
			return x
		case waiting:
			waiting = false
			if !say(in64(string(initial))) {
				return x
			}
			continue
		case word == "+OK":
			x.end = success
			return x
		}
		cancel := answered == 100 || !strictlyBase64.MatchString(text)
		if !cancel {
			challenge, _ := base64.StdEncoding.DecodeString(text)
			x.challenges = append(x.challenges, string(challenge))
			cancel = len(responses) == 0
		}
		if !cancel {
			if !say(in64(responses[0])) {
				return x
			}
			responses = responses[1:]
			continue
		}
		if !say("*") {
			return x
		}
		word, _, err = h.status()
		switch {
		case err != nil:
			x.end, x.err = broken, err
		case word == "-ERR":
			x.end = canceled
		default:
			x.end, x.err = broken, errRefusedLine
		}
		return x
	}
}

// withSecret is a response of a mechanism with a secret in its usual place.
func withSecret(name, secret string) string {
	switch strings.ToUpper(name) {
	case "PLAIN":
		return "\x00user\x00" + secret
	case "XOAUTH2":
		return "user=user\x01auth=Bearer " + secret + "\x01\x01"
	case "OAUTHBEARER":
		return "n,a=user,\x01auth=Bearer " + secret + "\x01\x01"
	case "CRAM-MD5":
		return "user " + secret
	}
	return secret
}

// checkSecret checks that the shown text contains no part of a secret after line number told, which contains it, was
// sent. It passes if the server has sent the secret before.
func checkSecret(t *testing.T, shown string, told int, answers []string, forms ...string) {
	t.Helper()
	for _, form := range forms {
		if strings.Contains(strings.Join(answers[:min(told, len(answers))], ""), form) {
			return
		}
	}
	for _, form := range forms {
		if strings.Contains(shown, form) {
			t.Errorf("%q is to be seen in:\n%s", form, shown)
		}
	}
}

// FuzzAuth is an exchange of an arbitrary mechanism with a server that sends arbitrary answers. The answers and the
// responses are separated by NUL. In an answer $ stands for the secret, % for its base64 form, and & for that of the
// response with the secret; a response that is $ is that response. start selects the initial response: none, some
// bytes, or the one with the secret.
func FuzzAuth(f *testing.F) {
	const json401 = "+ eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=\r\n"
	long := strings.Repeat("token", 60)
	for _, seed := range []struct {
		name               string
		start              byte
		initial            string
		responses, answers string
	}{
		{"CRAM-MD5", 0, "", "$", "+ PDEyM0B2bT4=\r\n\x00-ERR [AUTH] not $ % &\r\n"},
		{"CRAM-MD5", 0, "", "", "+ PDEyM0B2bT4=\r\n\x00-ERR Authentication aborted by client.\r\n"},
		{"SCRAM-SHA-256", 1, "n,,n=u,r=abc", "c=biws\x00", "+ cj1hYmNkZWYscz1zYWx0LGk9NDA5Ng==\r\n\x00+ dj1zaWduYXR1cmU=\r\n\x00+OK Logged in.\r\n"},
		{"OAUTHBEARER", 2, "", "\x01", "+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\r\n\x00-ERR [AUTH] Authentication failed.\r\n"},
		{"XOAUTH2", 2, "", "", json401 + "\x00-ERR [$] % is wrong\r\n"},
		{"XOAUTH2", 2, "", "", json401 + "\x00-ERR [AUTH] failed\r\n"},
		{"XOAUTH2", 2, "", "\x00", "+ %\r\n\x00-ERR\r\n"},
		{"OAUTHBEARER", 2, "", "", "+ %\r\n\x00-ERR\r\n"},
		{"xoauth2", 1, long, "", "+OK\r\n\x00+OK User successfully logged on.\r\n"},
		{"XOAUTH2", 1, long, "", "+ \r\n\x00-ERR Authentication failure: unknown user name or bad password.\r\n"},
		{"PLAIN", 0, "", "$", "+\r\n\x00+OK User successfully logged on.\r\n+OK $\r\n"},
		{"PLAIN", 2, "", "", "&\r\n"},
		{"LOGIN", 0, "", "user\x00$", "+ VXNlcm5hbWU6\r\n\x00+ UGFzc3dvcmQ6\r\n\x00-ERR $\n"},
		{"X", 1, "", "", "+OK\r\n"},
		{"X", 2, "", "a", "+ who are you, $?\r\n\x00-ERR as you wish, %\r\n"},
		{"X", 2, "", "a", "+ YQ==\r\n-ERR noise\r\n\x00+OK\r\n"},
		{"X", 0, "", "a", "+ YQ\r\n\x00+OK welcome\r\n"},
		{"X", 0, "", "a", "+ Y\rQ==\r\n\x00-ERR\r\n"},
		{"X", 0, "", "a", "+ YR==\r\n\x00+PDFAMj4=\r\n"},
		{"X", 0, "", "", "+ YQ==\r\n\x00+ YQ==\r\n"},
		{"X", 1, strings.Repeat("x", 183), "", "+OK\r\n"},
		{"X", 1, strings.Repeat("x", 184), "", "+ anything\r\n\x00+OK\r\n"},
		{"X", 1, strings.Repeat("x", 184), "", "-ERR\r\n"},
		{"XYZ", 1, strings.Repeat("x", 183), "", "+OK\r\n"},
		{"XYZW", 1, strings.Repeat("x", 183), "", "+\r\n\x00+OK\r\n"},
		{"X", 0, "", strings.Repeat("\x00", 99), strings.Repeat("+\r\n\x00", 100) + "+OK\r\n"},
		{"X", 0, "", strings.Repeat("\x00", 200), strings.Repeat("+\r\n\x00", 101) + "-ERR\r\n"},
		{"X", 1, long, strings.Repeat("\x00", 200), strings.Repeat("+\r\n\x00", 101) + "-ERR\r\n"},
		{"X Y", 0, "", "", "+OK\r\n"},
		{"", 0, "", "", "+OK\r\n"},
	} {
		for _, piece := range []byte{0, 6, 255} {
			f.Add(seed.name, piece > 0, seed.start, []byte(seed.initial), "s3cretTanstaaf", seed.responses, seed.answers, []byte{piece})
		}
	}
	f.Fuzz(func(t *testing.T, name string, mayShow bool, start byte, initial []byte, secret, responses, said string, pieces []byte) {
		said = said[:min(len(said), 1<<11)]
		// No text of this package contains a secret with a # in it.
		secret = "#" + notLetters.ReplaceAllString(secret[:min(len(secret), 50)], "")
		response := withSecret(name, secret)
		echo := strings.NewReplacer("$", secret, "%", in64(secret), "&", in64(response))
		answers := strings.Split(said, "\x00")
		for i := range answers {
			answers[i] = echo.Replace(answers[i])
		}
		told := -1 // the line that contains the secret
		mech := &mechanism{name: name}
		switch start % 3 {
		case 1:
			mech.initial = append([]byte{}, initial...)
		case 2:
			mech.initial = []byte(response)
			told = 0
		}
		for i, r := range strings.Split(responses, "\x00") {
			if r == "$" {
				r = response
			}
			if i > 0 || r != "" {
				mech.responses = append(mech.responses, r)
			}
		}
		all := mech.responses

		var shown bytes.Buffer
		conn := &memory{answers: append([]string{"+OK\r\n"}, answers...), pieces: oracle.Lengths(pieces)}
		c := connect(t, &Options{
			AllowInsecureLogin: mayShow,
			Timeout:            -1,
			MaxLineLength:      longestLine,
			DebugWriter:        &shown,
			Logger:             slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug})),
		}, conn)
		want := authSlowly(&hearing{answers: answers, pieces: conn.pieces, reads: conn.reads}, name, mech.initial, all, mayShow)
		err := c.Auth(background, mech)

		fmt.Fprintf(&shown, "%v\n", err)
		if !slices.Equal(conn.asked, want.lines) {
			t.Errorf("sent %q, want %q", conn.asked, want.lines)
		}
		if !slices.Equal(mech.challenges, want.challenges) {
			t.Errorf("challenges %q, want %q", mech.challenges, want.challenges)
		}
		if (err == nil) != (want.end == success) {
			t.Errorf("%v, want %s", err, want.end)
		}
		no := new(ServerError)
		if errors.As(err, &no) != (want.end == refused || want.end == canceled) {
			t.Errorf("%v, want %s", err, want.end)
		} else if no.Command != "" {
			fmt.Fprintf(&shown, "%+v\n", *no)
			challenge := ""
			for _, challenge = range want.challenges { // the last
			}
			if upper := strings.ToUpper(name); upper != "XOAUTH2" && upper != "OAUTHBEARER" {
				challenge = ""
			}
			if no.Command != "AUTH "+strings.ToUpper(name) || no.Detail != c.s.conn.redact(challenge) {
				t.Errorf("error %+v, and the last challenge was %q", *no, challenge)
			}
		}
		protocol := new(ProtocolError)
		if want.end == canceled && !errors.Is(err, errMechanism) && !errors.As(err, &protocol) {
			t.Errorf("%v does not report why the exchange was canceled", err)
		}
		if want.end == broken {
			checkBroken(t, err, want.err, len(conn.answers) == 0)
		}
		fmt.Fprintf(&shown, "%v\n", checkInSync(t, c, conn, want.end != broken, true))
		if told < 0 && slices.Contains(all, response) {
			told = slices.Index(want.lines, in64(response)+"\r\n")
		}
		if told >= 0 && len(secret) >= 6 {
			checkSecret(t, shown.String(), told, answers, secret, in64(secret), in64(response))
		}
	})
}
