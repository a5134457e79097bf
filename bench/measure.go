package main

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	runTimeout = 3 * time.Minute
	longRun    = 5 * time.Second // a client that takes longer is not run again
	slowShare  = 4               // slow clients get a large message this much smaller
)

// A column is one maildrop on one server, which is the same for all clients.
type column struct {
	name    string
	unit    string // repeated to make a message
	count   int
	size    int // bytes in a message
	large   bool
	latency time.Duration
	tls     bool
}

// An outcome is the result of one client on one column.
type outcome struct {
	seconds  float64 // median, or 0 if unknown
	perOctet float64 // seconds, less those for a tiny message; 0 if unknown
	verdict  string  // of the delivered messages; "" if they were not checked
}

// The verdicts on delivered messages.
const (
	same   = "same bytes"
	lf     = "same, LF line ends"
	header = "same bodies, header changed"
	wrong  = "**wrong bytes**"
	failed = "**failed**"
)

func message(n int, unit string, size int) string {
	text := fmt.Sprintf("Subject: message %06d\r\n\r\n", n)
	lines := max(1, (size-len(text))/len(unit))
	return text + strings.Repeat(unit, lines)
}

// serve starts a server for a column. The file with its certificate is in dir.
func (c *column) serve(dir string, share int) (s *pop3test.Server, want []string, ca string, err error) {
	for n := range c.count {
		want = append(want, message(n+1, c.unit, c.size/share))
	}
	s = pop3test.NewUnstartedServer(pop3test.Messages(want...))
	s.STLS = false
	s.Latency = c.latency
	if !c.tls {
		s.Start()
		return s, want, "", nil
	}
	s.StartTLS()
	conn, err := tls.Dial("tcp", s.Addr, s.TLSConfig())
	if err != nil {
		s.Close()
		return nil, nil, "", err
	}
	defer conn.Close()
	cert := conn.ConnectionState().PeerCertificates[0]
	ca = filepath.Join(dir, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	return s, want, ca, os.WriteFile(ca, text, 0o600)
}

// measure runs each client on the column. A large message is for the clients that are not slow, a part of it for those
// that are, and a message of one line measures for all of them the time of starting, logging in and quitting.
func (c *column) measure(who []client, rounds int, dir string) ([]outcome, error) {
	outcomes := make([]outcome, len(who))
	takesPart := func(client client) bool { return !(client.noTLS && c.tls) }
	if !c.large {
		_, err := c.pass(who, takesPart, outcomes, rounds, 1, dir)
		return outcomes, err
	}
	starts := make([]outcome, len(who))
	if _, err := c.pass(who, takesPart, starts, rounds, c.size, dir); err != nil {
		return nil, err
	}
	for _, share := range []int{1, slowShare} {
		mine := func(client client) bool { return takesPart(client) && client.slow == (share > 1) }
		octets, err := c.pass(who, mine, outcomes, rounds, share, dir)
		if err != nil {
			return nil, err
		}
		for k := range who {
			if taken := outcomes[k].seconds - starts[k].seconds; mine(who[k]) && taken > 0 {
				outcomes[k].perOctet = taken / float64(octets)
			}
		}
	}
	return outcomes, nil
}

// pass runs the participants one after the other, round after round, on messages divided by share. In a round before,
// to warm up, their deliveries are checked.
func (c *column) pass(who []client, takesPart func(client) bool, outcomes []outcome, rounds, share int, dir string) (octets int, err error) {
	s, want, ca, err := c.serve(dir, share)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	for _, text := range want {
		octets += len(text)
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return 0, err
	}
	j := job{host: host, port: port, count: c.count, ca: ca}
	times := make([][]float64, len(who))
	for round := range rounds + 1 {
		for k, client := range who {
			o, warming := &outcomes[k], round == 0
			switch {
			case !takesPart(client), o.verdict == failed,
				warming && c.latency > 0, // would take long, for no new result
				len(times[k]) > 0 && times[k][0] > longRun.Seconds():
				continue
			}
			taken, verdict, err := client.run(j, want, warming && !client.limit, dir)
			switch {
			case err != nil:
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n", c.name, client.name, err)
				o.verdict = failed
			case warming:
				o.verdict = verdict
			default:
				times[k] = append(times[k], taken.Seconds())
			}
		}
	}
	for k, t := range times {
		if len(t) > 0 && outcomes[k].verdict != failed {
			slices.Sort(t)
			outcomes[k].seconds = t[len(t)/2]
		}
	}
	return octets, nil
}

// run runs the client once, as a process, and checks its deliveries if requested.
func (c *client) run(j job, want []string, look bool, dir string) (taken time.Duration, verdict string, err error) {
	if j.dir, err = os.MkdirTemp(dir, "run"); err != nil {
		return 0, "", err
	}
	defer os.RemoveAll(j.dir)
	for _, folder := range []string{"mail", "mail/tmp", "mail/cur", "mail/new"} {
		if err := os.Mkdir(filepath.Join(j.dir, folder), 0o700); err != nil {
			return 0, "", err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	cmd, err := c.command(ctx, j)
	if err != nil {
		return 0, "", err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout := filepath.Join(j.dir, "stdout")
	if look {
		f, err := os.Create(stdout)
		if err != nil {
			return 0, "", err
		}
		defer f.Close()
		cmd.Stdout = f
	}
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, "", fmt.Errorf("%w: %s", err, &stderr)
	}
	taken = time.Since(begin)
	if !look {
		return taken, "", nil
	}
	got, err := os.ReadFile(stdout)
	if c.maildir {
		got, err = readMaildir(filepath.Join(j.dir, "mail"))
	}
	return taken, judge(got, want), err
}

// readMaildir returns all messages of a Maildir, in the order of their first lines.
func readMaildir(dir string) ([]byte, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "new"))
	var messages [][]byte
	for _, e := range entries {
		text, readErr := os.ReadFile(filepath.Join(dir, "new", e.Name()))
		messages, err = append(messages, text), errors.Join(err, readErr)
	}
	slices.SortFunc(messages, bytes.Compare)
	return bytes.Join(messages, nil), err
}

// judge compares the concatenated deliveries with the messages sent.
func judge(got []byte, want []string) string {
	whole := []byte(strings.Join(want, ""))
	if sha256.Sum256(got) == sha256.Sum256(whole) {
		return same
	}
	got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n"))
	whole = bytes.ReplaceAll(whole, []byte("\r\n"), []byte("\n"))
	if sha256.Sum256(got) == sha256.Sum256(whole) {
		return lf
	}
	for i, text := range want {
		_, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
		at := bytes.Index(got, []byte("\n\n"))
		if at < 0 || !bytes.HasPrefix(got[at+2:], []byte(body)) {
			return wrong
		}
		got = got[at+2+len(body):]
		if i == len(want)-1 && len(got) > 0 {
			return wrong
		}
	}
	return header
}
