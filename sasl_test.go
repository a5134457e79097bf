package pop3

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// mechanism is a SASL mechanism with fixed responses.
type mechanism struct {
	name       string
	initial    []byte
	start      error
	responses  []string // to the challenges; after them it fails
	challenges []string // as they came
}

var errMechanism = errors.New("the mechanism has had enough")

func (m *mechanism) Start() (string, []byte, error) { return m.name, m.initial, m.start }

func (m *mechanism) Next(challenge []byte) ([]byte, error) {
	m.challenges = append(m.challenges, string(challenge))
	if len(m.responses) == 0 {
		return nil, errMechanism
	}
	response := m.responses[0]
	m.responses = m.responses[1:]
	return []byte(response), nil
}

func in64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestAuth(t *testing.T) {
	// "AUTH X ", 184 bytes of base64 for 138, and CRLF are below 255; with 186 bytes, 248 of base64, they are above.
	fits, tooLong := strings.Repeat("x", 183), strings.Repeat("x", 184)
	for _, test := range []struct {
		name       string
		mech       mechanism
		transcript string
		challenges []string
		check      func(t *testing.T, err error)
	}{
		{"no initial response", mechanism{name: "X", responses: []string{"a", "b"}}, `
			C: AUTH X
			S: + ` + in64("one") + `
			C: ` + in64("a") + `
			S: + ` + in64("two") + `
			C: ` + in64("b") + `
			S: +OK`, []string{"one", "two"}, nil},
		{"no initial response, empty challenge, empty response", mechanism{name: "X", responses: []string{"", ""}}, `
			C: AUTH X
			S: + 
			C: 
			S: +
			C: 
			S: +OK`, []string{"", ""}, nil},
		{"initial response", mechanism{name: "X", initial: []byte("hello")}, `
			C: AUTH X aGVsbG8=
			S: +OK`, nil, nil},
		{"empty initial response", mechanism{name: "X", initial: []byte{}}, `
			C: AUTH X =
			S: +OK`, nil, nil},
		{"initial response up to 255 bytes", mechanism{name: "X", initial: []byte(fits)}, `
			C: AUTH X ` + in64(fits) + `
			S: +OK`, nil, nil},
		{"initial response past 255 bytes", mechanism{name: "X", initial: []byte(tooLong)}, `
			C: AUTH X
			S: + 
			C: ` + in64(tooLong) + `
			S: +OK`, nil, nil},
		{"Exchange: +OK for +", mechanism{name: "X", initial: []byte(tooLong)}, `
			C: AUTH X
			S: +OK
			C: ` + in64(tooLong) + `
			S: +OK`, nil, nil},
		{"Exchange: +OK is the end once the initial response is sent", mechanism{name: "X", initial: []byte("a"), responses: []string{"b"}}, `
			C: AUTH X YQ==
			S: +OK
			C: NOOP
			S: +OK`, nil, nil},
		{"refused", mechanism{name: "X"}, `
			C: AUTH X
			S: -ERR [AUTH] no`, nil, refusedWith("AUTH X", "no")},
		{"the mechanism gives up", mechanism{name: "X"}, `
			C: AUTH X
			S: + ` + in64("one") + `
			C: *
			S: -ERR as you wish
			C: NOOP
			S: +OK`, []string{"one"}, func(t *testing.T, err error) {
			wantError(t, err, errMechanism)
			refusedWith("AUTH X", "as you wish")(t, err)
		}},
		{"not base64", mechanism{name: "X", responses: []string{"a"}}, `
			C: AUTH X
			S: + who are you?
			C: *
			S: -ERR as you wish
			C: NOOP
			S: +OK`, nil, func(t *testing.T, err error) {
			if protocol := wantProtocolError(t, err); protocol.Line != "who are you?" {
				t.Errorf("line %q", protocol.Line)
			}
			refusedWith("AUTH X", "as you wish")(t, err)
		}},
		{"base64 without its padding", mechanism{name: "X", responses: []string{"a"}}, `
			C: AUTH X
			S: + YQ
			C: *
			S: -ERR`, nil, func(t *testing.T, err error) { wantProtocolError(t, err) }},
		{"base64 with a CR in it", mechanism{name: "X", responses: []string{"a"}}, `
			C: AUTH X
			S: + Y\rQ==
			C: *
			S: -ERR`, nil, func(t *testing.T, err error) { wantProtocolError(t, err) }},
		{"+OK to a canceled exchange", mechanism{name: "X"}, `
			C: AUTH X
			S: + 
			C: *
			S: +OK welcome
			!expect-close`, []string{""}, func(t *testing.T, err error) {
			wantError(t, err, errMechanism)
			wantProtocolError(t, err)
		}},
		{"cut", mechanism{name: "X", responses: []string{"a"}}, `
			C: AUTH X
			S: + 
			C: YQ==
			!close`, []string{""}, failsWith(io.ErrUnexpectedEOF)},
		{"cut while canceling", mechanism{name: "X"}, `
			C: AUTH X
			S: + 
			C: *
			!close`, []string{""}, func(t *testing.T, err error) { wantError(t, err, errMechanism, io.ErrUnexpectedEOF) }},
		{"neither + nor a status", mechanism{name: "X"}, `
			C: AUTH X
			S: +PDFAMj4=
			!expect-close`, nil, func(t *testing.T, err error) { wantProtocolError(t, err) }},
		{"Start fails", mechanism{name: "X", start: errMechanism}, `
			C: NOOP
			S: +OK`, nil, failsWith(errMechanism)},
		{"a name with a blank", mechanism{name: "X Y"}, "", nil, func(*testing.T, error) {}},
		{"a name with CRLF", mechanism{name: "X\r\nDELE 1"}, "", nil, func(*testing.T, error) {}},
		{"no name", mechanism{}, "", nil, func(*testing.T, error) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialogue(t, nil, test.transcript)
			err := c.Auth(background, &test.mech)
			if (err == nil) != (test.check == nil) {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				test.check(t, err)
			}
			if fmt.Sprint(test.mech.challenges) != fmt.Sprint(test.challenges) {
				t.Errorf("challenges %q, want %q", test.mech.challenges, test.challenges)
			}
			if strings.Contains(test.transcript, "NOOP") {
				must(t, c.Noop(background))
			}
		})
	}
}

func TestAuthChallengesWithoutEnd(t *testing.T) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		io.WriteString(server, "+OK\r\n")
		buf := make([]byte, 100)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) == "*\r\n" {
				io.WriteString(server, "-ERR at last\r\n")
				return
			}
			io.WriteString(server, "+ YQ==\r\n")
		}
	}()
	c := connect(t, nil, client)
	err := c.Auth(background, &mechanism{name: "X", responses: make([]string, 100000)})
	wantProtocolError(t, err)
	refusedWith("AUTH X", "at last")(t, err)
}

// TestErrorChallenge checks that the error challenge, which XOAUTH2 and OAUTHBEARER send before -ERR, is reported.
func TestErrorChallenge(t *testing.T) {
	const failure = `{"status":"401","schemes":"bearer","scope":"mail"}`
	for name, test := range map[string]struct {
		mech               SASL
		initial, response  string
		responseFromMethod error
	}{
		"XOAUTH2":                   {XOAUTH2("u", "token"), "user=u\x01auth=Bearer token\x01\x01", "", nil},
		"OAUTHBEARER":               {&mechanism{name: "OAUTHBEARER", initial: []byte("n,,\x01auth=Bearer token\x01\x01"), responses: []string{"\x01"}}, "n,,\x01auth=Bearer token\x01\x01", "AQ==", nil},
		"a mechanism that gives up": {&mechanism{name: "XOAUTH2", initial: []byte("x")}, "x", "*", errMechanism},
	} {
		t.Run(name, func(t *testing.T) {
			mech, _, _ := test.mech.Start()
			c := dialogue(t, &Options{AllowInsecureLogin: true}, `
				C: AUTH `+mech+" "+in64(test.initial)+`
				S: + `+in64(failure)+`
				C: `+test.response+`
				S: -ERR [AUTH] failed
				C: NOOP
				S: +OK`)
			err := c.Auth(background, test.mech)
			var refused *ServerError
			if !errors.As(err, &refused) || refused.Detail != failure || refused.Code != CodeAuth || !json.Valid([]byte(refused.Detail)) {
				t.Errorf("error %#v", refused)
			}
			if test.responseFromMethod != nil {
				wantError(t, err, test.responseFromMethod)
			}
			must(t, c.Noop(background))
		})
	}
	t.Run("only of the exchange that failed", func(t *testing.T) {
		c := dialogue(t, nil, `
			C: AUTH X
			S: + `+in64("a challenge")+`
			C: 
			S: -ERR`)
		var refused *ServerError
		if err := c.Auth(background, &mechanism{name: "X", responses: []string{""}}); !errors.As(err, &refused) || refused.Detail != "" {
			t.Errorf("error %#v", refused)
		}
	})
}

// proving is a mechanism that knows whether the server has proved itself.
type proving struct {
	mechanism
	proof string // the challenge after which it is done
	done  func() bool
}

func (m *proving) Done() bool {
	if m.done != nil {
		return m.done()
	}
	return len(m.challenges) > 0 && m.challenges[len(m.challenges)-1] == m.proof
}

// TestAuthDone has the server report success before, and after, it has proved that it knows the secret.
func TestAuthDone(t *testing.T) {
	first := in64("r=abcdef,s=salt,i=4096")
	long := strings.Repeat("x", 200)
	for name, test := range map[string]struct {
		initial    []byte
		transcript string
		ok         bool
	}{
		"proof and +OK": {[]byte("n,,n=u,r=abc"), `
			C: AUTH SCRAM-SHA-256 ` + in64("n,,n=u,r=abc") + `
			S: + ` + first + `
			C: ` + in64("c=biws,r=abcdef,p=cHJvb2Y=") + `
			S: + ` + in64("v=proof") + `
			C: 
			S: +OK`, true},
		"+OK at once": {[]byte("n,,n=u,r=abc"), `
			C: AUTH SCRAM-SHA-256 ` + in64("n,,n=u,r=abc") + `
			S: +OK welcome
			!expect-close`, false},
		"+OK for the proof": {[]byte("n,,n=u,r=abc"), `
			C: AUTH SCRAM-SHA-256 ` + in64("n,,n=u,r=abc") + `
			S: + ` + first + `
			C: ` + in64("c=biws,r=abcdef,p=cHJvb2Y=") + `
			S: +OK welcome
			!expect-close`, false},
		"no initial response": {nil, `
			C: AUTH SCRAM-SHA-256
			S: +OK welcome
			!expect-close`, false},
		"+OK for +, and then for the proof": {[]byte(long), `
			C: AUTH SCRAM-SHA-256
			S: +OK
			C: ` + in64(long) + `
			S: +OK welcome
			!expect-close`, false},
		"refused": {[]byte("n,,n=u,r=abc"), `
			C: AUTH SCRAM-SHA-256 ` + in64("n,,n=u,r=abc") + `
			S: -ERR no`, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialogue(t, nil, test.transcript)
			mech := &proving{mechanism{name: "SCRAM-SHA-256", initial: test.initial, responses: []string{"c=biws,r=abcdef,p=cHJvb2Y=", ""}}, "v=proof", nil}
			err := c.Auth(background, mech)
			switch {
			case name == "refused":
				refusedWith("AUTH SCRAM-SHA-256", "no")(t, err)
			case test.ok:
				must(t, err)
			default:
				if protocol := wantProtocolError(t, err); protocol.Command != "AUTH SCRAM-SHA-256" || protocol.Line != "+OK welcome" {
					t.Errorf("error %#v", protocol)
				}
				wantError(t, c.Noop(background), ErrClosed)
			}
		})
	}
	t.Run("closed meanwhile", func(t *testing.T) {
		c := dialogue(t, nil, "\nC: AUTH X\nS: +OK\n!expect-close")
		err := c.Auth(background, &proving{mechanism{name: "X"}, "", func() bool { c.Close(); return true }})
		wantError(t, err, ErrClosed)
	})
	t.Run("a panic", func(t *testing.T) {
		c := dialogue(t, nil, "\nC: AUTH X\nS: +OK\n!expect-close")
		func() {
			defer func() { recover() }()
			c.Auth(background, &proving{mechanism{name: "X"}, "", func() bool { panic("no more") }})
		}()
		wantError(t, c.Noop(background), ErrClosed)
	})
}

func TestXOAUTH2RefusesControlCharacters(t *testing.T) {
	for _, bad := range []string{"a\x01b", "a\r\n", "\x00"} {
		if _, _, err := XOAUTH2(bad, "t").Start(); err == nil {
			t.Errorf("user %q is accepted", bad)
		}
		if _, _, err := XOAUTH2("u", bad).Start(); err == nil {
			t.Errorf("token %q is accepted", bad)
		}
		c := dialogue(t, &Options{AllowInsecureLogin: true}, "")
		if err := c.Auth(background, XOAUTH2("u", bad)); !errors.Is(err, ErrNotSent) || strings.Count(err.Error(), "pop3:") != 1 {
			t.Errorf("token %q: %v", bad, err)
		}
	}
}
