package fleet

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// objectAge is the age from which the overdue watch deletes an object that no message refers to. It is longer than a session.
const objectAge = 24 * time.Hour

// sweepRecords deletes objects of records that no job refers to.
func (f *Fleet) sweepRecords(ctx context.Context, current map[string]string) error {
	return f.sweep(ctx, f.seen, time.Hour, func(object string) (bool, error) {
		if current[objectOwner(object)] == object {
			return false, nil
		}
		// It may have been written since.
		id := objectOwner(object)
		m, _, err := f.get(ctx, id)
		if errors.Is(err, ErrNotEnrolled) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		for _, subject := range []string{nowSubject(m.Provider, id), laterSubject(m.Provider, id)} {
			msg, err := f.jobs.GetLastMsgForSubject(ctx, subject)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return false, err
			}
			if j, err := decodeJob(msg.Data); err != nil || j.Object == object {
				return false, err
			}
		}
		return true, nil
	})
}

// sweepLarge deletes mail in the object store that is older than age and that no message refers to.
func (f *Fleet) sweepLarge(ctx context.Context, age time.Duration) error {
	return f.sweep(ctx, f.large, age, func(object string) (bool, error) {
		id, key := objectKey(object)
		subject := mailPrefix + id + "." + key
		batch, err := jetstreamext.GetLastMsgsFor(ctx, f.js, MailStream, []string{subject, subject + ".*"})
		if err != nil {
			return false, err
		}
		for msg, err := range batch {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}
			if err != nil {
				return false, err
			}
			if msg.Header.Get(headerObject) == object {
				return false, nil
			}
		}
		return true, nil
	})
}

// sweep deletes the objects older than age that are unused, and what they leave: the store keeps a message for each deleted object,
// and the chunks of an object that was not completed, because the worker died.
func (f *Fleet) sweep(
	ctx context.Context, bucket jetstream.ObjectStore, age time.Duration, unused func(object string) (bool, error),
) error {
	status, err := bucket.Status(ctx)
	if err != nil {
		return err
	}
	stream, err := f.js.Stream(ctx, "OBJ_"+status.Bucket())
	if err != nil {
		return err
	}
	prefix := "$O." + status.Bucket()
	objects, err := bucket.List(ctx, jetstream.ListObjectsShowDeleted())
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return err
	}
	complete := make(map[string]bool) // by the name of the chunks
	for _, o := range objects {
		complete[o.NUID] = true
		if time.Since(o.ModTime) < age || !strings.Contains(o.Name, ".") {
			continue
		}
		if o.Deleted {
			subject := prefix + ".M." + base64.URLEncoding.EncodeToString([]byte(o.Name))
			if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
				return err
			}
			continue
		}
		ok, err := unused(o.Name)
		if err != nil {
			return err
		}
		if ok {
			if err := bucket.Delete(ctx, o.Name); err != nil {
				return err
			}
		}
	}
	return sweepChunks(ctx, stream, prefix+".C.", age, complete)
}

// sweepChunks deletes chunks of objects that are not complete, if the last one is older than age.
func sweepChunks(ctx context.Context, stream jetstream.Stream, prefix string, age time.Duration, complete map[string]bool) error {
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return err
	}
	for subject := range info.State.Subjects {
		if complete[strings.TrimPrefix(subject, prefix)] {
			continue
		}
		last, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if time.Since(last.Time) < age {
			continue
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return err
		}
	}
	return nil
}
