package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrNotEnrolled reports a mailbox that the fleet does not have.
var ErrNotEnrolled = errors.New("fleet: mailbox is not enrolled")

// Enrol adds a mailbox, or changes the one of the same user and address. A new mailbox is due at once. Enrolling the same mailbox
// again changes nothing.
func (f *Fleet) Enrol(ctx context.Context, m Mailbox) error {
	m, err := m.complete(&f.cfg)
	if err != nil {
		return err
	}
	if err := f.ensureClass(ctx, m.Provider); err != nil {
		return err
	}
	old, revision, err := f.get(ctx, m.ID())
	switch {
	case errors.Is(err, ErrNotEnrolled):
	case err != nil:
		return err
	case old == m:
		_, err := f.add(ctx, m.Provider, m.ID())
		return err
	case old.Provider != m.Provider:
		return fmt.Errorf("fleet: mailbox %s is enrolled with provider %s: remove it first", m.ID(), old.Provider)
	}
	if err := f.put(ctx, m, revision); err != nil {
		return err
	}
	had, err := f.add(ctx, m.Provider, m.ID())
	if err != nil || !had {
		return err
	}
	return f.wake(ctx, m, nil)
}

// get returns a mailbox and its revision. The revision is 0 if the error is ErrNotEnrolled.
func (f *Fleet) get(ctx context.Context, id string) (Mailbox, uint64, error) {
	entry, err := f.mailboxes.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Mailbox{}, 0, ErrNotEnrolled
	}
	if err != nil {
		return Mailbox{}, 0, fmt.Errorf("fleet: %w", err)
	}
	m, err := decodeMailbox(entry.Value())
	if err != nil {
		return Mailbox{}, 0, fmt.Errorf("fleet: mailbox %s: %w", id, err)
	}
	return m, entry.Revision(), nil
}

// put stores a mailbox if its revision is still the one given.
func (f *Fleet) put(ctx context.Context, m Mailbox, revision uint64) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = f.mailboxes.Create(ctx, m.ID(), data)
	} else {
		_, err = f.mailboxes.Update(ctx, m.ID(), data, revision)
	}
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// add makes a mailbox due if it has no job, and reports whether it had one.
func (f *Fleet) add(ctx context.Context, class, id string) (had bool, err error) {
	j := job{Due: time.Now()}
	err = f.publish(ctx, nowSubject(class, id), j, jetstream.WithExpectLastSequenceForSubject(0, jobSubjects(class, id)))
	if isFenced(err) {
		return true, nil
	}
	return false, err
}

// wake makes a mailbox that is not due yet due now. change, if not nil, changes its job. A mailbox that is due or being polled is
// left alone: its poll begins, or has begun, with the record as it is.
func (f *Fleet) wake(ctx context.Context, m Mailbox, change func(*job)) error {
	id := m.ID()
	for range 5 {
		msg, err := f.jobs.GetLastMsgForSubject(ctx, laterSubject(m.Provider, id))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fleet: %w", err)
		}
		j, err := decodeJob(msg.Data)
		if err != nil {
			return err
		}
		if change != nil {
			change(&j)
		}
		j.Due = time.Now()
		err = f.schedule(ctx, m.Provider, id, j, j.Due, msg.Sequence)
		if !isFenced(err) {
			return err
		}
	}
	return nil // it is being polled again and again
}

// Pause stops polling a mailbox. A session that is open continues.
func (f *Fleet) Pause(ctx context.Context, m Mailbox) error { return f.setPaused(ctx, m, true) }

// Resume polls a paused mailbox again.
func (f *Fleet) Resume(ctx context.Context, m Mailbox) error { return f.setPaused(ctx, m, false) }

// setPaused needs only the user and the address of m.
func (f *Fleet) setPaused(ctx context.Context, m Mailbox, paused bool) error {
	for {
		stored, revision, err := f.find(ctx, m)
		if err != nil {
			return err
		}
		if stored.Paused == paused {
			return nil
		}
		stored.Paused = paused
		err = f.put(ctx, stored, revision)
		if isFenced(err) {
			continue
		}
		if err != nil || paused {
			return err
		}
		return f.wake(ctx, stored, nil)
	}
}

// find returns the stored mailbox with the user and address of m.
func (f *Fleet) find(ctx context.Context, m Mailbox) (Mailbox, uint64, error) {
	if m.Secret == "" {
		m.Secret = "none" // it is not used
	}
	m, err := m.complete(&f.cfg)
	if err != nil {
		return m, 0, err
	}
	return f.get(ctx, m.ID())
}

// Retry polls a mailbox now that was put off or parked, and fetches its messages again that were given up.
func (f *Fleet) Retry(ctx context.Context, m Mailbox) error {
	stored, _, err := f.find(ctx, m)
	if err != nil {
		return err
	}
	if _, err := f.add(ctx, stored.Provider, stored.ID()); err != nil {
		return err
	}
	return f.wake(ctx, stored, func(j *job) {
		j.Parked, j.Logins, j.Failures, j.Tries, j.Again = false, 0, 0, nil, true
	})
}

// Remove removes a mailbox. A session that is open continues, and is the last one.
func (f *Fleet) Remove(ctx context.Context, m Mailbox) error {
	stored, revision, err := f.find(ctx, m)
	if err != nil {
		return err
	}
	if err := f.mailboxes.Delete(ctx, stored.ID(), jetstream.LastRevision(revision)); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	// A worker that holds the mailbox is refused by the fence.
	if err := f.jobs.Purge(ctx, jetstream.WithPurgeSubject(jobSubjects(stored.Provider, stored.ID()))); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// Mailboxes calls each for every mailbox, in no order, until it returns false.
func (f *Fleet) Mailboxes(ctx context.Context, each func(id string, m Mailbox) bool) error {
	w, err := f.mailboxes.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("fleet: the listing of the mailboxes was interrupted")
			}
			if entry == nil {
				return nil
			}
			m, err := decodeMailbox(entry.Value())
			if err != nil {
				return fmt.Errorf("fleet: mailbox %s: %w", entry.Key(), err)
			}
			if !each(entry.Key(), m) {
				return nil
			}
		}
	}
}
