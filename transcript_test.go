package pop3

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// TestSecrets has the server echo every secret that it received, in every encoding, in every place that could be shown.
func TestSecrets(t *testing.T) {
	const (
		secret = "S3cret/tan~~~aaf"
		proof  = "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
		digest = "0123456789abcdef0123456789abcdef"
	)
	plain := "\x00user\x00" + secret
	cram := "user " + digest
	bearer := "n,a=user,\x01auth=Bearer " + secret + "\x01\x01"
	scram := "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=" + proof
	digestMD5 := `username="user",realm="x",nonce="y",nc=00000001,cnonce="z",digest-uri="pop/x",response=` + digest + ",qop=auth"
	login := func(c *Client) error { return c.Login(background, "user", secret) }
	auth := func(mech mechanism) func(c *Client) error {
		return func(c *Client) error { mech := mech; return c.Auth(background, &mech) }
	}
	for name, test := range map[string]struct {
		before  string // up to the secret
		do      func(c *Client) error
		secrets []string
	}{
		"Pass":         {"C: PASS " + secret, func(c *Client) error { return c.Pass(background, secret) }, []string{secret}},
		"Cmd":          {"C: pass " + secret, func(c *Client) error { _, err := c.Cmd(background, "pass", secret); return err }, []string{secret}},
		"Login":        {"C: CAPA\nS: -ERR\nC: USER user\nS: +OK\nC: PASS " + secret, login, []string{secret}},
		"Login, USER":  {"C: CAPA\nS: -ERR\nC: USER user", login, []string{secret}},
		"Login, PLAIN": {"C: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN " + in64(plain), login, []string{secret, plain}},
		"PLAIN":        {"C: AUTH PLAIN " + in64(plain), auth(mechanism{name: "PLAIN", initial: []byte(plain)}), []string{secret, plain}},
		"PLAIN, later": {"C: AUTH PLAIN\nS: +\nC: " + in64(plain), auth(mechanism{name: "PLAIN", responses: []string{plain}}), []string{secret, plain}},
		"LOGIN": {"C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: dXNlcg==\nS: + UGFzc3dvcmQ6\nC: " + in64(secret),
			auth(mechanism{name: "LOGIN", responses: []string{"user", secret}}), []string{secret}},
		"LOGIN, no prompts": {"C: AUTH LOGIN\nS: +\nC: dXNlcg==\nS: +\nC: " + in64(secret),
			auth(mechanism{name: "LOGIN", responses: []string{"user", secret}}), []string{secret}},
		"LOGIN, the password first": {"C: AUTH LOGIN\nS: + UGFzc3dvcmQ6\nC: " + in64(secret), auth(mechanism{name: "LOGIN", responses: []string{secret}}), []string{secret}},
		"LOGIN, the user's name within the password": {"C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: " + in64("s3cret") + "\nS: + UGFzc3dvcmQ6\nC: " + in64(secret),
			auth(mechanism{name: "LOGIN", responses: []string{"s3cret", secret}}), []string{secret}},
		"CRAM-MD5":   {"C: AUTH CRAM-MD5\nS: + PDFAMj4=\nC: " + in64(cram), auth(mechanism{name: "CRAM-MD5", responses: []string{cram}}), []string{digest, cram}},
		"DIGEST-MD5": {"C: AUTH DIGEST-MD5\nS: + PDFAMj4=\nC: " + in64(digestMD5), auth(mechanism{name: "DIGEST-MD5", responses: []string{digestMD5}}), []string{digest, digestMD5}},
		"SCRAM": {"C: AUTH SCRAM-SHA-1 " + in64("n,,n=user,r=abc") + "\nS: + cj1h\nC: " + in64(scram),
			auth(mechanism{name: "SCRAM-SHA-1", initial: []byte("n,,n=user,r=abc"), responses: []string{scram}}), []string{proof, scram}},
		"XOAUTH2":     {"C* AUTH XOAUTH2 ", func(c *Client) error { return c.Auth(background, XOAUTH2("user", secret)) }, []string{secret}},
		"OAUTHBEARER": {"C: AUTH OAUTHBEARER " + in64(bearer), auth(mechanism{name: "OAUTHBEARER", initial: []byte(bearer)}), []string{secret, bearer}},
		"another":     {"C: AUTH X " + in64(secret), auth(mechanism{name: "X", initial: []byte(secret)}), []string{secret}},
	} {
		for _, secret := range test.secrets {
			for encoding, encode := range encodings {
				t.Run(name+"/"+encoding, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						for where, place := range places {
							if where != "-ERR" && strings.Contains(name, ",") || place.challenge && !strings.Contains(test.before, "AUTH ") {
								continue
							}
							checkHidden(t, where, "S: +OK\n"+test.before+"\n"+place.answer, test.do, place.then, secret, encode(secret))
						}
					})
				})
			}
		}
	}
}

// places are the positions in which a server may echo a secret, %, and the calls that report it.
var places = map[string]struct {
	answer    string
	then      func(c *Client) error
	challenge bool // it is one of AUTH
}{
	"-ERR":                 {"S: -ERR % is wrong", nil, false},
	"code":                 {"S: -ERR [%] is wrong", nil, false},
	"code, level":          {"S: -ERR [SYS/TEMP/%] is wrong", nil, false},
	"no status":            {"S: % is your input", nil, false},
	"bare LF":              {`S- -ERR %\n`, nil, false},
	"cut by a quotation":   {"S: " + strings.Repeat("x", maxQuote-5) + "%", nil, false},
	"unfinished":           {"S- -ERR %\n!close", nil, false},
	"+OK, then last":       {"S: +OK\\r\\n-ERR %", func(c *Client) error { c.s.conn.sock.Close(); return c.Noop(background) }, false},
	"+OK, then unfinished": {"S- +OK\\r\\n-ERR %", func(c *Client) error { c.s.conn.sock.Close(); return c.Noop(background) }, false},
	"challenge":            {"S: + %%\nC* \nS: -ERR %", nil, true},
	"not base64":           {"S: + %!\nC: *\nS: -ERR %", nil, true},
	"STAT": {"S: -ERR\nC: STAT\nS: +OK %", func(c *Client) error {
		_, _, err := c.Stat(background)
		return err
	}, false},
	"LIST": {"S: -ERR\nC: LIST\nS: +OK\nS: x %\nS: .\nC: NOOP\nS: +OK", func(c *Client) error {
		l, err := c.List(background)
		if err == nil {
			_, err = l.Slice()
		}
		return errors.Join(err, c.Noop(background))
	}, false},
	"CAPA": {"S: -ERR\nC: CAPA\nS: +OK %\nS: IMPLEMENTATION %\nS: .", func(c *Client) error {
		_, err := c.RefreshCapabilities(background)
		return err
	}, false},
	"RETR": {"S: -ERR\nC: RETR 1\nS: +OK %\nS: .\nC: RETR 2\nS: -ERR %", func(c *Client) error {
		m, err := c.Retr(background, 1)
		if err == nil {
			m.Close()
			_, err = c.Retr(background, 2)
		}
		return err
	}, false},
	"DELE, pipelined": {"S: -ERR\nC: CAPA\nS: +OK\nS: PIPELINING\nS: .\nC: DELE 1\nC: DELE 2\nS: -ERR %\nS- +OK\\r\\n%", func(c *Client) error {
		_, err := c.RefreshCapabilities(background)
		return errors.Join(err, c.DeleAll(background, []int{1, 2}))
	}, false},
}

// checkHidden plays a transcript in which % stands for the server's echo of a secret, and %% for a challenge that
// contains it. Neither may be shown, not even in large part.
func checkHidden(t *testing.T, where, transcript string, do, then func(c *Client) error, secret, said string) {
	t.Helper()
	challenge := in64("do you mean " + said + "?")
	escaped := strings.NewReplacer(`\`, `\\`, "\x00", `\0`, "\x01", `\x01`).Replace(said)
	transcript = strings.NewReplacer("%%", challenge, "%", escaped).Replace(transcript)
	var shown bytes.Buffer
	c := connect(t, &Options{
		AllowInsecureLogin: true,
		DebugWriter:        &shown,
		Logger:             slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, pop3test.Play(t, transcript))
	errs := []error{do(c)}
	if then != nil {
		errs = append(errs, then(c))
	}
	for _, err := range errs {
		fmt.Fprintf(&shown, "\n%v\n%+v\n", err, err)
		if refused := new(ServerError); errors.As(err, &refused) {
			fmt.Fprintf(&shown, "%+v\n", *refused)
		}
		if protocol := new(ProtocolError); errors.As(err, &protocol) {
			fmt.Fprintf(&shown, "%+v\n", *protocol)
		}
	}
	c.Close()
	all := strings.ToLower(shown.String())
	for _, never := range []string{secret, said, printable(said), secret[:6], secret[len(secret)-6:], in64(secret), challenge} {
		if strings.Contains(all, strings.ToLower(never)) {
			t.Errorf("%s: %q appears in:\n%s\n%s", where, never, shown.String(), transcript)
			return
		}
	}
}

// A short password could be guessed from the redacted parts of the server's words.
func TestShortSecrets(t *testing.T) {
	var shown bytes.Buffer
	c := dialogue(t, &Options{AllowInsecureLogin: true, DebugWriter: &shown}, `
		C: PASS p
		S: -ERR [SYS/TEMP] not implemented
		C: PASS S
		S: -ERR [SYS/TEMP] no
		C: STAT
		S: +OK perhaps
		C: DELE 1
		S: -ERR [IN-USE] no`)
	for _, password := range []string{"p", "S"} {
		err := c.Pass(background, password)
		if refused := new(ServerError); !errors.As(err, &refused) || refused.Code != CodeSysTemp || !refused.Temporary() {
			t.Errorf("error %v", err)
		}
	}
	_, _, err := c.Stat(background)
	if protocol := wantProtocolError(t, err); protocol.Line != hidden {
		t.Errorf("line %q", protocol.Line)
	}
	refusedWith("DELE 1", "no")(t, c.Dele(background, 1))
	const want = "S: +OK ready\nC: PASS ****\nS: -ERR [SYS/TEMP] ****\nC: PASS ****\nS: -ERR [SYS/TEMP] no\n" +
		"C: STAT\nS: +OK ****\nC: DELE 1\nS: -ERR [IN-USE] no\n"
	if shown.String() != want {
		t.Errorf("transcript:\n%s\nwant:\n%s", shown.String(), want)
	}
}

// A connection that is cut within a secret shows no recognizable part of it.
func TestSecretsCut(t *testing.T) {
	const said = "-ERR you said hunter2"
	for n := len("-ERR you said "); n < len(said); n++ {
		c := dialogue(t, &Options{AllowInsecureLogin: true}, "\nC: PASS hunter2\nS- "+said[:n]+"\n!close")
		if err := c.Pass(background, "hunter2"); err == nil || strings.Contains(err.Error(), "said hun") {
			t.Errorf("%v", err)
		}
	}
}

// The proof of SCRAM is base64 itself, which may be written in the alphabet of URLs.
func TestSecretsOfSCRAM(t *testing.T) {
	response := "c=biws,r=abc,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
	c := dialogue(t, nil, "\nC: AUTH SCRAM-SHA-1\nS: +\nC: "+in64(response)+"\nS: -ERR not v0X8v3Bz2T0CJGbJQyF0X-HI4Ts, no")
	err := c.Auth(background, &mechanism{name: "SCRAM-SHA-1", responses: []string{response}})
	refusedWith("AUTH SCRAM-SHA-1", "not ****, no")(t, err)
}

// Arguments of the caller show no secret either, once it is known.
func TestSecretsInCommands(t *testing.T) {
	for name, do := range map[string]func(c *Client, ctx context.Context) error{
		"USER":  func(c *Client, ctx context.Context) error { return c.User(ctx, "hunter2") },
		"Login": func(c *Client, ctx context.Context) error { return c.Login(ctx, "hunter2", "hunter2") },
		"APOP":  func(c *Client, ctx context.Context) error { return c.APOP(ctx, "hunter2", "hunter2") },
		"Cmd":   func(c *Client, ctx context.Context) error { _, err := c.Cmd(ctx, "XTND", "hunter2"); return err },
		"CmdMultiline": func(c *Client, ctx context.Context) error {
			_, err := c.CmdMultiline(ctx, "XTND", "x", "hunter2")
			return err
		},
	} {
		for _, answer := range []string{"S: -ERR no", "S: nonsense", "!close", "!stall", "canceled"} {
			t.Run(name+" "+answer, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := background
					if answer == "canceled" {
						ctx = doneContext()
					}
					var shown bytes.Buffer
					transcript := " <1@2>\nC: PASS hunter2\nS: -ERR\n"
					if name == "Login" {
						transcript = "\nC: PASS hunter2\nS: -ERR\nC: CAPA\nS: -ERR\n"
					}
					transcript += "C* \n" + answer
					if answer == "canceled" {
						transcript = "\nC: PASS hunter2\nS: -ERR"
					}
					c := dialogue(t, &Options{AllowInsecureLogin: true, DebugWriter: &shown}, transcript)
					c.Pass(background, "hunter2")
					err := do(c, ctx)
					if err == nil {
						t.Fatal("no error")
					}
					fmt.Fprintf(&shown, "%v %+v", err, err)
					if strings.Contains(shown.String(), "hunter2") {
						t.Error(shown.String())
					}
				})
			})
		}
	}
}

// quoting is a mechanism whose error quotes the challenge.
type quoting struct{}

func (quoting) Start() (string, []byte, error) { return "X", []byte("hunter2"), nil }
func (quoting) Next(challenge []byte) ([]byte, error) {
	return nil, fmt.Errorf("unexpected challenge %s", challenge)
}

func TestSecretsInErrorsOfMechanisms(t *testing.T) {
	c := dialogue(t, nil, "\nC: AUTH X "+in64("hunter2")+"\nS: + "+in64("not hunter2")+"\nC: *\nS: -ERR")
	err := c.Auth(background, quoting{})
	if want := "pop3: AUTH X: unexpected challenge not ****\npop3: AUTH X: -ERR"; err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// An error of the connection, such as that of a proxy, may quote the server.
func TestSecretsInErrorsOfConnections(t *testing.T) {
	for _, err := range []error{errors.New("proxy: not HUNTER2"), io.ErrClosedPipe, &net.OpError{Op: "read", Err: errors.New("reset")}} {
		var tr transcript
		tr.keepSecret("hunter2", "s")
		got := tr.shown(err)
		if wantError(t, got, err); strings.Contains(got.Error(), "HUNTER2") {
			t.Errorf("error %q", got)
		}
		if _, isOurs := got.(*commandError); !isOurs && got != err {
			t.Errorf("error %v of %v", got, err)
		}
	}
}

// A certificate may contain a secret too.
func TestSecretsInCertificates(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"HUNTER2.example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	config := &tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(cert)
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		io.WriteString(server, "+OK\r\n")
		for _, answer := range []string{"-ERR\r\n", "+OK\r\nSTLS\r\n.\r\n", "+OK\r\n"} {
			server.Read(make([]byte, 100))
			io.WriteString(server, answer)
		}
		tls.Server(server, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}).Handshake()
	}()
	c := connect(t, &Options{AllowInsecureLogin: true}, client)
	c.Pass(background, "hunter2")
	err = c.StartTLS(background, config)
	if wrong := new(tls.CertificateVerificationError); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "valid for ****.example.org, not localhost") {
		t.Errorf("error %q", err)
	}
}

// The server may echo a password without the blanks around it.
func TestSecretsInBlanks(t *testing.T) {
	for _, answer := range []string{"-ERR  hunter2  is wrong", "-ERR hunter2 is wrong", "-ERR [AUTH]  hunter2"} {
		c := dialogue(t, &Options{AllowInsecureLogin: true}, "\nC: PASS  hunter2 \nS: "+answer)
		err := c.Pass(background, " hunter2 ")
		if !isServerError(err) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "hunter2") {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

// TestSecretsOfAPOP has the server echo the digest.
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
			t.Errorf("%q appears in:\n%s", said, heard.String())
		}
	}
}

func TestDebugWriter(t *testing.T) {
	var transcript strings.Builder
	c := dialogue(t, &Options{DebugWriter: &transcript, AllowInsecureLogin: true}, `
		C: USER u
		S: +OK \x1b[1m
		C: PASS tanstaaf
		S: +OK not tanstaaf but dGFuc3RhYWY=
		C: CAPA
		S: +OK
		S: TOP
		S: .
		C: RETR 1
		S: +OK
		S: tanstaaf
		S: .
		C: RETR 2
		S: -ERR gone
		C: RETR 3
		S: +OK\r\ncut
		!close`)
	must(t, c.User(background, "u"))
	must(t, c.Pass(background, "tanstaaf"))
	_, err := c.Capabilities(background)
	must(t, err)
	m, err := c.Retr(background, 1)
	readAll(t, m, err, "tanstaaf\r\n")
	c.Retr(background, 2)
	if m, err = c.Retr(background, 3); err == nil {
		_, err = io.Copy(io.Discard, m)
	}
	wantError(t, err, io.ErrUnexpectedEOF)
	want := `S: +OK ready
C: USER u
S: +OK \x1b[1m
C: PASS ****
S: +OK not **** but ****
C: CAPA
S: +OK
S: TOP
S: .
C: RETR 1
S: +OK
S: [10 octets]
C: RETR 2
S: -ERR gone
C: RETR 3
S: +OK
S: [5 octets, truncated]
`
	if transcript.String() != want {
		t.Errorf("transcript:\n%s\nwant:\n%s", transcript.String(), want)
	}
}
