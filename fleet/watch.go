package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const batchSize = 1000

// messages yields the messages of a stream that match a subject, in order, without a consumer.
func (f *Fleet) messages(ctx context.Context, stream, subject string) iter.Seq2[*jetstream.RawStreamMsg, error] {
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		next := uint64(1)
		for {
			batch, err := jetstreamext.GetBatch(ctx, f.js, stream, batchSize,
				jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchSeq(next), jetstreamext.GetBatchMaxBytes(8<<20))
			if err != nil {
				yield(nil, err)
				return
			}
			n := 0
			for msg, err := range batch {
				if errors.Is(err, jetstreamext.ErrNoMessages) {
					return
				}
				if err != nil {
					yield(nil, fmt.Errorf("fleet: %w", err))
					return
				}
				n++
				next = msg.Sequence + 1
				if !yield(msg, nil) {
					return
				}
			}
			if n == 0 {
				return
			}
		}
	}
}

// event publishes what an operator should know. It does not wait for the engine, and is lost if the engine cannot be reached.
func (f *Fleet) event(class, id string, kind event, text string) {
	data, err := json.Marshal(struct {
		Time time.Time `json:"time"`
		Text string    `json:"text,omitempty"`
	}{time.Now().UTC(), text})
	if err == nil {
		f.nc.PublishMsg(&nats.Msg{Subject: eventPrefix + class + "." + id + "." + string(kind), Data: data})
	}
}

// engineLost stands for the class in the events of workers that have lost the connection to the engine.
const engineLost = "engine"

// lastLost returns when a worker last lost the connection to the engine, or the zero Time.
func (f *Fleet) lastLost(ctx context.Context) time.Time {
	events, err := f.js.Stream(ctx, EventsStream)
	if err != nil {
		return time.Time{}
	}
	msg, err := events.GetLastMsgForSubject(ctx, eventPrefix+engineLost+".*."+string(eventLost))
	if err != nil {
		return time.Time{}
	}
	return msg.Time
}

// watch is the overdue watch. One worker at a time runs it, because it is a job.
func (r *running) watch(ctx context.Context, msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	found, err := r.f.Watch(ctx)
	if err != nil {
		r.log.Warn("overdue watch failed", "err", err)
	} else if found > 0 {
		r.log.Warn("overdue watch made mailboxes due", "mailboxes", found)
	}
	due := time.Now().Add(r.f.cfg.WatchEvery)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), engineTimeout)
	defer cancel()
	if err := r.f.schedule(after, watchClass, watchID, job{Due: due}, due, meta.Sequence.Stream); err == nil || isFenced(err) {
		msg.Ack()
	}
}

// Watch makes mailboxes due that have no job, or whose job is stuck, and returns how many. It also removes mail that is old enough
// and was acknowledged, and objects that nothing refers to. Workers run it every Config.WatchEvery.
func (f *Fleet) Watch(ctx context.Context) (found int, err error) {
	missing := make(map[string]Mailbox)
	err = f.Mailboxes(ctx, func(id string, m Mailbox) bool {
		missing[id] = m
		return true
	})
	if err != nil {
		return 0, err
	}
	now := time.Now()
	objects := make(map[string]string) // of records, by mailbox
	var late []*jetstream.RawStreamMsg
	for msg, err := range f.messages(ctx, JobsStream, "pop3.>") {
		if err != nil {
			return found, err
		}
		_, id, _ := splitJob(msg.Subject)
		m, enrolled := missing[id]
		j, err := decodeJob(msg.Data)
		if err == nil {
			objects[id] = j.Object
		}
		if !enrolled {
			continue
		}
		delete(missing, id)
		if err != nil || now.Sub(dueOf(msg, j)) > 2*m.Interval+f.cfg.AckWait {
			late = append(late, &jetstream.RawStreamMsg{Subject: msg.Subject, Sequence: msg.Sequence, Data: msg.Data})
		}
	}
	for id, m := range missing {
		if _, _, err := f.get(ctx, id); errors.Is(err, ErrNotEnrolled) {
			continue // removed in the meantime
		}
		if err := f.ensureClass(ctx, m.Provider); err != nil {
			return found, err
		}
		err := f.publish(ctx, nowSubject(m.Provider, id), job{Due: now},
			jetstream.WithExpectLastSequenceForSubject(0, jobSubjects(m.Provider, id)))
		if isFenced(err) {
			continue // it is being polled, or was just enrolled
		}
		if err != nil {
			return found, err
		}
		found++
		f.event(m.Provider, id, eventForgotten, "it had no job")
	}
	n, err := f.rearm(ctx, late)
	found += n
	if err != nil {
		return found, err
	}
	return found, errors.Join(f.trim(ctx, now.Add(-f.cfg.MailAge)), f.sweepRecords(ctx, objects), f.sweepLarge(ctx, objectAge))
}

// dueOf returns when a job is delivered: not when it is due if it was put off.
func dueOf(msg *jetstream.RawStreamMsg, j job) time.Time {
	if text, ok := strings.CutPrefix(msg.Header.Get(jetstream.ScheduleHeader), "@at "); ok {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			return at
		}
	}
	return j.Due
}

// rearm publishes jobs again that are overdue and will not be delivered: schedules that did not fire, and jobs that their consumer
// takes for acknowledged. Jobs that wait for their turn, or are held by a worker, are left alone.
func (f *Fleet) rearm(ctx context.Context, late []*jetstream.RawStreamMsg) (found int, err error) {
	floors := make(map[string]uint64)
	for _, msg := range late {
		class, id, due := splitJob(msg.Subject)
		if due {
			floor, ok := floors[class]
			if !ok {
				info, err := f.jobs.Consumer(ctx, consumerPrefix+class)
				switch {
				case errors.Is(err, jetstream.ErrConsumerNotFound):
					if err := f.ensureClass(ctx, class); err != nil {
						return found, err
					}
				case err != nil:
					return found, err
				default:
					floor = info.CachedInfo().AckFloor.Stream
				}
				floors[class] = floor
			}
			if msg.Sequence > floor {
				continue
			}
		}
		_, err := f.js.PublishMsg(ctx, &nats.Msg{Subject: msg.Subject, Data: msg.Data}, f.rearmOptions(class, id, due, msg.Sequence)...)
		if isFenced(err) {
			continue
		}
		if err != nil {
			return found, err
		}
		found++
		f.event(class, id, eventForgotten, "its job was stuck")
	}
	return found, nil
}

func (f *Fleet) rearmOptions(class, id string, due bool, sequence uint64) []jetstream.PublishOpt {
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequenceForSubject(sequence, jobSubjects(class, id))}
	if !due {
		opts = append(opts, jetstream.WithScheduleAt(time.Now()), jetstream.WithScheduleTarget(nowSubject(class, id)))
	}
	return opts
}

// trim removes mail that was stored before a time, as far as every consumer of the mail stream has acknowledged it. Without a
// consumer nothing is removed.
func (f *Fleet) trim(ctx context.Context, before time.Time) error {
	floor, consumers := ^uint64(0), 0
	list := f.mail.ListConsumers(ctx)
	for info := range list.Info() {
		if info.Config.Durable == "" {
			continue
		}
		consumers++
		floor = min(floor, info.AckFloor.Stream)
	}
	if err := list.Err(); err != nil || consumers == 0 {
		return err
	}
	info, err := f.mail.Info(ctx)
	if err != nil {
		return err
	}
	first, last := info.State.FirstSeq, min(floor, info.State.LastSeq)
	// The messages of the stream have all sequence numbers from first on, in the order of time.
	end := first
	for last >= first && end <= last {
		middle := end + (last-end)/2
		msg, err := f.mail.GetMsg(ctx, middle)
		if err != nil {
			return err
		}
		if msg.Time.Before(before) {
			end = middle + 1
		} else if middle == end {
			break
		} else {
			last = middle - 1
		}
	}
	if end <= first {
		return nil
	}
	return f.mail.Purge(ctx, jetstream.WithPurgeSequence(end))
}
