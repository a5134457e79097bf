package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/seed-5b1d5243/pop3/fleet"
	"github.com/seed-5b1d5243/pop3/fleet/engine"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

func server(t *testing.T, n int, configure ...func(*pop3test.Server)) *pop3test.Server {
	var texts []string
	for i := range n {
		texts = append(texts, fmt.Sprintf("Subject: mail %d\r\n\r\ntext %d\r\n", i, i))
	}
	srv := pop3test.NewUnstartedServer(pop3test.Messages(texts...))
	srv.STLS = false
	for _, f := range configure {
		f(srv)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// run runs a configuration to its end, or until stop returns true.
func run(t *testing.T, config string, env map[string]string, stop func() bool) {
	t.Helper()
	b := service.NewStreamBuilder()
	b.SetEnvVarLookupFunc(func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
	if err := b.SetYAML(config); err != nil { // it is linted
		t.Fatal(err)
	}
	if err := b.SetLoggerYAML("level: OFF"); err != nil {
		t.Fatal(err)
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			return
		case <-ticker.C:
			if stop != nil && stop() {
				if err := s.StopWithin(10 * time.Second); err != nil {
					t.Error(err)
				}
				stop = nil
			}
		}
	}
}

func TestExample(t *testing.T) {
	t.Parallel()
	config, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	srv := server(t, 50)
	dir := t.TempDir()
	run(t, string(config), map[string]string{
		"POP3_ADDRESS": srv.Addr, "POP3_SECURITY": "none", "POP3_USER": "user", "POP3_PASSWORD": "secret", "POP3_ONCE": "true", "POP3_DIR": dir,
	}, nil)
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) != 50 {
		t.Fatalf("%d files, want 50: %v", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil || !strings.HasPrefix(string(text), "Subject: mail ") {
		t.Errorf("%q, %v", text, err)
	}
	if n := len(srv.Deleted()); n != 50 {
		t.Errorf("%d messages deleted, want 50", n)
	}
}

// A hook is an HTTP server that refuses messages for a while, and counts them.
type hook struct {
	mu      sync.Mutex
	refuse  int
	refused int
	posts   map[string]int
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse > 0 {
		h.refuse--
		h.refused++
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h.posts[r.Header.Get("Key")]++
}

func (h *hook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.posts)
}

const postOutput = `
output:
  http_client:
    url: %s
    verb: POST
    retries: 0
    headers:
      Key: ${! meta("pop3_key") }
`

func TestDeleteWaitsForAcknowledgement(t *testing.T) {
	t.Parallel()
	h := &hook{refuse: 10, posts: make(map[string]int)}
	srv := server(t, 20, func(s *pop3test.Server) {
		s.Refuse = func(verb string, n int) string {
			if verb == "DELE" && h.count() != 20 {
				t.Errorf("DELE after %d of 20 acknowledgements", h.count())
			}
			return ""
		}
	})
	web := httptest.NewServer(h)
	defer web.Close()
	run(t, fmt.Sprintf(`
input:
  pop3:
    address: %s
    security: none
    user: user
    password: secret
    once: true
`+postOutput, srv.Addr, web.URL), nil, nil)
	if n := len(srv.Deleted()); n != 20 || h.count() != 20 || h.refused != 10 {
		t.Errorf("%d deleted, %d posted, %d refused", n, h.count(), h.refused)
	}
	for key, n := range h.posts {
		if n != 1 {
			t.Errorf("%s was accepted %d times", key, n)
		}
	}
}

func TestRefusedMessageStays(t *testing.T) {
	t.Parallel()
	srv := server(t, 3)
	h := &hook{refuse: 1, posts: make(map[string]int)}
	web := httptest.NewServer(h)
	defer web.Close()
	run(t, fmt.Sprintf(`
input:
  pop3:
    address: %s
    security: none
    user: user
    password: secret
    once: true
    auto_replay_nacks: false
`+postOutput, srv.Addr, web.URL), nil, nil)
	if deleted, remaining := len(srv.Deleted()), len(srv.Remaining()); deleted != 2 || remaining != 1 {
		t.Errorf("%d deleted, %d remain", deleted, remaining)
	}
}

func TestKeepNeedsAState(t *testing.T) {
	t.Parallel()
	srv := server(t, 5)
	state := filepath.Join(t.TempDir(), "state")
	h := &hook{posts: make(map[string]int)}
	web := httptest.NewServer(h)
	defer web.Close()
	config := fmt.Sprintf(`
input:
  pop3:
    address: %s
    security: none
    user: user
    password: secret
    once: true
    delete: false
    state_file: %s
`+postOutput, srv.Addr, state, web.URL)
	run(t, config, nil, nil)
	run(t, config, nil, nil)
	for key, n := range h.posts {
		if n != 1 {
			t.Errorf("%s was posted %d times", key, n)
		}
	}
	if len(h.posts) != 5 || len(srv.Remaining()) != 5 {
		t.Errorf("%d posted, %d remain", len(h.posts), len(srv.Remaining()))
	}
	parsed, err := pop3Spec().ParseYAML("address: a\nuser: u\npassword: p\ndelete: false\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newPOP3(parsed, service.MockResources()); err == nil || !strings.Contains(err.Error(), "state_file") {
		t.Errorf("without a state: %v", err)
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	err := service.NewStreamBuilder().SetYAML("input:\n  pop3:\n    address: a\n    user: u\n    passwort: p\n")
	if err == nil || !strings.Contains(err.Error(), "passwort") {
		t.Errorf("a misspelt field: %v", err)
	}
}

func TestFleet(t *testing.T) {
	t.Parallel()
	e, err := engine.Start(engine.Options{Dir: t.TempDir(), Addr: "127.0.0.1:-1", NoSync: true, Quiet: true, User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	nc, err := e.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	f, err := fleet.Open(t.Context(), nc, fleet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	secrets := t.TempDir()
	if err := os.WriteFile(filepath.Join(secrets, "all"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var servers []*pop3test.Server
	for range 20 {
		srv := server(t, 5)
		servers = append(servers, srv)
		if err := f.Enrol(t.Context(), fleet.Mailbox{User: "user", Addr: srv.Addr, TLS: fleet.TLSNone, Secret: "file:all"}); err != nil {
			t.Fatal(err)
		}
	}
	h := &hook{refuse: 10, posts: make(map[string]int)}
	web := httptest.NewServer(h)
	defer web.Close()
	run(t, fmt.Sprintf(`
input:
  pop3_fleet:
    urls: [ %s ]
    engine_user: u
    engine_password: p
    secret_dir: %s
`+postOutput, e.URL(), secrets, web.URL), nil, func() bool {
		n := 0
		for _, srv := range servers {
			n += len(srv.Deleted())
		}
		return n == 100
	})
	if h.count() != 100 {
		t.Errorf("%d messages posted, want 100", h.count())
	}
}
