package fetch

import (
	"context"
	"fmt"
)

// recover settles the intents of an earlier run, before anything is dialed.
func (r *run) recover(ctx context.Context) error {
	var intents, foreign []Record
	target := r.f.Sink.Target()
	for rec, err := range r.f.Store.Load(ctx, Intent) {
		if err != nil {
			return storeError(err)
		}
		switch {
		case rec.State != Intent:
		case rec.Target == target:
			intents = append(intents, rec)
		default:
			foreign = append(foreign, rec)
		}
	}
	outcomes, err := r.f.Sink.Recover(ctx, Recovery{Account: r.f.Account, Now: r.now(), Intents: intents})
	if err != nil {
		return sinkError(err)
	}
	if len(outcomes) != len(intents) {
		return sinkError(fmt.Errorf("%d outcomes of %d intents", len(outcomes), len(intents)))
	}
	var done []Record
	var forgotten []Key
	for i, rec := range intents {
		if outcomes[i] == OutcomeDelivered {
			rec.State, rec.Target, rec.Name = Done, "", ""
			done = append(done, rec)
		} else {
			forgotten = append(forgotten, rec.Key)
		}
	}
	for _, rec := range foreign {
		r.log.Warn("message was staged in another target, and is fetched again", "target", rec.Target, "uid", rec.Key.UID)
		forgotten = append(forgotten, rec.Key)
	}
	if len(done) > 0 {
		if err := r.f.Store.Put(ctx, done...); err != nil {
			return storeError(err)
		}
	}
	if len(forgotten) > 0 {
		if err := r.f.Store.Delete(ctx, forgotten...); err != nil {
			return storeError(err)
		}
	}
	for _, rec := range done {
		r.report.Recovered++
		r.emit(Event{Kind: EventRecovered, Message: r.message(rec.Key, 0, rec.Size)})
	}
	for _, key := range forgotten {
		r.emit(Event{Kind: EventRecovered, Message: r.message(key, 0, -1), Err: errForgotten})
	}
	return nil
}
