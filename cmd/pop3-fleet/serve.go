package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/zalando/go-keyring"
	"golang.org/x/sync/errgroup"

	"github.com/seed-5b1d5243/pop3/fleet"
	"github.com/seed-5b1d5243/pop3/fleet/engine"
)

// workerFlags are the flags of a worker.
type workerFlags struct {
	sessions           int
	megabytes          int64
	secretDir, command string
	verbose            bool
}

func (w *workerFlags) register(f *flag.FlagSet) {
	f.IntVar(&w.sessions, "sessions", 256, "sessions at once of this worker")
	f.Int64Var(&w.megabytes, "memory", 256, "mail in flight, in MiB")
	f.StringVar(&w.secretDir, "secret-dir", "", "`folder` with the files of file:NAME secrets")
	f.StringVar(&w.command, "secret-command", "", "`command` that prints a command:NAME secret; NAME is its last argument")
	f.BoolVar(&w.verbose, "v", false, "log every failed poll")
}

// limitMemory makes the garbage collector run in time: large mail leaves several times as much garbage as is in flight. engine
// reports whether an engine runs in this process.
func (w *workerFlags) limitMemory(engine bool) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := 256 + 2*w.megabytes + int64(w.sessions)/4 // a session takes up to 256 KiB
	if engine {
		limit += 512
	}
	debug.SetMemoryLimit(limit << 20)
}

// keyringService is the service of keyring:NAME secrets.
const keyringService = "pop3-fleet"

func (w *workerFlags) worker(f *fleet.Fleet, log *slog.Logger) *fleet.Worker {
	return &fleet.Worker{
		Fleet: f, Sessions: w.sessions, Bytes: w.megabytes << 20, Logger: log,
		Secrets: &fleet.Secrets{
			Env: true, Dir: w.secretDir, Command: strings.Fields(w.command),
			Keyring: func(ctx context.Context, name string) (string, error) { return keyring.Get(keyringService, name) },
		},
	}
}

func (a *app) logger(verbose bool) *slog.Logger {
	level := slog.LevelError
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

// serve runs the engine, a worker, and the page with metrics.
func (a *app) serve(ctx context.Context, args []string) error {
	flags := a.flags("serve", "")
	var e engineFlags
	var w workerFlags
	var o engine.Options
	e.register(flags)
	w.register(flags)
	flags.StringVar(&o.Addr, "listen", "127.0.0.1:4222", "`address` of the engine for clients")
	flags.BoolVar(&o.NoSync, "no-sync", false, "let the system decide when data is written to the disk; what was confirmed may be lost with the power")
	flags.StringVar(&o.Name, "name", "", "name of this engine in a cluster")
	flags.StringVar(&o.Cluster, "cluster", "", "name of the cluster that this engine joins")
	flags.StringVar(&o.ClusterAddr, "cluster-listen", "0.0.0.0:6222", "`address` of the engine for the other engines")
	routes := flags.String("routes", "", "`addresses` of the engines of the cluster, separated by commas")
	metrics := flags.String("metrics", "127.0.0.1:9475", "`address` of the page with metrics; empty for none")
	work := flags.Bool("worker", true, "run a worker too")
	if err := a.parse(flags, args, 0); err != nil {
		return err
	}
	if *routes != "" {
		o.Routes = strings.Split(*routes, ",")
	}
	if (o.Cluster == "") != (len(o.Routes) == 0) || (o.Cluster == "") != (o.Name == "") {
		fmt.Fprintln(a.stderr, "pop3-fleet serve: -cluster, -name, and -routes go together")
		return errUsage
	}
	o.Quiet = !w.verbose
	w.limitMemory(e.url == "")
	if e.url == "" {
		started, err := e.start(o)
		if err != nil {
			return err
		}
		defer started.Close()
		fmt.Fprintf(a.stdout, "engine on %s, data in %s\n", started.URL(), e.dir)
	}
	f, nc, err := a.openPatiently(ctx, &e)
	if err != nil {
		return err
	}
	defer nc.Close()
	worker := w.worker(f, a.logger(w.verbose))
	group, ctx := errgroup.WithContext(ctx)
	if *metrics != "" {
		if err := a.serveMetrics(ctx, group, *metrics, f, &worker.Counts); err != nil {
			return err
		}
	}
	group.Go(func() error {
		if *work {
			return worker.Run(ctx)
		}
		<-ctx.Done()
		return nil
	})
	return group.Wait()
}

// openPatiently opens the fleet, and waits for an engine that is starting or has no quorum yet.
func (a *app) openPatiently(ctx context.Context, e *engineFlags) (*fleet.Fleet, *nats.Conn, error) {
	waiting := false
	for {
		f, nc, err := e.open(ctx, e.config())
		if err == nil {
			return f, nc, nil
		}
		if ctx.Err() != nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, nats.ErrAuthorization) {
			return nil, nil, err
		}
		if !waiting {
			fmt.Fprintln(a.stderr, "waiting for the engine:", err)
			waiting = true
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-time.After(time.Second):
		}
	}
}

// worker runs a worker.
func (a *app) worker(ctx context.Context, args []string) error {
	flags := a.flags("worker", "")
	var e engineFlags
	var w workerFlags
	e.register(flags)
	w.register(flags)
	metrics := flags.String("metrics", "", "`address` of a page with metrics")
	if err := a.parse(flags, args, 0); err != nil {
		return err
	}
	w.limitMemory(false)
	if os.Getenv(demoChild) != "" {
		go func() {
			io.Copy(io.Discard, a.stdin)
			os.Exit(0)
		}()
	}
	f, nc, err := a.openPatiently(ctx, &e)
	if err != nil {
		return err
	}
	defer nc.Close()
	worker := w.worker(f, a.logger(w.verbose))
	group, ctx := errgroup.WithContext(ctx)
	if *metrics != "" {
		if err := a.serveMetrics(ctx, group, *metrics, f, &worker.Counts); err != nil {
			return err
		}
	}
	group.Go(func() error { return worker.Run(ctx) })
	return group.Wait()
}

// serveMetrics serves the page until ctx is done.
func (a *app) serveMetrics(ctx context.Context, group *errgroup.Group, addr string, f *fleet.Fleet, counts *fleet.Counts) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: metricsHandler(f, counts), ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Fprintf(a.stdout, "metrics on http://%s/metrics\n", l.Addr())
	return nil
}
