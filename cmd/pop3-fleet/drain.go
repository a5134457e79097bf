package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
	"github.com/seed-5b1d5243/pop3/fleet"
)

const (
	drainBatch = 64
	drainBytes = 32 << 20 // mail in a batch, after which no more is taken
	drainRetry = 30 * time.Second
)

// drain delivers the mail of the fleet to a target.
func (a *app) drain(ctx context.Context, args []string) error {
	flags := a.flags("drain", "TARGET")
	var e engineFlags
	e.register(flags)
	name := flags.String("name", "drain", "`name` of the receiver: mail is kept until every name has received it")
	state := flags.String("state", "", "`file` that remembers deliveries which are not acknowledged (default DIR/drain-NAME.state)")
	once := flags.Bool("once", false, "end when no mail is left")
	forget := flags.Bool("forget", false, "remove the receiver instead: mail is no longer kept for it")
	timeout := flags.Duration("timeout", time.Minute, "bound of one delivery to a command or by HTTP")
	operands := 1
	if slices.Contains(args, "-forget") || slices.Contains(args, "--forget") {
		operands = 0
	}
	if err := a.parse(flags, args, operands); err != nil {
		return err
	}
	if *forget {
		f, nc, err := e.open(ctx, e.config())
		if err != nil {
			return err
		}
		defer nc.Close()
		return f.Forget(ctx, *name)
	}
	d := &drainer{log: a.logger(true), current: make(map[string]*fleet.Mail)}
	var err error
	if d.sink, err = d.target(flags.Arg(0), *timeout); err != nil {
		fmt.Fprintf(a.stderr, "pop3-fleet drain: %v\n", err)
		return errUsage
	}
	if *state == "" {
		*state = filepath.Join(e.dir, "drain-"+*name+".state")
	}
	store, err := boltstore.Open(*state, "drain:"+*name)
	if err != nil {
		return err
	}
	defer store.Close()
	d.store = store
	f, nc, err := a.openPatiently(ctx, &e)
	if err != nil {
		return err
	}
	defer nc.Close()
	receiver, err := f.Receive(ctx, *name)
	if err != nil {
		return err
	}
	err = d.run(ctx, receiver, *once)
	fmt.Fprintf(a.stdout, "%d mails delivered\n", d.delivered)
	return err
}

// A drainer takes mail from the stream to a target. It follows the protocol of fetch.Sink: a staged mail is recorded as
// an intent, committed, recorded as done, and only then acknowledged. So a target with two phases has each mail once,
// however often the engine delivers it and whenever the drainer is killed.
type drainer struct {
	sink      fetch.Sink
	store     fetch.Store
	log       *slog.Logger
	alive     time.Duration          // between two extensions of the mail in hand
	current   map[string]*fleet.Mail // of the batch, by key
	delivered int
}

// run delivers mail until ctx is done or, if once is set, none is left.
func (d *drainer) run(ctx context.Context, r *fleet.Receiver, once bool) error {
	if err := d.recover(ctx); err != nil {
		return err
	}
	d.alive = r.AckWait() / 4
	for ctx.Err() == nil {
		mails, err := r.Next(ctx, drainBatch, 2*time.Second)
		if err != nil {
			d.log.Warn("mail not received", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		if once && len(mails) == 0 && err == nil && ctx.Err() == nil {
			return nil
		}
		for len(mails) > 0 {
			n, size := 0, int64(0)
			for n < len(mails) && (n == 0 || size < drainBytes) {
				size += mails[n].Size
				n++
			}
			// A batch that has begun is finished, so that it need not be delivered again.
			if err := d.batch(context.WithoutCancel(ctx), mails[:n], mails); err != nil {
				return err
			}
			mails = mails[n:]
		}
	}
	return nil
}

// recover settles the deliveries of an earlier process.
func (d *drainer) recover(ctx context.Context) error {
	var intents []fetch.Record
	for r, err := range d.store.Load(ctx, fetch.Intent) {
		if err != nil {
			return err
		}
		if r.Target != d.sink.Target() {
			return fmt.Errorf("deliveries to %s are not finished: drain to it first, or choose another -name and -state", r.Target)
		}
		intents = append(intents, r)
	}
	outcomes, err := d.sink.Recover(ctx, fetch.Recovery{Account: "pop3-fleet", Now: time.Now(), Intents: intents})
	if err != nil {
		return err
	}
	var done []fetch.Record
	var forgotten []fetch.Key
	for i, r := range intents {
		if outcomes[i] == fetch.OutcomeDelivered {
			r.State, r.Target, r.Name = fetch.Done, "", ""
			done = append(done, r)
		} else {
			forgotten = append(forgotten, r.Key)
		}
	}
	return errors.Join(d.store.Put(ctx, done...), d.store.Delete(ctx, forgotten...))
}

// A delivery is a mail of a batch.
type delivery struct {
	mail   *fleet.Mail
	record fetch.Record
}

// batch delivers mails. The error is one of the store: nothing can be delivered without it. all is kept from being delivered again
// in the meantime.
func (d *drainer) batch(ctx context.Context, mails, all []*fleet.Mail) error {
	alive, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { d.keepAlive(alive, all); return nil })
	defer func() { stop(); group.Wait() }()

	done := make(map[fetch.Key]bool)
	for r, err := range d.store.Load(ctx, fetch.Done) {
		if err != nil {
			return err
		}
		done[r.Key] = true
	}
	clear(d.current)
	var staged []delivery
	for _, m := range mails {
		key := fetch.Key{UID: m.Key}
		if done[key] {
			if err := d.acknowledge(ctx, m); err != nil {
				return err
			}
			continue
		}
		d.current[m.Key] = m
		name, err := d.stage(ctx, m, key)
		if err != nil {
			d.putOff(m, err)
			continue
		}
		staged = append(staged, delivery{m, fetch.Record{
			Key: key, State: fetch.Intent, Target: d.sink.Target(), Name: name, Size: m.Size, Time: time.Now(),
		}})
	}
	return d.commit(ctx, staged)
}

func (d *drainer) stage(ctx context.Context, m *fleet.Mail, key fetch.Key) (string, error) {
	body, err := m.Open(ctx)
	if err != nil {
		return "", err
	}
	defer body.Close()
	return d.sink.Stage(ctx, fetch.Message{Account: "pop3-fleet", Key: key, Number: 1, Size: m.Size, Time: m.Time}, body)
}

func recordsOf(staged []delivery) []fetch.Record {
	records := make([]fetch.Record, len(staged))
	for i, s := range staged {
		records[i] = s.record
	}
	return records
}

// commit makes staged mail visible and acknowledges it.
func (d *drainer) commit(ctx context.Context, staged []delivery) error {
	if len(staged) == 0 {
		return nil
	}
	records := recordsOf(staged)
	if err := d.sink.Sync(ctx, records); err != nil {
		d.sink.Discard(ctx, records)
		d.putOffAll(staged, err)
		return nil
	}
	for i := range staged {
		staged[i].record = records[i] // Sync may change the names
	}
	if err := d.store.Put(ctx, records...); err != nil {
		return err
	}
	for len(staged) > 0 {
		n, err := d.sink.Commit(ctx, recordsOf(staged))
		if n < 0 || n > len(staged) || n == 0 && err == nil {
			n, err = 0, fmt.Errorf("the target reports %d of %d mails", n, len(staged))
		}
		if err := d.done(ctx, staged[:n]); err != nil {
			return err
		}
		staged = staged[n:]
		if err == nil {
			continue
		}
		failed := staged
		if fetch.IsLater(err) || fetch.IsNever(err) {
			failed = staged[:min(1, len(staged))]
		}
		if err := d.takeBack(ctx, failed); err != nil {
			return err
		}
		d.putOffAll(failed, err)
		staged = staged[len(failed):]
	}
	return nil
}

// done records mails as delivered, and acknowledges them.
func (d *drainer) done(ctx context.Context, delivered []delivery) error {
	if len(delivered) == 0 {
		return nil
	}
	records := recordsOf(delivered)
	for i := range records {
		records[i].State, records[i].Target, records[i].Name = fetch.Done, "", ""
	}
	if err := d.store.Put(ctx, records...); err != nil {
		return err
	}
	d.delivered += len(delivered)
	var acknowledged []fetch.Key
	for i, s := range delivered {
		if err := s.mail.Ack(ctx); err != nil {
			d.log.Warn("mail not acknowledged; it will not be delivered twice", "key", s.mail.Key, "err", err)
			continue
		}
		acknowledged = append(acknowledged, records[i].Key)
	}
	return d.store.Delete(ctx, acknowledged...)
}

// acknowledge acknowledges a mail that was delivered before.
func (d *drainer) acknowledge(ctx context.Context, m *fleet.Mail) error {
	if err := m.Ack(ctx); err != nil {
		d.log.Warn("mail not acknowledged", "key", m.Key, "err", err)
		return nil
	}
	return d.store.Delete(ctx, fetch.Key{UID: m.Key})
}

// takeBack removes intents, and then staged mail.
func (d *drainer) takeBack(ctx context.Context, staged []delivery) error {
	keys := make([]fetch.Key, len(staged))
	for i, s := range staged {
		keys[i] = s.record.Key
	}
	if err := d.store.Delete(ctx, keys...); err != nil {
		return err
	}
	d.sink.Discard(ctx, recordsOf(staged))
	return nil
}

func (d *drainer) putOffAll(staged []delivery, err error) {
	for _, s := range staged {
		d.putOff(s.mail, err)
	}
}

func (d *drainer) putOff(m *fleet.Mail, err error) {
	d.log.Warn("mail not delivered; it comes again", "key", m.Key, "after", drainRetry, "err", err)
	m.Nak(drainRetry)
}

// keepAlive keeps mails from being delivered again until ctx is done.
func (d *drainer) keepAlive(ctx context.Context, mails []*fleet.Mail) {
	ticker := time.NewTicker(d.alive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, m := range mails {
				m.InProgress() // fails for those that are acknowledged
			}
		}
	}
}
