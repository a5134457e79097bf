package interop

import (
	"errors"
	"slices"
	"strings"

	"github.com/seed-5b1d5243/pop3"
)

var connecting = []testCase{
	{"greeting", func(e *env) {
		c := e.dial()
		if got := c.Challenge() != ""; got != e.APOP {
			e.Errorf("greeting %q, challenge %q: want one: %v", c.Greeting(), c.Challenge(), e.APOP)
		}
		if c.Greeting() == "" {
			e.note("`+OK` alone")
		}
		e.must(c.Quit(e.ctx))
	}},
	{"CAPA", func(e *env) {
		c, _ := e.open()
		before := e.dial()
		caps, err := before.Capabilities(e.ctx)
		e.must(err)
		after, err := c.Capabilities(e.ctx)
		e.must(err)
		if e.NoCAPA != (len(caps) == 0) || e.NoCAPA != (len(after) == 0) {
			e.Fatalf("before login %v, after login %v; want none: %v", caps, after, e.NoCAPA)
		}
		if e.NoCAPA {
			e.lacks()
		}
		for _, name := range sorted(after) {
			if !caps.Has(name) {
				e.note("`" + name + "` only after login")
			}
		}
		for _, name := range []string{"STLS", "SASL", "USER"} {
			if after.Has(name) {
				e.note("`" + name + "` listed after login too")
			}
		}
		if !caps.Has("UIDL") || !caps.Has("TOP") {
			e.note("UIDL or TOP not listed before login")
		}
		if !caps.Has("PIPELINING") {
			e.note("no `PIPELINING`")
		}
		for _, name := range sorted(caps) {
			if !slices.Contains(registered, name) {
				e.note("unregistered `" + name + "`")
			}
		}
		e.Logf("before login: %v", caps)
		e.Logf("after login: %v", after)
	}},
	{"STLS", func(e *env) {
		c, err := pop3.DialStartTLS(e.ctx, e.Addr, e.options())
		if e.NoSTLS {
			if !errors.Is(err, pop3.ErrTLSNotSupported) {
				e.Errorf("got %v, want ErrTLSNotSupported", err)
			}
			e.lacks()
		}
		e.opened(c, err)
		if _, secure := c.TLSConnectionState(); !secure {
			e.Error("no TLS after STLS")
		}
		if err := c.StartTLS(e.ctx, nil); err == nil {
			e.Error("STLS twice succeeds")
		}
		caps, err := c.RefreshCapabilities(e.ctx)
		e.must(err)
		if caps.Has("STLS") {
			e.note("`STLS` listed under TLS too")
		}
		user := e.NewUser(e.T, some(1)...)
		e.must(c.Login(e.ctx, user, e.Password(user)))
		if n := e.count(c); n != 1 {
			e.Errorf("%d messages, want 1", n)
		}
		e.must(c.Quit(e.ctx))
	}},
	{"implicit TLS", func(e *env) {
		if e.NoSTLS {
			e.note("TLS wrapped around it by the test")
		}
		c := e.dialTLS()
		if _, secure := c.TLSConnectionState(); !secure {
			e.Error("no TLS")
		}
		user := e.NewUser(e.T, some(2)...)
		e.must(c.Login(e.ctx, user, e.Password(user)))
		if n := e.count(c); n != 2 {
			e.Errorf("%d messages, want 2", n)
		}
		e.must(c.Quit(e.ctx))
	}},
}

// registered are the capabilities that have an RFC.
var registered = strings.Fields("TOP USER SASL RESP-CODES LOGIN-DELAY PIPELINING EXPIRE UIDL IMPLEMENTATION STLS AUTH-RESP-CODE UTF8 LANG")

func sorted(caps pop3.Capabilities) []string {
	var names []string
	for name := range caps {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
