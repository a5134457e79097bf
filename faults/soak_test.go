package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

var soak = flag.Duration("soak", 5*time.Second, "how long TestSoak runs")

const (
	soakClients  = 8
	soakUsers    = 4  // goroutines for each client
	soakMessages = 24 // in each maildrop; message n belongs to goroutine n % soakUsers, which alone deletes it
)

// shared is one client and the goroutines that use it. A goroutine that replaces the session holds mu exclusively.
type shared struct {
	id  int
	srv *pop3test.Server
	all []string // unique-ids at the beginning of the session

	mu       sync.RWMutex
	c        *pop3.Client
	deleted  [soakMessages + 1]bool // marked in this session; each element is used by its owner, or under mu
	commands *atomic.Int64
	dialled  connections
}

func (s *shared) text(n int) string {
	return s.header(n) + strings.Repeat(fmt.Sprintf(".line of %d\r\n", n), n*n)
}

func (s *shared) header(n int) string { return fmt.Sprintf("Subject: %d of %d\r\n\r\n", n, s.id) }

// connect begins a new session with a maildrop as full as ever.
func (s *shared) connect() error {
	if s.srv != nil {
		s.srv.Close()
	}
	texts := make([]string, soakMessages)
	for i := range texts {
		texts[i] = s.text(i + 1)
	}
	s.srv = pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	s.srv.Start()
	s.all = s.srv.Remaining()
	clear(s.deleted[:])
	c, err := pop3.Dial(background, s.srv.Addr, &pop3.Options{TLSConfig: s.srv.TLSConfig(), AllowInsecureLogin: true, NoPipelining: s.id%4 == 3, Dialer: &s.dialled,
		StallTimeout: time.Minute}) // on a machine that is busy with other things a goroutine may not get to run for seconds
	if err != nil {
		return err
	}
	s.c = c
	if s.id%2 == 0 { // the others without TLS
		return c.Login(background, "user", "secret")
	}
	return errors.Join(c.User(background, "user"), c.Pass(background, "secret"))
}

// expect wants err to be a refusal if the message is deleted, and nil if not. If another goroutine owns the message, it
// may be either.
func (s *shared) expect(user, n int, err error) error {
	var no *pop3.ServerError
	refused := errors.As(err, &no)
	if err != nil && !refused {
		return err
	}
	if n%soakUsers == user && refused != s.deleted[n] {
		return brokenf("message %d: %v, deleted: %v", n, err, s.deleted[n])
	}
	return nil
}

// whole checks that a message, if there is one, is complete.
func (s *shared) whole(user, n int, m *pop3.Message, err error, want string) error {
	if err != nil {
		return s.expect(user, n, err)
	}
	got, err := io.ReadAll(m)
	if err == nil && string(got) != want {
		err = brokenf("message %d reads %d octets, want %d", n, len(got), len(want))
	}
	return errors.Join(err, s.expect(user, n, err))
}

// complete checks that a listing has all messages of the goroutine, except the deleted ones, in order.
func (s *shared) complete(user int, numbers []int) error {
	if !slices.IsSorted(numbers) {
		return brokenf("listing in the order %v", numbers)
	}
	for n := 1; n <= soakMessages; n++ {
		if n%soakUsers == user && slices.Contains(numbers, n) == s.deleted[n] {
			return brokenf("message %d listed: %v, deleted: %v", n, s.deleted[n], !s.deleted[n])
		}
	}
	return nil
}

// use runs one random command of goroutine user.
func (s *shared) use(r *rand.Rand, user int) error {
	ctx := background
	n := 1 + r.IntN(soakMessages)
	own := 1 + r.IntN(soakMessages)
	own += (user - own%soakUsers + soakUsers) % soakUsers
	if own > soakMessages {
		own -= soakUsers
	}
	s.commands.Add(1)
	switch r.IntN(15) {
	case 0, 1:
		m, err := s.c.Retr(ctx, n)
		return s.whole(user, n, m, err, s.text(n))
	case 2:
		m, err := s.c.Top(ctx, n, 0)
		return s.whole(user, n, m, err, s.header(n))
	case 3: // left in the middle, and closed
		m, err := s.c.Retr(ctx, n)
		if err != nil {
			return s.expect(user, n, err)
		}
		if _, err := io.ReadFull(m, make([]byte, 5)); err != nil {
			return err
		}
		return m.Close()
	case 4:
		size, err := s.c.Size(ctx, n)
		if err == nil && size != int64(len(s.text(n))) {
			return brokenf("LIST %d: %d", n, size)
		}
		return s.expect(user, n, err)
	case 5:
		uid, err := s.c.UID(ctx, n)
		if err == nil && uid != s.all[n-1] {
			return brokenf("UIDL %d: %q", n, uid)
		}
		return s.expect(user, n, err)
	case 6: // with commands inside the loop
		l, err := s.c.List(ctx)
		if err != nil {
			return err
		}
		var numbers []int
		for e := range l.C() {
			if e.Size != int64(len(s.text(e.Number))) {
				return brokenf("LIST: %v", e)
			}
			numbers = append(numbers, e.Number)
			if r.IntN(8) == 0 {
				m, err := s.c.Retr(ctx, e.Number)
				if err := s.whole(user, e.Number, m, err, s.text(e.Number)); err != nil {
					return err
				}
			}
		}
		return errors.Join(l.Err(), s.complete(user, numbers))
	case 7:
		l, err := s.c.UIDL(ctx)
		if err != nil {
			return err
		}
		var numbers []int
		stop := r.IntN(2 * soakMessages)
		for u, err := range l.All() {
			if err != nil {
				return err
			}
			if u.ID != s.all[u.Number-1] {
				return brokenf("UIDL: %v", u)
			}
			numbers = append(numbers, u.Number)
			if len(numbers) == stop {
				return nil
			}
		}
		return s.complete(user, numbers)
	case 8:
		err := s.c.Dele(ctx, own)
		if err := s.expect(user, own, err); err != nil {
			return err
		}
		s.deleted[own] = true
		return nil
	case 14:
		var numbers []int
		var refused, gone int
		for n := 1; n <= soakMessages; n++ {
			if n%soakUsers == user && r.IntN(6) == 0 {
				numbers = append(numbers, n)
				if s.deleted[n] {
					gone++
				}
			}
		}
		if err := s.c.DeleAll(ctx, numbers); err != nil {
			joined, ok := err.(interface{ Unwrap() []error })
			if !ok {
				return err
			}
			for _, err := range joined.Unwrap() {
				if !errors.As(err, new(*pop3.ServerError)) {
					return err
				}
				refused++
			}
		}
		if refused != gone {
			return brokenf("DeleAll %v: %d refused, %d were deleted", numbers, refused, gone)
		}
		for _, n := range numbers {
			s.deleted[n] = true
		}
		return nil
	case 9:
		numbers := r.Perm(soakMessages)[:1+r.IntN(8)]
		for i := range numbers {
			numbers[i]++
		}
		stop := r.IntN(2 * len(numbers))
		messages, text := s.c.RetrAll(ctx, numbers), s.text
		if r.IntN(2) == 0 {
			messages, text = s.c.TopAll(ctx, numbers, 0), s.header
		}
		i := 0
		for m, err := range messages {
			if err != nil {
				return err
			}
			var got strings.Builder
			_, err = io.Copy(&got, m)
			if err == nil && got.String() != text(numbers[i]) {
				return brokenf("batch: message %d reads %d octets", numbers[i], got.Len())
			}
			if err := s.expect(user, numbers[i], err); err != nil {
				return err
			}
			if i++; i == stop {
				return nil
			}
		}
		if i != len(numbers) {
			return brokenf("batch: %d messages of %d", i, len(numbers))
		}
		return nil
	case 10: // canceled in the queue, or before
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.c.Retr(gone, n); !errors.Is(err, context.Canceled) {
			return brokenf("RETR with a context that is done: %v", err)
		}
		return nil
	case 11:
		caps, err := s.c.RefreshCapabilities(ctx)
		if err == nil && !caps.Has("UIDL") {
			err = brokenf("capabilities %v", caps)
		}
		return err
	case 12:
		if text, err := s.c.Cmd(ctx, "NOOP"); err != nil || text != "nothing done" {
			return brokenf("NOOP: %q, %v", text, err)
		}
		return nil
	}
	count, _, err := s.c.Stat(ctx)
	if err == nil && (count < 0 || count > soakMessages) {
		err = brokenf("STAT: %d", count)
	}
	return err
}

// turn acts on the session itself, with exclusive access.
func (s *shared) turn(r *rand.Rand) error {
	s.commands.Add(1)
	var left []string
	var octets int64
	for i, uid := range s.all {
		if !s.deleted[i+1] {
			left = append(left, uid)
			octets += int64(len(s.text(i + 1)))
		}
	}
	count, size, err := s.c.Stat(background)
	if err != nil || count != len(left) || size != octets {
		return brokenf("STAT: %d %d, %v; want %d %d", count, size, err, len(left), octets)
	}
	switch r.IntN(4) {
	case 0:
		if err := s.c.Rset(background); err != nil {
			return err
		}
		clear(s.deleted[:])
		return nil
	case 1: // canceled in the middle of a message: nothing is deleted
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		n := 1 + slices.Index(s.deleted[1:], false)
		if n > 0 {
			m, err := s.c.Retr(ctx, n)
			if err != nil {
				return err
			}
			cancel()
			if got, err := io.ReadAll(m); err == nil && string(got) != s.text(n) {
				return brokenf("a cancelled message is whole with %d octets", len(got))
			}
		}
		left = s.all
	case 2:
		left = s.all
	default:
		if err := s.c.Quit(background); err != nil {
			return err
		}
	}
	s.c.Close()
	if err := s.c.Noop(background); !errors.Is(err, pop3.ErrClosed) {
		return brokenf("NOOP after the end: %v", err)
	}
	if s.dialled.left() > 0 {
		return brokenf("the connection is still open")
	}
	s.dialled.made = nil
	if got := s.srv.Remaining(); !slices.Equal(got, left) {
		return brokenf("%v is left, want %v", got, left)
	}
	return s.connect()
}

// TestSoak has 32 goroutines give random commands to shared clients, and checks every result.
func TestSoak(t *testing.T) {
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	var commands, turns atomic.Int64
	ctx, cancel := context.WithTimeout(background, *soak)
	defer cancel()
	seed := rand.Uint64()
	var running sync.WaitGroup
	clients := make([]*shared, soakClients)
	for id := range clients {
		s := &shared{id: id, commands: &commands}
		clients[id] = s
		if err := s.connect(); err != nil {
			t.Fatal(err)
		}
		for user := range soakUsers {
			r := rand.New(rand.NewPCG(seed, uint64(id*soakUsers+user)))
			running.Go(func() {
				for ctx.Err() == nil {
					var err error
					if r.IntN(200) == 0 {
						s.mu.Lock()
						turns.Add(1)
						err = s.turn(r)
						s.mu.Unlock()
					} else {
						s.mu.RLock()
						err = s.use(r, user)
						s.mu.RUnlock()
					}
					if err != nil {
						t.Errorf("client %d, goroutine %d: %v", id, user, err)
						cancel()
					}
				}
			})
		}
	}
	running.Wait()
	for _, s := range clients {
		s.c.Close()
		s.srv.Close()
	}
	nothingLeft(t, goroutines, descriptors)
	t.Logf("%d commands, %d ends of a session or RSETs in %v, seed %d", commands.Load(), turns.Load(), *soak, seed)
}
