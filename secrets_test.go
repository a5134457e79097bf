package pop3

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// TestSecrets has the server say every secret that it heard, in every place where it could be shown.
func TestSecrets(t *testing.T) {
	const secret = "s3cret/tanstaaf"
	plain := "\x00user\x00" + secret
	cram := "user 0123456789abcdef0123456789abcdef"
	bearer := "n,a=user,\x01auth=Bearer " + secret + "\x01\x01"
	login := func(c *Client) error { return c.Login(background, "user", secret) }
	auth := func(mech mechanism) func(c *Client) error {
		return func(c *Client) error { mech := mech; return c.Auth(background, &mech) }
	}
	for name, test := range map[string]struct {
		before string // up to the secret
		do     func(c *Client) error
		says   []string
	}{
		"Pass":  {"C: PASS " + secret, func(c *Client) error { return c.Pass(background, secret) }, []string{secret, in64(secret)}},
		"Cmd":   {"C: pass " + secret, func(c *Client) error { _, err := c.Cmd(background, "pass", secret); return err }, []string{secret}},
		"Login": {"C: CAPA\nS: -ERR\nC: USER user\nS: +OK\nC: PASS " + secret, login, []string{secret}},
		"Login, PLAIN": {"C: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN " + in64(plain), login,
			[]string{secret, in64(plain), in64(secret)}},
		"PLAIN": {"C: AUTH PLAIN " + in64(plain), auth(mechanism{name: "PLAIN", initial: []byte(plain)}), []string{secret, in64(plain)}},
		"PLAIN, later": {"C: AUTH PLAIN\nS: +\nC: " + in64(plain), auth(mechanism{name: "PLAIN", responses: []string{plain}}),
			[]string{secret, in64(plain)}},
		"LOGIN": {"C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: dXNlcg==\nS: + UGFzc3dvcmQ6\nC: " + in64(secret),
			auth(mechanism{name: "LOGIN", responses: []string{"user", secret}}), []string{secret, in64(secret)}},
		"LOGIN, the user's name within the password": {"C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: " + in64("s3cret") + "\nS: + UGFzc3dvcmQ6\nC: " + in64(secret),
			auth(mechanism{name: "LOGIN", responses: []string{"s3cret", secret}}), []string{secret}},
		"CRAM-MD5": {"C: AUTH CRAM-MD5\nS: + PDFAMj4=\nC: " + in64(cram), auth(mechanism{name: "CRAM-MD5", responses: []string{cram}}),
			[]string{cram[5:], in64(cram)}},
		"XOAUTH2":     {"C* AUTH XOAUTH2 ", func(c *Client) error { return c.Auth(background, XOAUTH2("user", secret)) }, []string{secret}},
		"OAUTHBEARER": {"C: AUTH OAUTHBEARER " + in64(bearer), auth(mechanism{name: "OAUTHBEARER", initial: []byte(bearer)}), []string{secret, in64(bearer)}},
		"another":     {"C: AUTH X " + in64(secret), auth(mechanism{name: "X", initial: []byte(secret)}), []string{secret, in64(secret)}},
	} {
		for _, said := range test.says {
			for where, answer := range map[string]string{
				"-ERR":               "S: -ERR " + said + " is wrong",
				"code":               "S: -ERR [" + said + "] is wrong",
				"no status":          "S: " + said + " is what you said",
				"bare LF":            `S- -ERR ` + said + `\n`,
				"cut by a quotation": "S: " + strings.Repeat("x", maxQuote-5) + said,
				"+OK, then last":     "S: +OK\\r\\n-ERR " + said,
				"challenge":          "S: + " + in64("do you mean "+said+"?") + "\nC* \nS: -ERR " + said,
				"challenge, JSON":    "S: + " + in64(`{"token":"`+said+`"}`) + "\nC* \nS: -ERR",
				"not base64":         "S: + " + said + "!\nC: *\nS: -ERR " + said,
			} {
				t.Run(name+"/"+where, func(t *testing.T) {
					if strings.HasPrefix(answer, "S: + ") && !strings.Contains(test.before, "AUTH") {
						answer = "S: + " + said // a challenge to nothing
					}
					var heard bytes.Buffer
					conn := pop3test.Play(t, "S: +OK\n"+test.before+"\n"+answer)
					c := connect(t, &Options{
						AllowInsecureLogin: true,
						DebugWriter:        &heard,
						Logger:             slog.New(slog.NewTextHandler(&heard, &slog.HandlerOptions{Level: slog.LevelDebug})),
					}, conn)
					err := test.do(c)
					if where == "+OK, then last" {
						must(t, err)
						c.s.conn.sock.Close() // so that the last words are reported
						err = c.Noop(background)
					}
					if err == nil {
						t.Fatal("no error")
					}
					fmt.Fprintf(&heard, "\n%v\n%+v\n", err, err)
					if refused := new(ServerError); errors.As(err, &refused) {
						fmt.Fprintf(&heard, "%+v\n", *refused)
					}
					if protocol := new(ProtocolError); errors.As(err, &protocol) {
						fmt.Fprintf(&heard, "%+v\n", *protocol)
					}
					for _, never := range []string{secret, said, secret[:5], secret[6:], in64(said), in64(secret), in64("do you mean " + said + "?")} {
						if strings.Contains(heard.String(), never) {
							t.Errorf("%q is to be seen in:\n%s", never, heard.String())
						}
					}
				})
			}
		}
	}
}

// TestSecretsOfAPOP has the server echo the digest.
// The blanks around a password may be lost in what the server says of it.
func TestSecretsInBlanks(t *testing.T) {
	for _, answer := range []string{"-ERR  hunter2  is wrong", "-ERR hunter2 is wrong", "-ERR [AUTH]  hunter2"} {
		c := dialogue(t, &Options{AllowInsecureLogin: true}, "\nC: PASS  hunter2 \nS: "+answer)
		err := c.Pass(background, " hunter2 ")
		if !isServerError(err) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "hunter2") {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestSecretsOfAPOP(t *testing.T) {
	for _, said := range []string{rfcDigest, "tanstaaf"} {
		var heard bytes.Buffer
		c := script(t, Options{DebugWriter: &heard}, `
			S: +OK `+rfcChallenge+`
			C: APOP mrose `+rfcDigest+`
			S: -ERR not `+said+`
			C: APOP mrose `+rfcDigest+`
			S: +`+said)
		for range 2 {
			err := c.APOP(background, "mrose", "tanstaaf")
			if err == nil {
				t.Fatal("no error")
			}
			fmt.Fprintf(&heard, "%+v\n", err)
		}
		if strings.Contains(heard.String(), said) {
			t.Errorf("%q is to be seen in:\n%s", said, heard.String())
		}
	}
}
