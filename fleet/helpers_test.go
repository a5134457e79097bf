package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/fleet/engine"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// quick is a Config with which tests take seconds.
func quick() Config {
	return Config{
		AckWait: 1500 * time.Millisecond,
		Retry: Retry{
			MinDelay: 200 * time.Millisecond, MaxDelay: 2 * time.Second, LoginDelay: 200 * time.Millisecond, Deliveries: 4,
			PoisonRest: time.Second, PauseMin: time.Second, PauseMax: 2 * time.Second,
		},
	}
}

// A bench is an engine, a fleet in it, and mailboxes on servers without a network.
type bench struct {
	*Fleet
	t      *testing.T
	url    string
	engine *engine.Engine // nil if it runs elsewhere

	mu      sync.Mutex
	servers map[string]*maildrop // by host
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	e, err := engine.Start(engine.Options{Dir: t.TempDir(), Addr: "127.0.0.1:-1", NoSync: true, Quiet: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	b := benchAt(t, e.URL(), cfg)
	b.engine = e
	return b
}

// benchAt returns a bench with an engine that runs elsewhere.
func benchAt(t *testing.T, url string, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, url: url, servers: make(map[string]*maildrop)}
	b.Fleet = b.open(cfg)
	return b
}

// open returns a fleet with a connection of its own, as another process has it.
func (b *bench) open(cfg Config) *Fleet {
	b.t.Helper()
	nc, err := Connect(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	f, err := Open(b.t.Context(), nc, cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// A maildrop is a mailbox on a server of its own.
type maildrop struct {
	srv  *pop3test.Server
	host string

	mu    sync.Mutex
	texts []string
	uids  []string
}

func (d *maildrop) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.texts)
}

func (d *maildrop) text(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.texts[n-1]
}

func (d *maildrop) Size(n int) int64 { return int64(len(d.text(n))) }

func (d *maildrop) UID(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.uids[n-1]
}

func (d *maildrop) WriteMessage(w io.Writer, n int) error {
	_, err := io.WriteString(w, d.text(n))
	return err
}

// add adds a message with a unique-id.
func (d *maildrop) add(uid, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uids = append(d.uids, uid)
	d.texts = append(d.texts, text)
}

// mailbox returns the mailbox on a host, which is created if it does not exist, with some messages.
func (b *bench) mailbox(host string, messages ...string) (Mailbox, *maildrop) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := &maildrop{host: host, srv: pop3test.NewUnstartedServer(nil)}
	d.srv.Maildrop = d
	d.srv.STLS, d.srv.Exclusive = false, true
	b.servers[host] = d
	b.t.Cleanup(d.srv.Close)
	for i, text := range messages {
		d.add(fmt.Sprintf("uid-%d", i+1), text)
	}
	return Mailbox{User: "user", Addr: host + ":110", TLS: TLSNone, Secret: "keyring:x", Provider: "test", Interval: time.Second}, d
}

// DialContext implements pop3.Dialer.
func (b *bench) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	b.mu.Lock()
	d := b.servers[host]
	b.mu.Unlock()
	if d == nil {
		return nil, errors.New("connection refused")
	}
	return d.srv.DialContext(ctx, network, addr)
}

func testSecrets() *Secrets {
	return &Secrets{Keyring: func(context.Context, string) (string, error) { return "secret", nil }}
}

// worker returns a worker that is not running.
func (b *bench) worker() *Worker {
	w := &Worker{Fleet: b.Fleet, Secrets: testSecrets(), Dialer: b}
	if os.Getenv("FLEET_TEST_LOG") != "" {
		w.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return w
}

// start runs a worker until the function that it returns is called, or the test ends.
func (b *bench) start(w *Worker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != nil {
			b.t.Errorf("Run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) enrol(mailboxes ...Mailbox) {
	b.t.Helper()
	for _, m := range mailboxes {
		if err := b.Enrol(b.t.Context(), m); err != nil {
			b.t.Fatal(err)
		}
	}
}

// until waits until a condition holds, which nothing announces.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			b.t.Fatalf("not in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// mails returns the number of times that each text is in the mail stream, by its SHA-256. The digest is that of the mail as it is read.
func (b *bench) mails() map[string]int {
	b.t.Helper()
	found := make(map[string]int)
	for msg, err := range b.messages(b.t.Context(), MailStream, mailPrefix+">") {
		if err != nil {
			b.t.Fatal(err)
		}
		text := msg.Data
		if object := msg.Header.Get(headerObject); object != "" {
			if text, err = b.large.GetBytes(b.t.Context(), object); err != nil {
				b.t.Fatal(err)
			}
		}
		if got := sha(string(text)); got != msg.Header.Get(headerSHA256) {
			b.t.Errorf("%s has the digest %s, its header says %s", msg.Subject, got, msg.Header.Get(headerSHA256))
		}
		found[sha(string(text))]++
	}
	return found
}

// jobOf returns the job of a mailbox, and whether it is due. It waits while the mailbox has two: one that is scheduled, and one that
// is not acknowledged yet.
func (b *bench) jobOf(m Mailbox) (j job, due bool) {
	b.t.Helper()
	b.until("one job of a mailbox", func() bool {
		n := 0
		for msg, err := range b.messages(b.t.Context(), JobsStream, jobSubjects(m.Provider, m.ID())) {
			if err != nil {
				b.t.Fatal(err)
			}
			if j, err = decodeJob(msg.Data); err != nil {
				b.t.Fatal(err)
			}
			_, _, due = splitJob(msg.Subject)
			n++
		}
		return n == 1
	})
	return j, due
}

// text returns a message of about size bytes.
func text(subject string, size int) string {
	line := strings.Repeat("x", 70) + "\r\n"
	return "Subject: " + subject + "\r\n\r\n" + strings.Repeat(line, max(1, size/len(line)))
}
