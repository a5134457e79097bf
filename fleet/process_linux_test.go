package fleet

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3/fleet/engine"
)

var chaosFor = flag.Duration("chaos", 0, "duration of the chaos trial; if 0, a short one")

// TestMain runs the test binary as a process of a trial if the environment says so.
func TestMain(m *testing.M) {
	switch os.Getenv("FLEET_ROLE") {
	case "engine":
		runEngine()
	case "worker":
		runWorker()
	case "poller":
		runPoller()
	default:
		os.Exit(m.Run())
	}
}

// runEngine is an engine until it is killed, or the trial ends.
func runEngine() {
	o := engine.Options{
		Dir: os.Getenv("FLEET_DIR"), Addr: os.Getenv("FLEET_ADDR"), Quiet: true, NoSync: os.Getenv("FLEET_SYNC") == "",
	}
	if routes := os.Getenv("FLEET_ROUTES"); routes != "" {
		o.Cluster, o.Name, o.ClusterAddr = "fleet", os.Getenv("FLEET_NAME"), os.Getenv("FLEET_CLUSTER_ADDR")
		o.Routes = strings.Split(routes, ",")
	}
	_, err := engine.Start(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// runWorker is a worker that dies at one of the points of a poll, or is killed, or ends with the trial.
func runWorker() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	ctx := context.Background()
	var f *Fleet
	for {
		nc, err := Connect(os.Getenv("FLEET_URL"))
		if err == nil {
			opening, cancel := context.WithTimeout(ctx, 5*time.Second)
			f, err = Open(opening, nc, quick())
			cancel()
		}
		if err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond) // the engine is down
	}
	f.maxInline = 8 << 10
	point := os.Getenv("FLEET_POINT")
	w := &Worker{Fleet: f, Secrets: testSecrets(), Timeout: 5 * time.Second, Bytes: 1 << 20}
	w.hook = func(at string) {
		if at == point && rand.IntN(4) == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	for w.Run(ctx) != nil {
		time.Sleep(100 * time.Millisecond)
	}
}

// A process is a process of a trial.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
}

func spawn(t *testing.T, role string, env ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "FLEET_ROLE="+role), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin, done: make(chan struct{})}
	if role == "engine" {
		bufio.NewReader(stdout).ReadString('\n')
	}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

func (p *process) dead() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// A field is a number of mailboxes at one listener, each at an address of its own in 127.0.0.0/8, and the record of what was sent
// to them.
type field struct {
	*bench
	listener net.Listener
	drops    []*maildrop
	boxes    []Mailbox
	refuse   func(provider string) string // the answer to PASS, or ""

	mu      sync.Mutex
	sent    map[string]string // mailbox of each mail, by SHA-256
	open    map[string]int    // sessions now, by mailbox and by provider
	twice   int               // how often a mailbox had two sessions
	most    map[string]int    // the most sessions at once, by provider
	greeted map[string]time.Time
	gaps    []time.Duration
	pairs   []string
}

func newField(b *bench, mailboxes, providers int) *field {
	b.t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		b.t.Fatal(err)
	}
	f := &field{
		bench: b, listener: l, sent: map[string]string{}, open: map[string]int{}, most: map[string]int{},
		greeted: map[string]time.Time{},
	}
	b.t.Cleanup(func() { l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	byHost := map[string]int{}
	for i := range mailboxes {
		host := fmt.Sprintf("127.1.%d.%d", i/250, i%250+1)
		_, d := b.mailbox(host)
		m := Mailbox{
			User: "user", Addr: net.JoinHostPort(host, strconv.Itoa(port)), TLS: TLSNone, Secret: "keyring:x",
			Provider: "p" + strconv.Itoa(i%providers), Interval: 2 * time.Second,
		}
		d.srv.Refuse = func(verb string, n int) string {
			if verb == "PASS" && f.refuse != nil {
				return f.refuse(m.Provider)
			}
			return ""
		}
		f.drops, f.boxes = append(f.drops, d), append(f.boxes, m)
		byHost[host] = i
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
			go f.serve(conn, byHost[host])
		}
	}()
	return f
}

// serve joins a connection to the server of a mailbox, and counts it.
func (f *field) serve(conn net.Conn, i int) {
	host, provider := f.drops[i].host, f.boxes[i].Provider
	f.mu.Lock()
	f.open[host]++
	f.open[provider]++
	if f.open[host] > 1 {
		f.twice++
		f.pairs = append(f.pairs, fmt.Sprintf("%v: %s, the last session began %v ago",
			time.Now().Format(time.TimeOnly), host, time.Since(f.greeted[host])))
	}
	f.most[provider] = max(f.most[provider], f.open[provider])
	if last, ok := f.greeted[host]; ok {
		f.gaps = append(f.gaps, time.Since(last))
	}
	f.greeted[host] = time.Now()
	f.mu.Unlock()
	ended := sync.OnceFunc(func() { // by the worker or by the server
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open[host]--
		f.open[provider]--
	})
	server := f.drops[i].srv.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(server, conn); ended(); server.Close() })
	io.Copy(conn, server)
	ended()
	conn.Close()
	wg.Wait()
}

// mail adds a message to a random mailbox.
func (f *field) mail(n int) {
	i := rand.IntN(len(f.drops))
	size := 200 + rand.IntN(6000)
	if n%20 == 0 {
		size = 50_000 // goes to the object store
	}
	text := text(fmt.Sprintf("%d to %s", n, f.drops[i].host), size)
	f.mu.Lock()
	f.sent[sha(text)] = f.drops[i].host
	f.mu.Unlock()
	f.drops[i].add(fmt.Sprintf("uid-%d", n), text)
}

// drained waits until every mailbox is empty.
func (f *field) drained() {
	f.t.Helper()
	f.until("all mailboxes empty", func() bool {
		for _, d := range f.drops {
			if len(d.srv.Remaining()) > 0 {
				return false
			}
		}
		return true
	})
}

// check compares what was sent with the mail stream.
func (f *field) check() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	found := f.mails()
	missing, twice := 0, 0
	for sum := range f.sent {
		switch n := found[sum]; {
		case n == 0:
			missing++
		case n > 1:
			twice++
		}
	}
	f.t.Logf("%d messages, %d missing, %d twice; two sessions in a mailbox: %d; most sessions of a provider: %v",
		len(f.sent), missing, twice, f.twice, f.most)
	for _, pair := range f.pairs[:min(len(f.pairs), 10)] {
		f.t.Log(pair)
	}
	if missing > 0 || twice > 0 || len(found) != len(f.sent) {
		f.t.Errorf("%d messages sent, %d in the stream, %d missing, %d twice", len(f.sent), len(found), missing, twice)
	}
}

// checkSessions looks for two sessions in a mailbox.
func (f *field) checkSessions() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.twice > 0 {
		f.t.Errorf("%d times two sessions in a mailbox", f.twice)
	}
}

// A killer has the processes of a trial.
type killer struct {
	t       *testing.T
	workers []*process
	env     [][]string
	deaths  []int
}

func (k *killer) start(env ...string) {
	k.workers = append(k.workers, spawn(k.t, "worker", env...))
	k.env = append(k.env, env)
	k.deaths = append(k.deaths, 0)
}

// revive starts workers again that are dead.
func (k *killer) revive() {
	for i, p := range k.workers {
		if p.dead() {
			k.deaths[i]++
			k.workers[i] = spawn(k.t, "worker", k.env[i]...)
		}
	}
}

// TestWorkerDiesAtEachPoint kills workers at the six points of a poll.
func TestWorkerDiesAtEachPoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, quick())
	f := newField(b, 60, 3)
	b.enrol(f.boxes...)
	k := &killer{t: t}
	points := []string{"receiving", "received", "stored", "deleted", "quit", "scheduled"}
	for _, point := range points {
		k.start("FLEET_URL="+b.url, "FLEET_POINT="+point)
	}
	want := 3
	if !testing.Short() {
		want = 6
	}
	n := 0
	b.until("deaths at each point", func() bool {
		for range 3 {
			n++
			f.mail(n)
		}
		k.revive()
		for _, d := range k.deaths {
			if d < want {
				return false
			}
		}
		return true
	})
	for _, p := range k.workers {
		p.kill()
	}
	b.start(b.worker2())
	f.drained()
	t.Logf("deaths at %s: %v", strings.Join(points, ", "), k.deaths)
	f.check()
	f.checkSessions()
	f.mu.Lock()
	defer f.mu.Unlock()
	for provider, n := range f.most {
		if n > 8 {
			t.Errorf("provider %s had %d sessions at once, limit 8", provider, n)
		}
	}
}

// worker2 returns a worker that dials by network.
func (b *bench) worker2() *Worker {
	w := b.worker()
	w.Dialer = nil
	return w
}
