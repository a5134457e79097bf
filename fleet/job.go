package fleet

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// A job is the message that stands for a mailbox in the jobs stream, and the state of the mailbox from one poll to the next.
type job struct {
	Due    time.Time `json:"due"`
	Polled time.Time `json:"polled,omitzero"` // end of the last poll that succeeded

	// Failures in a row, the last one, and the time of the first one.
	Failures int       `json:"failures,omitempty"`
	Logins   int       `json:"logins,omitempty"` // of them, refused logins in a row
	Kind     failure   `json:"kind,omitempty"`
	Error    string    `json:"error,omitempty"`
	Since    time.Time `json:"since,omitzero"`

	// Parked mailboxes are not polled as long as the Mailbox has this revision.
	Parked   bool   `json:"parked,omitempty"`
	Revision uint64 `json:"revision,omitempty"`

	LoginDelay time.Duration  `json:"login_delay_ns,omitempty"`
	Tries      map[string]int `json:"tries,omitempty"` // of messages that were left, by Key.Digest
	Again      bool           `json:"again,omitempty"` // fetch again what was given up

	// The records of package fetch, or the object that has them.
	Records []byte `json:"records,omitempty"`
	Object  string `json:"object,omitempty"`
}

// maxRecords is the size of records above which they go to an object, so that a poll does not write them again.
const maxRecords = 16 << 10

func decodeJob(data []byte) (j job, err error) {
	if err := json.Unmarshal(data, &j); err != nil {
		return j, fmt.Errorf("fleet: malformed job: %w", err)
	}
	return j, nil
}

// publish publishes a job.
func (f *Fleet) publish(ctx context.Context, subject string, j job, opts ...jetstream.PublishOpt) error {
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = f.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, opts...)
	if err != nil {
		return fmt.Errorf("fleet: publish job: %w", err)
	}
	return nil
}

// schedule makes a mailbox due at a time, if the last message of the mailbox is still the one with the sequence number given.
func (f *Fleet) schedule(ctx context.Context, class, id string, j job, at time.Time, sequence uint64) error {
	if now := time.Now(); at.Before(now) {
		at = now
	}
	// The engine knows whole seconds. A poll must not begin before a LOGIN-DELAY is over.
	return f.publish(ctx, laterSubject(class, id), j,
		jetstream.WithScheduleAt(at.Add(time.Second-1)), jetstream.WithScheduleTarget(nowSubject(class, id)),
		jetstream.WithExpectLastSequenceForSubject(sequence, jobSubjects(class, id)))
}

// A jobStore is the fetch.Store of one poll. Its records come from the job and go into the next one. If the worker dies between, the
// poll is repeated with the records of before, and the keys of the sink show which messages it has.
type jobStore struct {
	fetch.MemoryStore
	changed bool
}

// Put implements fetch.Store.
func (s *jobStore) Put(ctx context.Context, records ...fetch.Record) error {
	s.changed = true
	return s.MemoryStore.Put(ctx, records...)
}

// Delete implements fetch.Store.
func (s *jobStore) Delete(ctx context.Context, keys ...fetch.Key) error {
	s.changed = true
	return s.MemoryStore.Delete(ctx, keys...)
}

// A storedRecord is a fetch.Record in a job.
type storedRecord struct {
	UID    []byte      `json:"u"`
	Nth    int         `json:"n,omitempty"`
	State  fetch.State `json:"s"`
	Size   int64       `json:"z"`
	Header []byte      `json:"h,omitempty"`
	Time   int64       `json:"t"`
	Gone   int64       `json:"g,omitempty"`
	Reason string      `json:"r,omitempty"`
}

// loadStore returns the records of a job.
func (f *Fleet) loadStore(ctx context.Context, j *job) (*jobStore, error) {
	s := new(jobStore)
	data := j.Records
	if j.Object != "" {
		var err error
		if data, err = f.seen.GetBytes(ctx, j.Object); err != nil {
			return nil, fmt.Errorf("fleet: records %s: %w", j.Object, err)
		}
	}
	if len(data) == 0 {
		return s, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("fleet: malformed records: %w", err)
	}
	var records []fetch.Record
	d := json.NewDecoder(z)
	for {
		var r storedRecord
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("fleet: malformed records: %w", err)
		}
		rec := fetch.Record{Key: fetch.Key{UID: string(r.UID), Nth: r.Nth}, State: r.State, Size: r.Size, Time: time.Unix(r.Time, 0), Reason: r.Reason}
		copy(rec.Header[:], r.Header)
		if r.Gone != 0 {
			rec.Gone = time.Unix(r.Gone, 0)
		}
		if j.Again && rec.State == fetch.Refused {
			s.changed = true
			continue
		}
		records = append(records, rec)
	}
	return s, s.MemoryStore.Put(ctx, records...)
}

// saveStore puts the records into the next job. The object of the job before remains until forget.
func (f *Fleet) saveStore(ctx context.Context, id string, s *jobStore, j *job) error {
	j.Again = false
	if !s.changed {
		return nil
	}
	var records []storedRecord
	for r := range s.Load(ctx) {
		if r.State == fetch.Intent {
			continue // the sink knows the message by its key
		}
		rec := storedRecord{UID: []byte(r.Key.UID), Nth: r.Key.Nth, State: r.State, Size: r.Size, Time: r.Time.Unix(), Reason: r.Reason}
		if !r.Header.IsZero() {
			rec.Header = r.Header[:]
		}
		if !r.Gone.IsZero() {
			rec.Gone = r.Gone.Unix()
		}
		records = append(records, rec)
	}
	j.Records, j.Object = nil, ""
	if len(records) == 0 {
		return nil
	}
	slices.SortFunc(records, func(a, b storedRecord) int { return bytes.Compare(a.UID, b.UID) }) // similar ones together
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	e := json.NewEncoder(z)
	for _, r := range records {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	if buf.Len() <= maxRecords {
		j.Records = buf.Bytes()
		return nil
	}
	name := id + "." + rand.Text()
	if _, err := f.seen.PutBytes(ctx, name, buf.Bytes()); err != nil {
		return fmt.Errorf("fleet: store records: %w", err)
	}
	j.Object = name
	return nil
}

// forget deletes the object of a job that another one has replaced. The overdue watch deletes those that are left over.
func (f *Fleet) forget(ctx context.Context, object string) {
	if object != "" {
		f.seen.Delete(ctx, object)
	}
}

// objectOwner returns the mailbox that an object of records belongs to.
func objectOwner(object string) string {
	id, _, _ := strings.Cut(object, ".")
	return id
}
