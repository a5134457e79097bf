package interop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/seed-5b1d5243/pop3"
)

var loggingIn = []testCase{
	{"USER and PASS", func(e *env) {
		c := e.dialTLS()
		user := e.NewUser(e.T)
		e.must(c.User(e.ctx, user))
		e.must(c.Pass(e.ctx, e.Password(user)))
		e.must(c.Quit(e.ctx))
	}},
	{"APOP", func(e *env) {
		c := e.dial()
		user := e.NewUser(e.T)
		err := c.APOP(e.ctx, user, e.Password(user))
		if !e.APOP {
			if err == nil {
				e.Error("logged in without a challenge")
			}
			e.lacks()
		}
		e.must(err)
		e.must(c.Quit(e.ctx))
	}},
	{"Login without TLS", func(e *env) {
		// Only with a method that does not reveal the password: APOP, STLS, or none.
		var said bytes.Buffer
		opts := e.options()
		opts.AllowInsecureLogin = false
		opts.DebugWriter = &said
		user := e.NewUser(e.T)
		c, err := pop3.Dial(e.ctx, e.Addr, opts)
		e.opened(c, err)
		err = c.Login(e.ctx, user, e.Password(user))
		_, secure := c.TLSConnectionState()
		switch {
		case e.APOP:
			e.must(err)
			e.note("by APOP")
		case !e.NoSTLS:
			e.must(err)
			if !secure {
				e.Error("logged in without TLS")
			}
			e.note("by STLS")
		default:
			if !errors.Is(err, pop3.ErrInsecureLogin) {
				e.Errorf("got %v, want ErrInsecureLogin", err)
			}
			if strings.Contains(said.String(), "C: USER") {
				e.Errorf("a credential was sent:\n%s", &said)
			}
			e.note("refused by the library: neither APOP nor TLS")
		}
		if strings.Contains(said.String(), e.Password(user)) {
			e.Errorf("the password is in the debug transcript:\n%s", &said)
		}
	}},
	{"wrong password", func(e *env) {
		c := e.dialTLS()
		user := e.NewUser(e.T)
		e.must(c.User(e.ctx, user))
		err := e.refused(c.Pass(e.ctx, "wrong"))
		if err.Code == "" {
			e.note("no response code")
		} else if err.Code != pop3.CodeAuth {
			e.Errorf("response code %q", err.Code)
		}
		if strings.Contains(err.Error(), "wrong") {
			e.Errorf("the password is in the error: %v", err)
		}
		if e.HangsUp {
			e.note("hangs up")
			if err := c.Noop(e.ctx); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
				e.Errorf("after it: %v", err)
			}
			return
		}
		e.must(c.User(e.ctx, user))
		e.must(c.Pass(e.ctx, e.Password(user)))
		e.must(c.Quit(e.ctx))
	}},
	{"LANG", func(e *env) {
		c, _ := e.open()
		caps, err := c.Capabilities(e.ctx)
		e.must(err)
		langs, err := c.Langs(e.ctx)
		if !caps.Has("LANG") {
			e.refused(err)
			e.lacks()
		}
		e.must(err)
		if len(langs) == 0 {
			e.Error("no language")
		}
	}},
	{"UTF8", func(e *env) {
		text := header("utf8", 1) + "X-Name: h\xc3\xa9llo\n\nhello\n"
		c, user := e.open(text)
		caps, err := c.Capabilities(e.ctx)
		e.must(err)
		if !caps.Has("UTF8") {
			e.refused(c.UTF8(e.ctx))
			e.lacks()
		}
		for _, before := range []bool{false, true} { // login; RFC 6856 allows both orders
			if before {
				c = e.dial()
				e.must(c.UTF8(e.ctx))
				e.must(c.Login(e.ctx, user, e.Password(user)))
			} else {
				e.must(c.UTF8(e.ctx))
			}
			if got, want := e.text(c.Retr(e.ctx, 1)), delivered(e.Traits, text); got != want {
				e.Errorf("got %q, want %q", got, want)
			}
			e.must(c.Quit(e.ctx))
		}
	}},
}
