package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config is the configuration that all members of a fleet share. The zero value is ready to use.
type Config struct {
	// Providers are the providers that have limits of their own.
	Providers []Provider

	// Limit is the number of sessions that the fleet has at once with the servers of a class that no Provider sets a limit for. If
	// 0, it is 8.
	Limit int

	// AckWait is the lease on a mailbox. If a worker dies, its mailboxes are free after AckWait. If 0, it is 60 s.
	AckWait time.Duration

	// Replicas is the number of engines that keep each stream, 1 or 3. If 0, it is 1 for streams that are created, and streams that
	// exist are left as they are. Otherwise existing streams are changed.
	Replicas int

	// MailAge is how long a mail remains in the mail stream, at least, after every consumer of it has acknowledged it. Its key
	// protects against duplicates for that time. If 0, it is 7 days. Mail that was not acknowledged remains.
	MailAge time.Duration

	// WatchEvery is the time between two runs of the overdue watch. If 0, it is 5 min.
	WatchEvery time.Duration

	Retry Retry
}

// Retry says when a mailbox is polled again after a failure, and when it is given up.
type Retry struct {
	// MinDelay is the delay after the first failure. It doubles up to MaxDelay, and varies at random by a quarter. If 0, they are
	// 2 s and 1 h.
	MinDelay, MaxDelay time.Duration

	// LoginDelay is the delay after the first refused login, instead of MinDelay, because providers lock accounts. If 0, it is
	// 1 min.
	LoginDelay time.Duration

	// Logins is the number of refused logins in a row after which the mailbox is parked: it is not polled until its Mailbox
	// changes, or Fleet.Retry. If 0, it is 5.
	Logins int

	// Deliveries is the number of times that a poll may begin without an end, because workers died, until the mailbox rests for
	// PoisonRest. If 0, they are 4 and 1 h.
	Deliveries int
	PoisonRest time.Duration

	// ClassFailures is the number of mailboxes of a class in a row that a worker cannot reach until it pauses the class for the
	// fleet, for PauseMin, which doubles up to PauseMax. If 0, they are 10, 15 s, and 15 min.
	ClassFailures      int
	PauseMin, PauseMax time.Duration
}

func setDefault[T int | time.Duration](p *T, value T) {
	if *p <= 0 {
		*p = value
	}
}

func (c *Config) setDefaults() {
	setDefault(&c.Limit, 8)
	setDefault(&c.AckWait, time.Minute)
	setDefault(&c.MailAge, 7*24*time.Hour)
	setDefault(&c.WatchEvery, 5*time.Minute)
	r := &c.Retry
	setDefault(&r.MinDelay, 2*time.Second)
	setDefault(&r.MaxDelay, time.Hour)
	setDefault(&r.LoginDelay, time.Minute)
	setDefault(&r.Logins, 5)
	setDefault(&r.Deliveries, 4)
	setDefault(&r.PoisonRest, time.Hour)
	setDefault(&r.ClassFailures, 10)
	setDefault(&r.PauseMin, 15*time.Second)
	setDefault(&r.PauseMax, 15*time.Minute)
}

// A Fleet is a set of mailboxes in an engine. Its methods may be called by several goroutines.
type Fleet struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	cfg Config

	jobs      jetstream.Stream
	mail      jetstream.Stream
	mailboxes jetstream.KeyValue
	maxInline int64 // maxInline, but for tests
	large     jetstream.ObjectStore
	seen      jetstream.ObjectStore

	mu      sync.Mutex
	classes map[string]bool // whose consumer exists
}

const (
	maxClasses      = 10_000 // the engine permits 1,000 consumers if the stream does not say otherwise
	publishTimeout  = 30 * time.Second
	publishesAtOnce = 1 << 10 // of mail; a slow disk must write them in publishTimeout
)

// Connect connects to engines, by addresses separated by commas, and never gives up to reconnect.
func Connect(url string, opts ...nats.Option) (*nats.Conn, error) {
	all := append([]nats.Option{
		nats.Name("pop3-fleet"), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.RetryOnFailedConnect(false),
	}, opts...)
	return nats.Connect(url, all...)
}

// Open opens the fleet in the engine that nc is connected to, and creates its streams if they do not exist. The caller closes nc.
// Server 2.15 or newer is needed.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Fleet, error) {
	cfg.setDefaults()
	for _, p := range cfg.Providers {
		if !isToken(p.Name) || p.Name == watchClass {
			return nil, fmt.Errorf("fleet: %q cannot be the name of a provider", p.Name)
		}
	}
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(publishTimeout), jetstream.WithPublishAsyncMaxPending(publishesAtOnce))
	if err != nil {
		return nil, err
	}
	f := &Fleet{nc: nc, js: js, cfg: cfg, maxInline: maxInline, classes: make(map[string]bool)}
	if err := f.create(ctx); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return f, nil
}

func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("fleet: server of unknown version %q", version)
	}
	if major < 2 || major == 2 && minor < 15 {
		return fmt.Errorf("fleet: server %s is too old: 2.15 or newer is needed", version)
	}
	return nil
}

// create creates what is missing.
func (f *Fleet) create(ctx context.Context) (err error) {
	f.jobs, err = f.stream(ctx, jetstream.StreamConfig{
		Name:              JobsStream,
		Subjects:          []string{nowPrefix + ">", laterPrefix + ">"},
		Retention:         jetstream.WorkQueuePolicy,
		MaxMsgsPerSubject: 1,
		MaxConsumers:      maxClasses,
		AllowMsgSchedules: true,
		AllowDirect:       true,
		PersistMode:       jetstream.DefaultPersistMode, // jobs were lost with the asynchronous mode
	})
	if err != nil {
		return err
	}
	f.mail, err = f.stream(ctx, jetstream.StreamConfig{
		Name:                 MailStream,
		Subjects:             []string{mailPrefix + ">"},
		Retention:            jetstream.LimitsPolicy, // a key that was removed protects no longer: see trim
		MaxMsgsPerSubject:    1,
		Discard:              jetstream.DiscardNew, // a full stream refuses mail, which then stays on the servers
		DiscardNewPerSubject: true,
		AllowDirect:          true,
		DenyDelete:           true,
	})
	if err != nil {
		return err
	}
	_, err = f.stream(ctx, jetstream.StreamConfig{
		Name:     EventsStream,
		Subjects: []string{eventPrefix + ">"},
		MaxAge:   14 * 24 * time.Hour,
		MaxBytes: 1 << 30,
	})
	if err != nil {
		return err
	}
	replicas := max(1, f.cfg.Replicas)
	f.mailboxes, err = f.js.KeyValue(ctx, mailboxBucket)
	if f.cfg.Replicas > 0 || errors.Is(err, jetstream.ErrBucketNotFound) {
		f.mailboxes, err = f.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: mailboxBucket, History: 1, Replicas: replicas})
	}
	if err != nil {
		return err
	}
	f.large, err = f.bucket(ctx, largeBucket, replicas)
	if err != nil {
		return err
	}
	f.seen, err = f.bucket(ctx, seenBucket, replicas)
	return err
}

func (f *Fleet) bucket(ctx context.Context, name string, replicas int) (jetstream.ObjectStore, error) {
	b, err := f.js.ObjectStore(ctx, name)
	if f.cfg.Replicas > 0 || errors.Is(err, jetstream.ErrBucketNotFound) {
		b, err = f.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: name, Replicas: replicas})
	}
	return b, err
}

func (f *Fleet) stream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	cfg.Storage = jetstream.FileStorage
	cfg.Replicas = max(1, f.cfg.Replicas)
	s, err := f.js.Stream(ctx, cfg.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return f.js.CreateOrUpdateStream(ctx, cfg) // another member may create it too
	case err != nil:
		return nil, err
	case f.cfg.Replicas > 0 && s.CachedInfo().Config.Replicas != cfg.Replicas:
		return f.js.UpdateStream(ctx, cfg)
	}
	return s, nil
}

// ensureClass creates the consumer of a class, and gives it the limit of its Provider if there is one.
func (f *Fleet) ensureClass(ctx context.Context, class string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.classes[class] {
		return nil
	}
	limit, own := f.cfg.limit(class)
	consumer, err := f.jobs.Consumer(ctx, consumerPrefix+class)
	switch {
	case err == nil && (!own || consumer.CachedInfo().Config.MaxAckPending == limit):
		f.classes[class] = true
		return nil
	case err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound):
		return fmt.Errorf("fleet: consumer of %s: %w", class, err)
	}
	_, err = f.jobs.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerPrefix + class,
		FilterSubject: nowPrefix + class + ".*",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       f.cfg.AckWait,
		MaxAckPending: limit,
		MaxDeliver:    -1,
	})
	if err != nil {
		return fmt.Errorf("fleet: consumer of %s: %w", class, err)
	}
	f.classes[class] = true
	return nil
}

// isFenced reports whether the engine refused a message because the subject has moved on.
func isFenced(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return true
	}
	return strings.Contains(api.Description, "maximum messages per subject exceeded")
}

// isOverloaded reports whether the engine refused a message because too many wait to be written.
func isOverloaded(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 429
}
