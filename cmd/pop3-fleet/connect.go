package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-5b1d5243/pop3/fleet"
	"github.com/seed-5b1d5243/pop3/fleet/engine"
)

// engineUser is the user of the embedded engine. Its password is in the folder of the engine.
const engineUser = "pop3-fleet"

// engineFlags say where the engine is.
type engineFlags struct {
	dir, url, passwordFile, creds string
	ackWait                       time.Duration
	replicas                      int
}

func (e *engineFlags) register(f *flag.FlagSet) {
	f.StringVar(&e.dir, "dir", "fleet", "`folder` of the embedded engine, with its address and password")
	f.StringVar(&e.url, "nats", os.Getenv("POP3_FLEET_NATS"), "`address` of an engine that runs elsewhere, or several, separated by commas (environment: POP3_FLEET_NATS)")
	f.StringVar(&e.passwordFile, "password-file", "", "`file` with the password of the user "+engineUser+" of the engine")
	f.StringVar(&e.creds, "creds", "", "NATS credentials `file`")
	f.DurationVar(&e.ackWait, "lease", 0, "lease on a mailbox, for streams that are created (default 1m)")
	f.IntVar(&e.replicas, "replicas", 0, "number of engines that keep the data: 1 or 3 (default: as it is, or 1)")
}

func (e *engineFlags) config() fleet.Config {
	return fleet.Config{AckWait: e.ackWait, Replicas: e.replicas}
}

func (e *engineFlags) addressFile() string { return filepath.Join(e.dir, "address") }

func (e *engineFlags) passwordPath() string {
	if e.passwordFile != "" {
		return e.passwordFile
	}
	return filepath.Join(e.dir, "password")
}

func readLine(path string) (string, error) {
	data, err := os.ReadFile(path)
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line), err
}

// connect connects to the engine.
func (e *engineFlags) connect(opts ...nats.Option) (*nats.Conn, error) {
	url := e.url
	if url == "" {
		var err error
		if url, err = readLine(e.addressFile()); err != nil {
			return nil, fmt.Errorf("no engine in %s (start one with pop3-fleet serve, or name one with -nats): %w", e.dir, err)
		}
	}
	if e.creds != "" {
		opts = append(opts, nats.UserCredentials(e.creds))
	} else if e.url == "" || e.passwordFile != "" {
		password, err := readLine(e.passwordPath())
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserInfo(engineUser, password))
	}
	nc, err := fleet.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the engine: %w", err)
	}
	return nc, nil
}

// open connects to the engine and opens the fleet. The caller closes the connection.
func (e *engineFlags) open(ctx context.Context, cfg fleet.Config) (*fleet.Fleet, *nats.Conn, error) {
	nc, err := e.connect()
	if err != nil {
		return nil, nil, err
	}
	opening, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	f, err := fleet.Open(opening, nc, cfg)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return f, nc, nil
}

// start starts the embedded engine, and writes its address and a password to its folder.
func (e *engineFlags) start(o engine.Options) (*engine.Engine, error) {
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return nil, err
	}
	password, err := readLine(e.passwordPath())
	if errors.Is(err, fs.ErrNotExist) && e.passwordFile == "" {
		password = rand.Text()
		err = os.WriteFile(e.passwordPath(), []byte(password+"\n"), 0o600)
	}
	if err != nil {
		return nil, err
	}
	if password == "" {
		return nil, fmt.Errorf("%s is empty", e.passwordPath())
	}
	if nc, err := e.connect(nats.Timeout(2 * time.Second)); err == nil {
		nc.Close()
		return nil, fmt.Errorf("another process serves %s", e.dir) // two engines would destroy the data
	}
	if err := e.keepMode(o.Cluster); err != nil {
		return nil, err
	}
	o.Dir = filepath.Join(e.dir, "data")
	o.User, o.Password = engineUser, password
	started, err := engine.Start(o)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(e.addressFile(), []byte(started.URL()+"\n"), 0o600); err != nil {
		started.Close()
		return nil, err
	}
	return started, nil
}

// keepMode refuses to start an engine of a cluster with the data of a single one, which it would discard, and the reverse.
func (e *engineFlags) keepMode(cluster string) error {
	path := filepath.Join(e.dir, "mode")
	mode := "single"
	if cluster != "" {
		mode = "cluster " + cluster
	}
	old, err := readLine(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(path, []byte(mode+"\n"), 0o600)
	}
	if err == nil && old != mode {
		err = fmt.Errorf("%s has the data of an engine in the mode %q, which one in the mode %q would discard: start it in a new folder, "+
			"and move the mailboxes with pop3-fleet copy", e.dir, old, mode)
	}
	return err
}
