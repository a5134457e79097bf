// Package engine runs the engine of a fleet, a NATS server with JetStream, in this process.
package engine

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options are the options of an engine. Dir is required.
type Options struct {
	// Dir is the folder of its data.
	Dir string

	// Addr is the address for clients, as host:port. If empty, it is 127.0.0.1:4222. Port -1 takes a free one.
	Addr string

	// User and Password, if not empty, are required from clients that connect by network.
	User, Password string

	// NoSync leaves it to the operating system when data is written to the disk: what the engine has confirmed in the last two
	// minutes may be lost with the power. Otherwise every write is durable before it is confirmed.
	NoSync bool

	// Name, Cluster, ClusterAddr, and Routes join several engines to a cluster. Name is unique in the cluster; Routes are the
	// addresses of the engines, as host:port. Routes are protected by User and Password too.
	Name, Cluster, ClusterAddr string
	Routes                     []string

	// StartTimeout bounds the time until the engine is ready. If 0, it is 1 min.
	StartTimeout time.Duration

	// Quiet turns off the log of the server, which is written to the standard error.
	Quiet bool
}

// An Engine is a server that is running.
type Engine struct {
	server         *server.Server
	user, password string
}

// MaxPayload is the size of a message of the embedded engine, in bytes.
const MaxPayload = 8 << 20

// Start starts an engine and waits until it is ready for clients.
func Start(o Options) (*Engine, error) {
	if o.Dir == "" {
		return nil, errors.New("engine: no folder for its data")
	}
	opts := &server.Options{
		ServerName: o.Name, StoreDir: o.Dir, JetStream: true, JetStreamMaxStore: 1 << 50, DontListen: false, NoSigs: true,
		MaxPayload: MaxPayload, MaxPending: 256 << 20, SyncAlways: !o.NoSync, NoLog: o.Quiet, Username: o.User, Password: o.Password,
	}
	addr := o.Addr
	if addr == "" {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(server.DEFAULT_PORT))
	}
	var err error
	if opts.Host, opts.Port, err = splitAddr(addr); err != nil {
		return nil, err
	}
	if o.Cluster != "" {
		opts.Cluster.Name = o.Cluster
		if opts.Cluster.Host, opts.Cluster.Port, err = splitAddr(o.ClusterAddr); err != nil {
			return nil, err
		}
		opts.Cluster.Username, opts.Cluster.Password = o.User, o.Password
		for _, route := range o.Routes {
			u := &url.URL{Scheme: "nats", Host: route}
			if o.User != "" {
				u.User = url.UserPassword(o.User, o.Password)
			}
			opts.Routes = append(opts.Routes, u)
		}
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if !o.Quiet {
		s.ConfigureLogger()
	}
	go s.Start()
	timeout := o.StartTimeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	if !s.ReadyForConnections(timeout) {
		s.Shutdown()
		return nil, errors.New("engine: not ready in time; the folder or the address may be in use")
	}
	return &Engine{s, o.User, o.Password}, nil
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("engine: %w", err)
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, fmt.Errorf("engine: %q is not an address", addr)
	}
	return host, port, nil
}

// URL returns the address for clients.
func (e *Engine) URL() string { return e.server.ClientURL() }

// Connect connects without a network. Opts are more options of the connection.
func (e *Engine) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := []nats.Option{nats.InProcessServer(e.server), nats.MaxReconnects(-1)}
	if e.user != "" {
		all = append(all, nats.UserInfo(e.user, e.password))
	}
	return nats.Connect("", append(all, opts...)...)
}

// Close stops the engine and waits until its files are closed.
func (e *Engine) Close() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}
