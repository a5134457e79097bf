package pop3test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// capa returns the response to CAPA as transcript lines.
func capa(lines ...string) string {
	return "C: CAPA\nS: +OK capability list follows\nS: " + strings.Join(lines, "\nS: ") + "\nS: .\n"
}

func TestCapa(t *testing.T) {
	const greeting = "S: +OK pop3test ready\n"
	const in = "C: USER user\nS: +OK send PASS\nC: PASS secret\nS: +OK logged in\n"
	for name, test := range map[string]struct {
		server     *Server
		transcript string
	}{
		"plain": {&Server{}, greeting +
			capa("TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "IMPLEMENTATION pop3test")},
		"default": {NewUnstartedServer(nil), greeting +
			capa("TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "STLS", "IMPLEMENTATION pop3test") + in +
			capa("TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "IMPLEMENTATION pop3test")},
		"all": {&Server{SASL: []string{"PLAIN", "SCRAM-SHA-1"}, UTF8: true, Langs: []string{"de Deutsch"}, Caps: []string{"EXPIRE NEVER", "EXPIRENEVER"}}, greeting +
			capa("TOP", "UIDL", "USER", "SASL PLAIN SCRAM-SHA-1", "RESP-CODES", "AUTH-RESP-CODE", "UTF8 USER", "LANG", "EXPIRE NEVER", "EXPIRENEVER", "IMPLEMENTATION pop3test")},
		"after login": {&Server{Pipelining: true, CapsAfterLogin: true}, greeting +
			capa("USER", "RESP-CODES", "AUTH-RESP-CODE", "IMPLEMENTATION pop3test") + in +
			capa("TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "IMPLEMENTATION pop3test")},
		"no USER": {&Server{NoUSER: true, SASL: []string{"PLAIN"}}, greeting +
			capa("TOP", "UIDL", "SASL PLAIN", "RESP-CODES", "AUTH-RESP-CODE", "IMPLEMENTATION pop3test") +
			"C: USER user\nS: -ERR unknown command\nC: PASS secret\nS: -ERR unknown command\n"},
		"no CAPA": {&Server{NoCAPA: true}, greeting + "C: CAPA\nS: -ERR unknown command\n"},
		"TLS only": {&Server{STLS: true, LoginRequiresTLS: true, SASL: []string{"PLAIN"}}, greeting +
			capa("TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "STLS", "IMPLEMENTATION pop3test") + `
			C: USER user
			S: -ERR [AUTH] not without TLS
			C: PASS secret
			S: -ERR [AUTH] not without TLS
			C: AUTH PLAIN AHVzZXIAc2VjcmV0
			S: -ERR [AUTH] not without TLS
			C: STLS
			S: +OK begin TLS
			!tls
			` + capa("TOP", "UIDL", "USER", "SASL PLAIN", "RESP-CODES", "AUTH-RESP-CODE", "IMPLEMENTATION pop3test") + in},
	} {
		t.Run(name, func(t *testing.T) {
			defer test.server.Close()
			pipe(t, test.server).talk(test.transcript)
		})
	}
}

func TestUTF8AndLang(t *testing.T) {
	s := &Server{UTF8: true, Langs: []string{"en English", "de Deutsch"}}
	defer s.Close()
	pipe(t, s).talk(`
		S: +OK pop3test ready
		C: UTF8
		S: +OK UTF8 enabled
		C: LANG
		S: +OK language listing follows
		S: en English
		S: de Deutsch
		S: .
		C: LANG DE
		S: +OK de Deutsch
		C: LANG *
		S: +OK en English
		C: LANG fr
		S: -ERR no such language
		C: USER user
		S: +OK send PASS
		C: PASS secret
		S: +OK logged in
		C: UTF8
		S: -ERR not in this state
		C: LANG de
		S: +OK de Deutsch` + quit)
}

func TestSTLS(t *testing.T) {
	s := NewServer(three())
	defer s.Close()
	for name, connect := range map[string]func(*testing.T, *Server) *client{"pipe": pipe, "tcp": dial} {
		t.Run(name, func(t *testing.T) {
			// Plaintext sent after STLS has no effect.
			connect(t, s).talk(`
				S: +OK pop3test ready
				C: USER user
				S: +OK send PASS
				C* STLS\r\nPASS secret\r\n
				S: +OK begin TLS
				!tls
				C: STLS
				S: -ERR TLS is active already
				` + strings.Replace(login, "S: +OK pop3test ready", "", 1) + quit)
		})
	}
	if slices.Contains(s.Commands()[:3], "PASS secret") {
		t.Error("the injected command was read")
	}
	c := pipe(t, s)
	c.talk("S: +OK pop3test ready\nC: STLS\nS: +OK begin TLS\nC: no handshake\n!close")
}

// The year in a bubble is 2000, and there must be no deadlock.
func TestTLSInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewUnstartedServer(three())
		defer s.Close()
		c := pipe(t, s)
		c.talk("S: +OK pop3test ready\nC: STLS\nS: +OK begin TLS\n!tls" + strings.Replace(walk, "S: +OK pop3test ready", "", 1))
		c.Conn.Close() // sends close_notify, which must not block

		c = newClient(t, s.PipeTLS())
		c.talk("!tls\nS: +OK pop3test ready\nC: STLS\nS: -ERR TLS is active already" + quit)
	})
}

// A client that does not trust the server sends an alert while the server is still writing.
func TestTLSDistrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewUnstartedServer(nil)
		defer s.Close()
		c := pipe(t, s)
		c.talk("S: +OK pop3test ready\nC: STLS\nS: +OK begin TLS")
		c.SetDeadline(time.Time{})
		if err := tls.Client(c.Conn, &tls.Config{ServerName: "localhost"}).Handshake(); err == nil {
			t.Error("the certificate is trusted")
		}
	})
}

func TestTLSServer(t *testing.T) {
	s := NewTLSServer(three())
	defer s.Close()
	for range 2 {
		conn, err := tls.Dial("tcp", s.Addr, s.TLSConfig())
		if err != nil {
			t.Fatal(err)
		}
		newClient(t, conn).talk(walk[:strings.Index(walk, "C: DELE")] + quit)
	}
	pipe(t, s).talk("!tls\n" + login)
	if _, err := tls.Dial("tcp", s.Addr, nil); err == nil {
		t.Error("the certificate is trusted without TLSConfig")
	}
	if n := s.MaxInFlight(); n != 0 {
		t.Errorf("MaxInFlight counts %d under TLS", n)
	}
}

// A caller's certificate, TLS 1.2, and EXTERNAL with a client certificate.
func TestTLSConfig(t *testing.T) {
	s := NewUnstartedServer(nil)
	s.SASL = []string{"EXTERNAL"}
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{certificate()},
		ClientAuth:   tls.RequestClientCert,
		MaxVersion:   tls.VersionTLS12,
	}
	s.Start()
	defer s.Close()
	for _, test := range []struct {
		certificates []tls.Certificate
		response     string
		answer       string
	}{
		{[]tls.Certificate{certificate()}, "=", "+OK logged in"},
		{[]tls.Certificate{certificate()}, "dXNlcg==", "+OK logged in"},
		{[]tls.Certificate{certificate()}, "cm9vdA==", "-ERR [AUTH] wrong user name or password"},
		{nil, "=", "-ERR [AUTH] wrong user name or password"},
	} {
		c := dial(t, s)
		c.conf = s.TLSConfig()
		c.conf.Certificates = test.certificates
		c.talk(`
			S: +OK pop3test ready
			C: AUTH EXTERNAL =
			S: -ERR [AUTH] wrong user name or password
			C: STLS
			S: +OK begin TLS
			!tls
			C: AUTH EXTERNAL ` + test.response + `
			S: ` + test.answer)
		if v := c.Conn.(*tls.Conn).ConnectionState().Version; v != tls.VersionTLS12 {
			t.Errorf("TLS version %x", v)
		}
	}
}

func TestAPOP(t *testing.T) {
	s := &Server{APOP: true, Greeting: "hello", User: "mrose", Password: "tanstaaf"}
	defer s.Close()
	seen := make(map[string]bool)
	for range 2 {
		c := pipe(t, s)
		greeting, _ := c.r.ReadString('\n')
		stamp, ok := strings.CutPrefix(strings.TrimSpace(greeting), "+OK hello ")
		if !ok || stamp[0] != '<' || !strings.HasSuffix(stamp, "@localhost>") || seen[stamp] {
			t.Fatalf("greeting %q", greeting)
		}
		seen[stamp] = true
		digest := md5.Sum([]byte(stamp + "tanstaaf"))
		c.talk(fmt.Sprintf(`
			C: APOP mrose 0%[1]x
			S: -ERR [AUTH] wrong user name or password
			C: APOP user %[1]x
			S: -ERR [AUTH] wrong user name or password
			C: APOP mrose %[1]x
			S: +OK logged in`, digest))
	}
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

const (
	accepted = "S: +OK logged in\n"
	wrong    = "S: -ERR [AUTH] wrong user name or password\n"
)

func TestAuth(t *testing.T) {
	s := &Server{SASL: []string{"PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-1"}, Maildrop: three()}
	defer s.Close()
	plain := b64("\x00user\x00secret")
	xoauth2 := b64("user=user\x01auth=Bearer secret\x01\x01")
	bearer := b64("n,a=user,\x01host=localhost\x01port=110\x01auth=Bearer secret\x01\x01")
	trouble := "S: + " + b64(`{"status":"invalid_token","schemes":"bearer","scope":"mail"}`) + "\n"
	for _, transcript := range []string{
		"C: AUTH PLAIN " + plain + "\n" + accepted,
		"C: auth plain\nS: + \nC: " + plain + "\n" + accepted,
		"C: AUTH PLAIN " + b64("user\x00user\x00secret") + "\n" + accepted,
		"C: AUTH PLAIN " + b64("root\x00user\x00secret") + "\n" + wrong,
		"C: AUTH PLAIN " + b64("\x00user\x00Secret") + "\n" + wrong,
		"C: AUTH PLAIN " + b64("\x00root\x00secret") + "\n" + wrong,
		"C: AUTH PLAIN " + b64("user\x00secret") + "\n" + wrong,
		"C: AUTH PLAIN =\n" + wrong + "C: AUTH PLAIN " + plain + "\n" + accepted,
		"C: AUTH PLAIN\nS: + \nC:\n" + wrong,
		"C: AUTH PLAIN\nS: + \nC: *\nS: -ERR authentication canceled\nC: QUIT\nS: +OK bye\n!close",
		"C: AUTH PLAIN YR==\nS: -ERR response is not base64\n",
		"C: AUTH PLAIN ?\nS: -ERR response is not base64\n",
		"C: AUTH PLAIN " + plain[:5] + "\nS: -ERR response is not base64\n",
		"C: AUTH PLAIN " + strings.Repeat("A", 300) + "\nS: -ERR line too long\nC: CAPA\nS- +OK",
		"C: AUTH PLAIN\nS: + \nC: " + strings.Repeat("A", 60000) + "\n" + wrong,
		"C: AUTH PLAIN\nS: + \nC: " + strings.Repeat("A", 70000) + "\nS: -ERR line too long\nC: CAPA\nS- +OK",
		"C: AUTH PLAIN\nS: + \nC* AAAA\\n\nS: -ERR a line ends with CRLF\n",

		"C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: dXNlcg==\nS: + UGFzc3dvcmQ6\nC: c2VjcmV0\n" + accepted,
		"C: AUTH LOGIN dXNlcg==\nS: + UGFzc3dvcmQ6\nC: c2VjcmV0\n" + accepted,
		"C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: dXNlcg==\nS: + UGFzc3dvcmQ6\nC:\n" + wrong,
		"C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: *\nS: -ERR authentication canceled\n",

		"C: AUTH CRAM-MD5 dXNlcg==\nS: -ERR no initial response in this mechanism\n",

		"C: AUTH XOAUTH2 " + xoauth2 + "\n" + accepted,
		"C: AUTH XOAUTH2\nS: + \nC: " + xoauth2 + "\n" + accepted,
		"C: AUTH XOAUTH2 " + b64("user=user\x01auth=Bearer expired\x01\x01") + "\n" + trouble + "C:\n" + wrong,
		"C: AUTH XOAUTH2 " + b64("user=user\x01auth=Bearer expired\x01\x01") + "\n" + trouble + "C: *\nS: -ERR authentication canceled\n",

		"C: AUTH OAUTHBEARER " + bearer + "\n" + accepted,
		"C: AUTH OAUTHBEARER " + b64("n,,\x01auth=Bearer secret\x01\x01") + "\n" + accepted,
		"C: AUTH OAUTHBEARER " + b64("n,a=root,\x01auth=Bearer secret\x01\x01") + "\n" + trouble + "C: AQ==\n" + wrong,
		"C: AUTH OAUTHBEARER " + b64("y,,\x01auth=Bearer secret\x01\x01") + "\n" + trouble + "C: AQ==\n" + wrong,
		"C: AUTH OAUTHBEARER " + b64("n,,\x01auth=Bearer expired\x01\x01") + "\n" + trouble + "C: AQ==\n" + wrong,
		"C: AUTH OAUTHBEARER =\n" + trouble + "C: AQ==\n" + wrong,

		"C: AUTH SCRAM-SHA-1\nS: -ERR unknown authentication mechanism\n",
		"C: AUTH EXTERNAL\nS: -ERR unknown authentication mechanism\n",
		"C: AUTH\nS: -ERR wrong number of arguments\n",
	} {
		c := pipe(t, s)
		c.talk("S: +OK pop3test ready\n" + transcript)
		if strings.HasSuffix(transcript, accepted) {
			c.talk("C: NOOP\nS: +OK nothing done\nC: AUTH PLAIN\nS: -ERR not in this state")
		}
	}
}

func TestCRAMMD5(t *testing.T) {
	s := &Server{SASL: []string{"CRAM-MD5"}}
	defer s.Close()
	for _, test := range []struct{ user, password, answer string }{
		{"user", "secret", accepted},
		{"user", "Secret", wrong},
		{"root", "secret", wrong},
	} {
		c := pipe(t, s)
		c.talk("S: +OK pop3test ready\nC: AUTH CRAM-MD5")
		line, _ := c.r.ReadString('\n')
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line[2:]))
		if err != nil || challenge[0] != '<' {
			t.Fatalf("challenge %q", line)
		}
		mac := hmac.New(md5.New, []byte(test.password))
		mac.Write(challenge)
		c.talk("C: " + b64(fmt.Sprintf("%s %x", test.user, mac.Sum(nil))) + "\n" + test.answer)
	}
}

func TestAuthHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{SASL: []string{"LOGIN"}}
		client, server := net.Pipe()
		s.begin(server, false)
		c := newClient(t, client)
		c.talk("S: +OK pop3test ready\nC: AUTH LOGIN\nS: + VXNlcm5hbWU6")
		c.Close()
		synctest.Wait()
		if _, err := server.Write([]byte("x")); err != io.ErrClosedPipe {
			t.Errorf("the session continues: %v", err)
		}
		s.Close()
	})
}
