package pop3test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// newTimestamp returns a msg-id that no session had before.
func newTimestamp() string { return "<" + rand.Text() + "@localhost>" }

func (s *Server) user() string {
	if s.User == "" {
		return "user"
	}
	return s.User
}

func (s *Server) password() string {
	if s.Password == "" {
		return "secret"
	}
	return s.Password
}

func (s *session) userName(name string) error {
	if s.mayLogin() {
		s.user, s.named = name, true
		s.ok("send PASS")
	}
	return nil
}

func (s *session) pass(password string) error {
	if !s.mayLogin() {
		return nil
	}
	if !s.named {
		s.fail("USER first")
		return nil
	}
	s.named = false
	s.login(s.user == s.srv.user() && password == s.srv.password())
	return nil
}

func (s *session) apop(arg string) error {
	if s.mayLogin() {
		name, digest, _ := strings.Cut(arg, " ")
		sum := md5.Sum([]byte(s.timestamp + s.srv.password()))
		s.login(name == s.srv.user() && digest == hex.EncodeToString(sum[:]))
	}
	return nil
}

func (s *session) mayLogin() bool {
	if s.srv.LoginRequiresTLS && !s.secure() {
		s.fail("[AUTH] not without TLS")
		return false
	}
	return true
}

// login responds to the last line of a login attempt.
func (s *session) login(ok bool) {
	if s.srv.LoginDropsInput {
		s.r.Discard(s.r.Buffered())
	}
	if !ok {
		s.fail("[AUTH] wrong user name or password")
		return
	}
	if s.locked = s.srv.lock(); !s.locked {
		s.fail("[IN-USE] another session has the maildrop open")
		return
	}
	s.count, s.numbers = s.srv.snapshot()
	s.state = transaction
	s.ok("logged in")
}

// auth runs the exchange of AUTH (RFC 5034).
func (s *session) auth(arg string) error {
	if !s.mayLogin() {
		return nil
	}
	name, initial, hasInitial := strings.Cut(arg, " ")
	name = strings.ToUpper(name)
	mechanism := mechanisms[name]
	if mechanism == nil || !slices.Contains(s.srv.SASL, name) {
		s.fail("unknown authentication mechanism")
		return nil
	}
	x := &exchange{session: s}
	if hasInitial {
		x.initial = &initial
	}
	ok := mechanism(x)
	switch {
	case x.lost != nil:
		return x.lost
	case x.refusal != "":
		s.fail(x.refusal)
	default:
		s.login(ok)
	}
	return nil
}

// An exchange is the conversation of one AUTH command. After a failure ask returns nothing, so that a mechanism need
// not check for it.
type exchange struct {
	*session
	initial *string // base64 on the AUTH line, until ask returns it
	refusal string  // why the exchange failed
	lost    error   // the session ended in it
}

// ask returns the client's response to a challenge. For an empty challenge it is the initial response, if the client
// sent one.
func (x *exchange) ask(challenge string) string {
	if x.refusal != "" || x.lost != nil {
		return ""
	}
	var response string
	switch {
	case x.initial != nil && challenge != "":
		x.refusal = "no initial response in this mechanism"
		return ""
	case x.initial != nil:
		response = *x.initial
		x.initial = nil
		if response == "=" {
			response = ""
		}
	default:
		x.status("+ ", base64.StdEncoding.EncodeToString([]byte(challenge)))
		line, err := x.readLine(maxResponse)
		if refusal, ok := err.(syntaxError); ok {
			x.refusal = string(refusal)
			return ""
		}
		if err != nil {
			x.lost = err
			return ""
		}
		response = line
	}
	if response == "*" {
		x.refusal = "authentication canceled"
		return ""
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(response)
	if err != nil {
		x.refusal = "response is not base64"
		return ""
	}
	return string(decoded)
}

// mechanisms report whether the client is authenticated.
var mechanisms = map[string]func(*exchange) bool{
	"PLAIN":       (*exchange).plain,
	"LOGIN":       (*exchange).loginMechanism,
	"CRAM-MD5":    (*exchange).cramMD5,
	"XOAUTH2":     (*exchange).xoauth2,
	"OAUTHBEARER": (*exchange).oauthBearer,
	"EXTERNAL":    (*exchange).external,
}

// plain is RFC 4616.
func (x *exchange) plain() bool {
	fields := strings.Split(x.ask(""), "\x00")
	return len(fields) == 3 && x.authorized(fields[0]) &&
		fields[1] == x.srv.user() && fields[2] == x.srv.password()
}

// authorized reports whether the user may act as the given one.
func (x *exchange) authorized(as string) bool { return as == "" || as == x.srv.user() }

// loginMechanism takes the user name as an initial response too.
func (x *exchange) loginMechanism() bool {
	var name string
	if x.initial != nil {
		name = x.ask("")
	} else {
		name = x.ask("Username:")
	}
	password := x.ask("Password:")
	return name == x.srv.user() && password == x.srv.password()
}

// cramMD5 is RFC 2195.
func (x *exchange) cramMD5() bool {
	challenge := newTimestamp()
	name, digest, _ := strings.Cut(x.ask(challenge), " ")
	mac := hmac.New(md5.New, []byte(x.srv.password()))
	mac.Write([]byte(challenge))
	return name == x.srv.user() && digest == hex.EncodeToString(mac.Sum(nil))
}

func (x *exchange) xoauth2() bool {
	want := "user=" + x.srv.user() + "\x01auth=Bearer " + x.srv.password() + "\x01\x01"
	return x.ask("") == want || x.badToken()
}

// oauthBearer is RFC 7628.
func (x *exchange) oauthBearer() bool {
	header, fields, _ := strings.Cut(x.ask(""), "\x01")
	gs2 := strings.Split(header, ",")
	as, named := "", len(gs2) == 3 && gs2[0] == "n" && gs2[2] == ""
	if named {
		as = strings.TrimPrefix(gs2[1], "a=")
	}
	ok := named && x.authorized(as) && strings.HasSuffix(fields, "\x01\x01") &&
		slices.Contains(strings.Split(fields, "\x01"), "auth=Bearer "+x.srv.password())
	return ok || x.badToken()
}

// badToken sends the error as a challenge, to which the client responds before it receives -ERR.
func (x *exchange) badToken() bool {
	x.ask(`{"status":"invalid_token","schemes":"bearer","scope":"mail"}`)
	return false
}

// external accepts the client's certificate (RFC 4422, appendix A).
func (x *exchange) external() bool {
	as := x.ask("")
	conn, ok := x.conn.(*tls.Conn)
	return ok && len(conn.ConnectionState().PeerCertificates) > 0 && x.authorized(as)
}
