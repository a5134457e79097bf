package fleet

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestEngineIsLostWithItsDisk runs three engines, and takes one of them away with its data.
func TestEngineIsLostWithItsDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute on a busy machine")
	}
	t.Parallel()
	var addrs, routes, urls, dirs []string
	for range 3 {
		addr := freeAddr(t)
		addrs, routes = append(addrs, addr), append(routes, freeAddr(t))
		urls, dirs = append(urls, "nats://"+addr), append(dirs, t.TempDir())
	}
	start := func(i int) *process {
		return spawn(t, "engine", "FLEET_DIR="+dirs[i], "FLEET_ADDR="+addrs[i], fmt.Sprint("FLEET_NAME=engine-", i),
			"FLEET_CLUSTER_ADDR="+routes[i], "FLEET_ROUTES="+strings.Join(routes, ","))
	}
	var engines []*process
	started := make(chan *process)
	for i := range 3 {
		go func() { started <- start(i) }()
	}
	for range 3 {
		engines = append(engines, <-started)
	}
	// The order of engines is that of their start; one of them is killed by its address.
	byDir := make(map[string]*process)
	for _, e := range engines {
		for _, v := range e.cmd.Env {
			if dir, ok := strings.CutPrefix(v, "FLEET_DIR="); ok {
				byDir[dir] = e
			}
		}
	}
	url := strings.Join(urls, ",")
	cfg := quick()
	cfg.Replicas = 3
	waitForCluster(t, url, cfg)
	b := benchAt(t, url, cfg)
	f := newField(b, 30, 2)
	b.enrol(f.boxes...)
	k := &killer{t: t}
	for range 2 {
		k.start("FLEET_URL=" + url)
	}
	n := 0
	mail := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			n++
			f.mail(n)
		}
	}
	mail(3 * time.Second)
	byDir[dirs[1]].kill()
	if err := os.RemoveAll(dirs[1]); err != nil {
		t.Fatal(err)
	}
	mail(3 * time.Second)
	start(1)
	mail(3 * time.Second)
	f.drained()
	for _, p := range k.workers {
		p.kill()
	}
	// The new engine has caught up when another one may go.
	b.until("the new engine is current", func() bool {
		info, err := b.mail.Info(t.Context())
		if err != nil || info.Cluster == nil || info.Cluster.Leader == "" {
			return false
		}
		for _, peer := range info.Cluster.Replicas {
			if !peer.Current || peer.Offline {
				return false
			}
		}
		return len(info.Cluster.Replicas) == 2
	})
	byDir[dirs[0]].kill()
	b.until("the mail is read", func() bool {
		for msg, err := range b.messages(t.Context(), MailStream, mailPrefix+">") {
			if err == nil && msg.Header.Get(headerObject) != "" {
				_, err = b.large.GetBytes(t.Context(), msg.Header.Get(headerObject))
			}
			if err != nil { // there is no leader yet
				return false
			}
		}
		return true
	})
	f.check()
	f.checkSessions()
}

// waitForCluster waits until the cluster has a leader and enough peers.
func waitForCluster(t *testing.T, url string, cfg Config) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		nc, err := Connect(url)
		if err == nil {
			_, err = Open(t.Context(), nc, cfg)
			nc.Close()
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
