package connect

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/redpanda-data/benthos/v4/public/service"
	"golang.org/x/sync/semaphore"

	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fleet"
)

func fleetSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Services").
		Summary("Fetches the messages of many POP3 mailboxes, together with the other workers of a fleet.").
		Description(`Each mailbox is polled by one worker at a time, and the limits of providers hold for all workers together. Enrol
mailboxes with the command pop3-fleet. A message is deleted from the server after the output has acknowledged it.

Use this input if the output recognizes a message that comes again, by the metadata `+"`pop3_key`"+`. Otherwise read the stream
POP3_MAIL, which has each message once, with the input nats_jetstream.

Metadata: `+"`pop3_mailbox`, `pop3_uid`, `pop3_key`, `pop3_number`, and `pop3_size`"+`.`).
		Fields(
			service.NewStringListField("urls").Description("The addresses of the engine.").Default([]string{nats.DefaultURL}),
			service.NewStringField("engine_user").Default("").Description("The user of the engine."),
			service.NewStringField("engine_password").Default("").Secret().Description("The password of the user of the engine."),
			service.NewStringField("credentials_file").Default("").Advanced().Description("A NATS credentials file."),
			service.NewIntField("sessions").Default(64).Description("The number of sessions at once."),
			service.NewBoolField("secret_env").Default(true).Description("Resolve secrets env:NAME to the environment variables POP3_SECRET_NAME."),
			service.NewStringField("secret_dir").Default("").Description("The folder of secrets file:NAME."),
			service.NewStringListField("secret_command").Default([]any{}).Description("The command that prints secrets command:NAME; NAME is its last argument."),
			service.NewTLSField("tls").Advanced().Description("TLS settings for the mail servers."),
			service.NewAutoRetryNacksToggleField(),
		)
}

func init() {
	service.MustRegisterInput("pop3_fleet", fleetSpec(), func(conf *service.ParsedConfig, mgr *service.Resources) (service.Input, error) {
		in, err := newFleet(conf)
		if err != nil {
			return nil, err
		}
		return service.AutoRetryNacksToggled(conf, in)
	})
}

// A fleetInput is a worker of a fleet.
type fleetInput struct {
	source
	urls    []string
	options []nats.Option
	worker  fleet.Worker
}

func newFleet(conf *service.ParsedConfig) (in *fleetInput, err error) {
	in = new(fleetInput)
	in.out, in.source.run = make(chan *parcel), in.work
	read := func(err2 error) { err = errors.Join(err, err2) }
	var err2 error
	in.urls, err2 = conf.FieldStringList("urls")
	read(err2)
	user, err2 := conf.FieldString("engine_user")
	read(err2)
	password, err2 := conf.FieldString("engine_password")
	read(err2)
	creds, err2 := conf.FieldString("credentials_file")
	read(err2)
	in.worker.Sessions, err2 = conf.FieldInt("sessions")
	read(err2)
	secrets := new(fleet.Secrets)
	secrets.Env, err2 = conf.FieldBool("secret_env")
	read(err2)
	secrets.Dir, err2 = conf.FieldString("secret_dir")
	read(err2)
	secrets.Command, err2 = conf.FieldStringList("secret_command")
	read(err2)
	in.worker.TLSConfig, err2 = conf.FieldTLS("tls")
	read(err2)
	if err != nil {
		return nil, err
	}
	if in.worker.Sessions < 1 {
		return nil, errors.New("sessions must be positive")
	}
	in.worker.Secrets = secrets
	if user != "" {
		in.options = append(in.options, nats.UserInfo(user, password))
	}
	if creds != "" {
		in.options = append(in.options, nats.UserCredentials(creds))
	}
	budget := semaphore.NewWeighted(bufferedBytes)
	in.worker.Sink = func(m fleet.Mailbox, known func(fetch.Key) bool) fetch.Sink {
		return &ackSink{account: m.Account(), out: in.out, budget: budget, bytes: bufferedBytes, known: known}
	}
	return in, nil
}

// work runs the worker until ctx is done.
func (in *fleetInput) work(ctx context.Context, ready func()) error {
	nc, err := fleet.Connect(strings.Join(in.urls, ","), in.options...)
	if err != nil {
		return err
	}
	defer nc.Close()
	if in.worker.Fleet, err = fleet.Open(ctx, nc, fleet.Config{}); err != nil {
		return err
	}
	ready()
	if err := in.worker.Run(ctx); err != nil {
		return err
	}
	return ctx.Err()
}
