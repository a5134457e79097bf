package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// copyAfter is the time from the copy of a job to the first poll.
const copyAfter = 5 * time.Second

// Copy copies the mailboxes of f, with their state and the limits of their providers, to another fleet, as from one engine to a
// cluster. Mailboxes that the other fleet has already are left as they are there, so a copy that was interrupted can be repeated.
// It returns the number of mailboxes in f.
//
// No worker may be running on f, during the copy and after it: Copy refuses if a poll has not ended. Mail is not copied: Copy refuses
// if a receiver has not acknowledged all of it.
func (f *Fleet) Copy(ctx context.Context, to *Fleet) (n int, err error) {
	s, err := f.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range s.Providers {
		if p.Held > 0 {
			return 0, fmt.Errorf("fleet: %d polls of %s have not ended: let a worker finish them, and stop it", p.Held, p.Name)
		}
	}
	if s.Undrained > 0 {
		return 0, fmt.Errorf("fleet: %d mails are not drained", s.Undrained)
	}
	if err := f.copyClasses(ctx, to); err != nil {
		return 0, err
	}
	mailboxes := make(map[string]Mailbox)
	err = f.Mailboxes(ctx, func(id string, m Mailbox) bool {
		mailboxes[id] = m
		return true
	})
	if err != nil {
		return 0, err
	}
	for msg, err := range f.messages(ctx, JobsStream, "pop3.>") {
		if err != nil {
			return n, err
		}
		_, id, _ := splitJob(msg.Subject)
		m, ok := mailboxes[id]
		if !ok {
			continue
		}
		j, err := decodeJob(msg.Data)
		if err != nil {
			return n, err
		}
		if err := f.copyMailbox(ctx, to, id, m, j); err != nil {
			return n, err
		}
		delete(mailboxes, id)
		n++
	}
	for id, m := range mailboxes { // without a job
		if err := f.copyMailbox(ctx, to, id, m, job{}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// copyClasses creates the consumers of f in the other fleet.
func (f *Fleet) copyClasses(ctx context.Context, to *Fleet) error {
	list := f.jobs.ListConsumers(ctx)
	for info := range list.Info() {
		if !strings.HasPrefix(info.Name, consumerPrefix) {
			continue
		}
		_, err := to.jobs.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: info.Name, FilterSubject: info.Config.FilterSubject, AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: info.Config.AckWait, MaxAckPending: info.Config.MaxAckPending, MaxDeliver: -1,
		})
		if err != nil {
			return fmt.Errorf("fleet: consumer %s: %w", info.Name, err)
		}
	}
	return list.Err()
}

// copyMailbox copies the job before the mailbox, whose presence marks the end: the overdue watch would give a mailbox without a job one
// without a state. The job is not due before copyAfter, so that the mailbox is there when it is.
func (f *Fleet) copyMailbox(ctx context.Context, to *Fleet, id string, m Mailbox, j job) error {
	if _, _, err := to.get(ctx, id); !errors.Is(err, ErrNotEnrolled) {
		return err
	}
	if j.Object != "" {
		data, err := f.seen.GetBytes(ctx, j.Object)
		if err == nil {
			_, err = to.seen.PutBytes(ctx, j.Object, data)
		}
		if err != nil {
			return fmt.Errorf("fleet: records %s: %w", j.Object, err)
		}
	}
	due := j.Due
	if earliest := time.Now().Add(copyAfter); due.Before(earliest) {
		due = earliest
	}
	if err := to.schedule(ctx, m.Provider, id, j, due, 0); err != nil && !isFenced(err) {
		return err
	}
	if err := to.put(ctx, m, 0); err != nil && !isFenced(err) {
		return err
	}
	return nil
}
