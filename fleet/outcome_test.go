package fleet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
)

func noJitter() float64 { return 0 }

func refusal(code pop3.ResponseCode) error {
	return &pop3.ServerError{Command: "PASS", Code: code, Text: "no"}
}

func failed(kind, cause error) error { return fmt.Errorf("%w: %w", kind, cause) }

func TestNext(t *testing.T) {
	c := Config{}
	c.setDefaults()
	r := &c.Retry
	m := Mailbox{Interval: 5 * time.Minute}
	begin := time.Unix(1_000_000, 0)
	now := begin.Add(10 * time.Second)
	for name, test := range map[string]struct {
		job    job
		res    result
		due    time.Duration // from begin
		want   job           // without Due, Error, and times
		events []event
	}{
		"success":               {due: 5 * time.Minute},
		"long session":          {res: result{now: begin.Add(time.Hour)}, due: time.Hour},
		"not finished":          {res: result{more: true}, due: 10 * time.Second},
		"login delay":           {res: result{loginDelay: 10 * time.Minute}, due: 10 * time.Minute, want: job{LoginDelay: 10 * time.Minute}},
		"not finished, delayed": {res: result{more: true, loginDelay: time.Minute}, due: time.Minute, want: job{LoginDelay: time.Minute}},
		"works again":           {job: job{Failures: 3, Logins: 2, Kind: failLogin}, due: 5 * time.Minute, events: []event{eventBack}},
		"messages left":         {res: result{err: failed(fetch.ErrIncomplete, errors.New("one"))}, due: 5 * time.Minute},
		"first failure": {
			res: result{err: failed(fetch.ErrServer, errors.New("reset"))}, due: 12 * time.Second, want: job{Failures: 1, Kind: failServer},
		},
		"eleventh failure": {
			job: job{Failures: 10}, res: result{err: failed(fetch.ErrServer, errors.New("reset"))},
			due: 10*time.Second + 2048*time.Second, want: job{Failures: 11, Kind: failServer},
		},
		"hundredth failure": {
			job: job{Failures: 99}, res: result{err: failed(fetch.ErrServer, errors.New("reset"))},
			due: 10*time.Second + time.Hour, want: job{Failures: 100, Kind: failServer},
		},
		"temporary": {
			res: result{err: failed(fetch.ErrServer, refusal("SYS/TEMP"))}, due: 12 * time.Second, want: job{Failures: 1, Kind: failServer},
		},
		"in use": {
			res: result{err: failed(fetch.ErrServer, refusal("IN-USE"))}, due: 70 * time.Second, want: job{Kind: failBusy},
		},
		"too soon": {
			job: job{LoginDelay: 20 * time.Minute}, res: result{err: failed(fetch.ErrServer, refusal("LOGIN-DELAY"))},
			due: 10*time.Second + 20*time.Minute, want: job{Kind: failTooSoon, LoginDelay: 20 * time.Minute},
		},
		"login refused": {
			res: result{err: failed(fetch.ErrLogin, refusal("AUTH")), revision: 7}, due: 70 * time.Second,
			want: job{Failures: 1, Logins: 1, Kind: failLogin}, events: []event{eventRefused},
		},
		"login refused again": {
			job: job{Failures: 1, Logins: 1}, res: result{err: failed(fetch.ErrLogin, refusal("AUTH")), revision: 7}, due: 130 * time.Second,
			want: job{Failures: 2, Logins: 2, Kind: failLogin},
		},
		"parked": {
			job: job{Failures: 4, Logins: 4}, res: result{err: failed(fetch.ErrLogin, refusal("AUTH")), revision: 7}, due: 970 * time.Second,
			want: job{Failures: 5, Logins: 5, Kind: failLogin, Parked: true, Revision: 7}, events: []event{eventParked},
		},
		"sink": {
			job: job{Logins: 2, Failures: 2}, res: result{err: failed(fetch.ErrSink, errors.New("full"))}, due: 18 * time.Second,
			want: job{Failures: 3, Kind: failSink},
		},
	} {
		t.Run(name, func(t *testing.T) {
			res := test.res
			res.begin = begin
			if res.now.IsZero() {
				res.now = now
			}
			got, events := r.next(test.job, m, res, time.Minute, noJitter)
			if due := got.Due.Sub(begin); due != test.due {
				t.Errorf("due after %v, want %v", due, test.due)
			}
			got.Due, got.Polled, got.Since, got.Error = time.Time{}, time.Time{}, time.Time{}, ""
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("job %+v, want %+v", got, test.want)
			}
			if fmt.Sprint(events) != fmt.Sprint(test.events) {
				t.Errorf("events %v, want %v", events, test.events)
			}
		})
	}
}

func TestJitterStaysInBounds(t *testing.T) {
	for range 1000 {
		if d := spread(time.Minute, randomJitter()); d < 45*time.Second || d > 75*time.Second {
			t.Fatalf("a minute became %v", d)
		}
	}
}

func TestClassOf(t *testing.T) {
	c := Config{Providers: []Provider{{Name: "big", Hosts: []string{"*.Example.org", "pop.big.net"}, Limit: 3}}}
	c.setDefaults()
	for addr, want := range map[string]string{
		"pop.example.org": "big", "POP.BIG.NET:995": "big", "badexample.org": otherClass("badexample.org"), "example.org": otherClass("example.org:995"),
	} {
		m, err := Mailbox{User: "u", Addr: addr, Secret: "env:x"}.complete(&c)
		if err != nil || m.Provider != want {
			t.Errorf("%s is of %q (%v), want %q", addr, m.Provider, err, want)
		}
	}
	if limit, own := c.limit("big"); limit != 3 || !own {
		t.Errorf("limit %d, %v", limit, own)
	}
	for _, m := range []Mailbox{
		{Addr: "a", Secret: "env:x"}, {User: "u", Secret: "env:x"}, {User: "u", Addr: "a"}, {User: "u\r\nDELE 1", Addr: "a", Secret: "env:x"},
		{User: "u", Addr: "a", Secret: "env:x", Provider: "a.b"}, {User: "u", Addr: "a", Secret: "env:x", Provider: "watch"},
		{User: "u", Addr: "a", Secret: "env:x", TLS: "no"}, {User: "u", Addr: "a", Secret: "env:x", Interval: -1},
		{User: "u", Addr: "a", Secret: "env:x", Provider: "a*"}, {User: "u", Addr: "a", Secret: "env:x", Provider: ">"},
	} {
		if got, err := m.complete(&c); err == nil {
			t.Errorf("%+v is accepted as %+v", m, got)
		}
	}
}
