package main

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

const (
	longRun   = 5 * time.Second // a client that takes longer is not run again
	slowShare = 4               // slow clients get a large message this much smaller
)

// A column is one maildrop on one server, which is the same for all clients.
type column struct {
	name    string
	unit    string // repeated to make a message
	count   int
	size    int  // bytes in a message
	large   bool // measured per octet, without the time of starting
	old     bool // the clients have fetched all messages before
	latency time.Duration
	tls     bool
}

// An outcome is the result of one client on one column.
type outcome struct {
	seconds  float64 // median, or 0 if unknown
	perOctet float64 // seconds, less those for a tiny message; 0 if unknown
	cpu      float64 // seconds, median; 0 if unknown
	memory   float64 // MiB, the highest peak; 0 if unknown
	verdict  string  // of the delivered messages; "" if they were not checked
	reason   string  // why the client was not run again, or ""
}

func message(n int, unit string, size int) string {
	text := fmt.Sprintf("Subject: message %06d\r\n\r\n", n)
	lines := max(1, (size-len(text))/len(unit))
	return text + strings.Repeat(unit, lines)
}

// serve starts a server for a column. The file with its certificate is in dir. The job has no folder yet.
func (c *column) serve(dir string, share int) (s *pop3test.Server, want []string, j job, err error) {
	j.count = c.count
	drop := pop3test.Maildrop(nil)
	if c.old {
		for n := range c.count {
			j.uids = append(j.uids, fmt.Sprintf("%08x.bench", n+1))
		}
		drop = &pop3test.Generated{
			N:      c.count,
			Text:   func(n int) string { return message(n, c.unit, c.size) },
			SizeOf: func(int) int64 { return int64(c.size) },
			UIDOf:  func(n int) string { return j.uids[n-1] },
		}
	} else {
		for n := range c.count {
			want = append(want, message(n+1, c.unit, c.size/share))
		}
		drop = pop3test.Messages(want...)
	}
	s = pop3test.NewUnstartedServer(drop)
	s.STLS = false
	s.Latency = c.latency
	if c.tls {
		s.StartTLS()
		j.ca, err = writeCertificate(s, dir)
	} else {
		s.Start()
	}
	if err == nil {
		j.host, j.port, err = net.SplitHostPort(s.Addr)
	}
	if err != nil {
		s.Close()
	}
	return s, want, j, err
}

// writeCertificate writes the server's certificate to a file in dir.
func writeCertificate(s *pop3test.Server, dir string) (file string, err error) {
	conn, err := tls.Dial("tcp", s.Addr, s.TLSConfig())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	cert := conn.ConnectionState().PeerCertificates[0]
	file = filepath.Join(dir, "ca.pem")
	return file, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600)
}

// measure runs each client on the column. A large message is for the clients that are not slow, a part of it for those
// that are, and a message of one line measures for all of them the time of starting, logging in and quitting.
func (b *bench) measure(c column, dir string) ([]outcome, error) {
	outcomes := make([]outcome, len(b.clients))
	takesPart := func(client client) bool { return !(client.noTLS && c.tls) && !(client.lists && !c.old) }
	if !c.large {
		_, err := b.pass(c, takesPart, outcomes, 1, dir)
		return outcomes, err
	}
	starts := make([]outcome, len(b.clients))
	if _, err := b.pass(c, takesPart, starts, c.size, dir); err != nil {
		return nil, err
	}
	for _, share := range []int{1, slowShare} {
		mine := func(client client) bool { return takesPart(client) && client.slow == (share > 1) }
		octets, err := b.pass(c, mine, outcomes, share, dir)
		if err != nil {
			return nil, err
		}
		for k := range b.clients {
			if taken := outcomes[k].seconds - starts[k].seconds; mine(b.clients[k]) && taken > 0 {
				outcomes[k].perOctet = taken / float64(octets)
			}
		}
	}
	return outcomes, nil
}

// pass runs the participants one after the other, round after round, on messages divided by share. The round before is
// to warm up, and to check what is delivered to stdout; a Maildir is checked after each run.
func (b *bench) pass(c column, takesPart func(client) bool, outcomes []outcome, share int, dir string) (octets int, err error) {
	dir, err = os.MkdirTemp(dir, "pass")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // an ordinary user's folders are in it
		return 0, err
	}
	s, want, j, err := c.serve(dir, share)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	j.pop3 = b.pop3
	for _, text := range want {
		octets += len(text)
	}
	expected := digestsOf(want)
	runs := make([][]usage, len(b.clients))
	for round := range b.rounds + 1 {
		for k, client := range b.clients {
			o, warming := &outcomes[k], round == 0
			if !takesPart(client) || o.reason != "" ||
				warming && c.latency > 0 || // would take long, for no new result
				len(runs[k]) > 0 && runs[k][0].Wall > longRun {
				continue
			}
			j.dir = filepath.Join(dir, fmt.Sprint("client", k))
			if round == 0 || !c.old {
				if err := client.settle(j); err != nil {
					return 0, fmt.Errorf("%s, %s: %w", c.name, client.name, err)
				}
			}
			before := len(s.Commands())
			u, verdict, err := b.try(client, j, want, expected, warming && !client.limit)
			if c.old && err == nil && !client.limit {
				err = foundNothing(j.mail(), s.Commands()[before:])
			}
			switch {
			case err != nil:
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n", c.name, client.name, err)
				o.verdict, o.reason = failed, reason(err, j.dir)
				if errors.Is(err, errLate) {
					o.verdict = late
				}
			case !warming || client.maildir && u.Wall > longRun:
				runs[k] = append(runs[k], u)
				o.memory = max(o.memory, float64(u.Memory)/(1<<20))
			}
			if verdict != "" {
				o.verdict = worse(o.verdict, verdict)
			}
			if !c.old {
				if err := os.RemoveAll(j.dir); err != nil {
					return 0, err
				}
			}
		}
	}
	for k, runs := range runs {
		if len(runs) > 0 && outcomes[k].reason == "" {
			outcomes[k].seconds = median(runs, func(u usage) time.Duration { return u.Wall })
			outcomes[k].cpu = median(runs, func(u usage) time.Duration { return u.CPU })
		}
	}
	return octets, nil
}

// reason returns the beginning of an error for a note, without the names of the folders above dir.
func reason(err error, dir string) string {
	text, _, _ := strings.Cut(strings.ReplaceAll(err.Error(), filepath.Dir(dir)+"/", ""), "\n")
	return text[:min(len(text), 100)]
}

func median(runs []usage, value func(usage) time.Duration) float64 {
	times := make([]time.Duration, len(runs))
	for i, u := range runs {
		times[i] = value(u)
	}
	slices.Sort(times)
	return times[len(times)/2].Seconds()
}

// settle makes the folder of a job with an empty Maildir in it, and the state of a client that has fetched the messages
// with the job's unique-ids.
func (c *client) settle(j job) error {
	for _, folder := range []string{"", "mail", "mail/tmp", "mail/cur", "mail/new"} {
		if err := os.Mkdir(filepath.Join(j.dir, folder), 0o700); err != nil {
			return err
		}
	}
	if j.uids == nil || c.remember == nil {
		return nil
	}
	return c.remember(j)
}

// try runs a client once. It checks a delivery to a Maildir, and to stdout if look is set.
func (b *bench) try(c client, j job, want []string, expected digests, look bool) (u usage, verdict string, err error) {
	if c.maildir {
		if u, err = c.run(j, b.limit, nil); err == nil && j.uids == nil {
			verdict, err = expected.judge(j.mail())
		}
		return u, verdict, err
	}
	if !look {
		u, err = c.run(j, b.limit, nil)
		return u, "", err
	}
	stdout, err := os.Create(filepath.Join(j.dir, "stdout"))
	if err != nil {
		return u, "", err
	}
	defer stdout.Close()
	if u, err = c.run(j, b.limit, stdout); err != nil {
		return u, "", err
	}
	got, err := os.ReadFile(stdout.Name())
	return u, judge(got, want), err
}

// foundNothing returns an error if a client that should have found nothing new has not looked, has ended without QUIT,
// which may be the only sign of an error, or has fetched a message to the Maildir dir.
func foundNothing(dir string, commands []string) error {
	if !slices.Contains(commands, "UIDL") || !slices.Contains(commands, "QUIT") {
		return errors.New("did not ask for the unique-ids, or did not end the session")
	}
	files, err := os.ReadDir(filepath.Join(dir, "new"))
	fetched := slices.ContainsFunc(commands, func(line string) bool {
		return strings.HasPrefix(line, "RETR ") || strings.HasPrefix(line, "TOP ")
	})
	if err == nil && (fetched || len(files) > 0) {
		return errors.New("fetched old messages")
	}
	return err
}
