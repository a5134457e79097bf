package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"golang.org/x/sync/semaphore"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
)

// bufferedBytes bounds the mail in flight of an input.
const bufferedBytes = 256 << 20

func pop3Spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Services").
		Summary("Fetches the messages of a POP3 mailbox, and deletes them from the server after they were acknowledged.").
		Description(`A message is deleted after the output has acknowledged it, and the session quits after that. A message may come
again if the process is killed in between; its metadata `+"`pop3_key`"+` is the same then.

Metadata: `+"`pop3_mailbox`, `pop3_uid`, `pop3_key`, `pop3_number`, and `pop3_size`"+`.`).
		Fields(
			service.NewStringField("address").Description("The server, as host or host:port.").Example("pop.example.org"),
			service.NewStringAnnotatedEnumField("security", map[string]string{
				"tls":      "TLS from the first byte, port 995 by default.",
				"starttls": "STLS, or no session; port 110 by default.",
				"none":     "No encryption unless the server offers it; port 110 by default.",
			}).Default("tls").Description("How the connection is protected."),
			service.NewStringField("user").Description("The name of the user."),
			service.NewStringField("password").Secret().Description("The password."),
			service.NewTLSField("tls").Advanced(),
			service.NewDurationField("poll_interval").Default("5m").Description("The time from the beginning of a poll to the next one."),
			service.NewBoolField("delete").Default(true).Description("Delete messages after they were acknowledged. Otherwise `state_file` is required."),
			service.NewStringField("state_file").Default("").Description("A file that remembers which messages were acknowledged, across restarts."),
			service.NewBoolField("once").Default(false).Description("End the input after one poll."),
			service.NewIntField("batch_count").Default(64).Advanced().Description("The number of messages after which acknowledgements are waited for and recorded."),
			service.NewDurationField("timeout").Default("2m").Advanced().Description("The longest silence of the server."),
			service.NewAutoRetryNacksToggleField(),
		)
}

func init() {
	service.MustRegisterInput("pop3", pop3Spec(), func(conf *service.ParsedConfig, mgr *service.Resources) (service.Input, error) {
		in, err := newPOP3(conf, mgr)
		if err != nil {
			return nil, err
		}
		return service.AutoRetryNacksToggled(conf, in)
	})
}

// A pop3Input fetches one mailbox.
type pop3Input struct {
	source
	log               *service.Logger
	address, security string
	user, password    string
	tls               *tls.Config
	interval, timeout time.Duration
	remove, once      bool
	stateFile         string
	batch             int
	memory            fetch.MemoryStore // without a state file
	failures          int
	budget            *semaphore.Weighted
}

func newPOP3(conf *service.ParsedConfig, mgr *service.Resources) (in *pop3Input, err error) {
	in = &pop3Input{log: mgr.Logger(), budget: semaphore.NewWeighted(bufferedBytes)}
	in.out, in.source.run = make(chan *parcel), in.poll
	read := func(err2 error) { err = errors.Join(err, err2) }
	var err2 error
	in.address, err2 = conf.FieldString("address")
	read(err2)
	in.security, err2 = conf.FieldString("security")
	read(err2)
	in.user, err2 = conf.FieldString("user")
	read(err2)
	in.password, err2 = conf.FieldString("password")
	read(err2)
	in.tls, err2 = conf.FieldTLS("tls")
	read(err2)
	in.interval, err2 = conf.FieldDuration("poll_interval")
	read(err2)
	in.remove, err2 = conf.FieldBool("delete")
	read(err2)
	in.stateFile, err2 = conf.FieldString("state_file")
	read(err2)
	in.once, err2 = conf.FieldBool("once")
	read(err2)
	in.batch, err2 = conf.FieldInt("batch_count")
	read(err2)
	in.timeout, err2 = conf.FieldDuration("timeout")
	read(err2)
	switch {
	case err != nil:
		return nil, err
	case in.address == "" || in.user == "":
		return nil, errors.New("address and user are required")
	case !in.remove && in.stateFile == "":
		return nil, errors.New("state_file is required if messages are not deleted: all of them would come again")
	case in.interval <= 0 || in.batch < 1:
		return nil, errors.New("poll_interval and batch_count must be positive")
	}
	return in, nil
}

func (in *pop3Input) account() string { return in.user + "@" + in.address }

// poll fetches again and again, until ctx is done or a poll fails.
func (in *pop3Input) poll(ctx context.Context, ready func()) error {
	if err := in.wait(ctx, backOff(in.failures)); err != nil {
		return err
	}
	var store fetch.Store = &in.memory
	if in.stateFile != "" {
		file, err := boltstore.Open(in.stateFile, in.account())
		if err != nil {
			return err
		}
		defer file.Close()
		store = file
	}
	for {
		begin := time.Now()
		err := in.fetch(ctx, store, ready)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fetch.ErrIncomplete):
			in.log.Warnf("some messages remain on the server: %v", err)
		case err != nil:
			in.failures++
			in.log.Errorf("poll failed: %v", err)
			return err
		}
		in.failures = 0
		if in.once {
			return nil
		}
		if err := in.wait(ctx, time.Until(begin.Add(in.interval))); err != nil {
			return err
		}
	}
}

// backOff returns the delay after a number of failures in a row. Providers lock accounts after many logins.
func backOff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(time.Second<<min(failures-1, 10), 5*time.Minute)
}

func (in *pop3Input) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetch is one poll.
func (in *pop3Input) fetch(ctx context.Context, store fetch.Store, ready func()) error {
	done := make(map[fetch.Key]bool)
	for r, err := range store.Load(ctx, fetch.Done) {
		if err != nil {
			return err
		}
		done[r.Key] = true
	}
	f := &fetch.Fetcher{
		Account: in.account(),
		Store:   store,
		Sink: &ackSink{
			account: in.account(), out: in.out, budget: in.budget, bytes: bufferedBytes,
			known: func(k fetch.Key) bool { return done[k] },
		},
		Policy:        fetch.Policy{Delete: in.remove, AllNew: fetch.AllNewMatch},
		Retry:         fetch.Retry{Attempts: 3},
		BatchMessages: in.batch,
		Dial: func(ctx context.Context) (*pop3.Client, error) {
			c, err := in.dial(ctx)
			if err == nil {
				ready()
			}
			return c, err
		},
	}
	_, err := f.Run(ctx)
	return err
}

func (in *pop3Input) dial(ctx context.Context) (*pop3.Client, error) {
	dial := pop3.DialTLS
	switch in.security {
	case "starttls":
		dial = pop3.DialStartTLS
	case "none":
		dial = pop3.Dial
	}
	c, err := dial(ctx, in.address, &pop3.Options{TLSConfig: in.tls, Timeout: in.timeout, AllowInsecureLogin: in.security == "none"})
	if err != nil {
		return nil, err
	}
	if err := c.Login(ctx, in.user, in.password); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
