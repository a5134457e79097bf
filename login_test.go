package pop3

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

// refusedTwice checks for two refusals, the final one first.
func refusedTwice(final, earlier string) func(t *testing.T, err error) {
	return func(t *testing.T, err error) {
		t.Helper()
		if want := "pop3: " + final + "\npop3: " + earlier; err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if refused := new(ServerError); !errors.As(err, &refused) || refused.Error() != "pop3: "+final {
			t.Errorf("the first is %v, want %s", refused, final)
		}
	}
}

func TestLogin(t *testing.T) {
	allow := Options{AllowInsecureLogin: true}
	for _, test := range []struct {
		name       string
		opts       Options
		transcript string
		check      func(t *testing.T, err error) // if nil, success
	}{
		{"APOP", Options{}, `
			S: +OK POP3 server ready ` + rfcChallenge + `
			C: CAPA
			S: -ERR what
			C: APOP mrose ` + rfcDigest + `
			S: +OK maildrop has 1 message (369 octets)`, nil},
		{"APOP before STLS and USER", allow, `
			S: +OK ` + rfcChallenge + `
			C: CAPA
			S: +OK
			S: STLS
			S: USER
			S: .
			C: APOP mrose ` + rfcDigest + `
			S: +OK`, nil},
		{"APOP refused is final", allow, `
			S: +OK ` + rfcChallenge + `
			C: CAPA
			S: +OK
			S: USER
			S: .
			C: APOP mrose ` + rfcDigest + `
			S: -ERR permission denied`, refusedWith("APOP mrose ****", "permission denied")},
		{"no msg-id: APOP", Options{}, `
			S: +OK <no-at-sign>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: +OK`, nil},
		{"no msg-id: APOP refused, on to USER", allow, `
			S: +OK SESSIONID=<cyrus-1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"no msg-id, and STLS is listed: no APOP", Options{}, `
			S: +OK <1234>
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"no msg-id, and encrypted: no APOP", Options{}, `
			!tls
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"no msg-id: APOP refused, and nothing secure", Options{}, `
			S: +OK <1234>
			C: CAPA
			S: +OK
			S: .
			C* APOP mrose 
			S: -ERR [AUTH] wrong`, func(t *testing.T, err error) {
			wantError(t, err, ErrInsecureLogin)
			refusedWith("APOP mrose ****", "wrong")(t, err)
			if errors.Is(err, ErrNotSent) {
				t.Errorf("error %v is an ErrNotSent", err)
			}
		}},
		{"no msg-id: APOP refused, and USER", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: USER mrose
			S: -ERR [IN-USE] locked`, refusedTwice("USER mrose: -ERR [IN-USE] locked", "APOP mrose ****: -ERR [AUTH] wrong")},
		{"no msg-id: APOP refused, and PASS", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: -ERR no`, refusedTwice("PASS ****: -ERR no", "APOP mrose ****: -ERR [AUTH] wrong")},
		{"no msg-id: APOP refused, and AUTH PLAIN", allow, `
			S: +OK <1234>
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: .
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: -ERR no`, refusedTwice("AUTH PLAIN: -ERR no", "APOP mrose ****: -ERR [AUTH] wrong")},
		{"no msg-id: APOP refused, and cut", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR [AUTH] wrong
			C: USER mrose
			!close`, func(t *testing.T, err error) {
			wantError(t, err, io.ErrUnexpectedEOF)
			refusedWith("APOP mrose ****", "wrong")(t, err)
		}},
		{"blanks in a challenge", Options{}, `
			S: +OK <challenge string goes here>
			C: CAPA
			S: -ERR
			C: APOP mrose ` + blankDigest + `
			S: +OK`, nil},
		{"blanks and an @ are no msg-id", allow, `
			S: +OK <write to postmaster@example.org>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"CAPA refused, and nothing secure", Options{}, `
			S: +OK
			C: CAPA
			S: -ERR [SYS/TEMP] too busy`, func(t *testing.T, err error) {
			wantError(t, err, ErrInsecureLogin)
			refusedWith("CAPA", "too busy")(t, err)
		}},
		{"no msg-id: a malformed response to APOP is final", allow, `
			S: +OK <1234>
			C: CAPA
			S: -ERR
			C* APOP mrose 
			S: what?
			!expect-close`, func(t *testing.T, err error) { wantProtocolError(t, err) }},
		{"a challenge that is not printable ASCII is ignored", allow, `
			S: +OK <1896\xe4@host>
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"STLS", Options{}, `
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: +OK
			S: USER
			S: SASL PLAIN
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"STLS even if login without TLS is allowed", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"STLS refused is final", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: STLS
			S: -ERR [SYS/TEMP] no certificate`, refusedWith("STLS", "no certificate")},
		{"the capabilities under TLS count", Options{}, `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: STLS
			S: .
			C: STLS
			S: +OK
			!tls
			C: CAPA
			S: +OK
			S: SASL LOGIN plain
			S: .
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: +OK`, nil},
		{"implicit TLS", Options{}, `
			!tls
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"without TLS, no CAPA", allow, `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"USER rather than PLAIN", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: USER
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"neither USER nor PLAIN is listed", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL CRAM-MD5
			S: .
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: +OK`, nil},
		{"PLAIN if USER is not listed", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL CRAM-MD5 PLAIN
			S: .
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: -ERR [AUTH] no`, refusedWith("AUTH PLAIN", "no")},
		{"PLAIN is followed by a challenge", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: .
			C: AUTH PLAIN AG1yb3NlAHRhbnN0YWFm
			S: + bW9yZT8=
			C: *
			S: -ERR canceled`, func(t *testing.T, err error) {
			wantProtocolError(t, err)
			refusedWith("AUTH PLAIN", "canceled")(t, err)
		}},
		{"nothing secure", Options{}, `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: SASL PLAIN
			S: .`, failsWith(ErrInsecureLogin)},
		{"USER refused", allow, `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER mrose
			S: -ERR sorry, no mailbox for mrose here`, refusedWith("USER mrose", "sorry, no mailbox for mrose here")},
		{"PASS refused", allow, `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER mrose
			S: +OK
			C: PASS tanstaaf
			S: -ERR [in-use] maildrop locked`, func(t *testing.T, err error) {
			refusedWith("PASS ****", "maildrop locked")(t, err)
			if refused := new(ServerError); !errors.As(err, &refused) || refused.Code != CodeInUse || !refused.Temporary() {
				t.Errorf("error %v, want a temporary IN-USE", err)
			}
		}},
		{"CAPA cut", allow, `
			S: +OK
			C: CAPA
			S: +OK
			S: STL
			!close`, failsWith(io.ErrUnexpectedEOF)},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opts.TLSConfig = pop3test.TLSConfig()
			conn := pop3test.Play(t, test.transcript)
			if strings.HasPrefix(strings.TrimSpace(test.transcript), "!tls") {
				conn = tls.Client(conn, pop3test.TLSConfig())
			}
			c := connect(t, &test.opts, conn)
			err := c.Login(background, "mrose", "tanstaaf")
			if test.check != nil {
				test.check(t, err)
			} else {
				must(t, err)
			}
		})
	}
}
