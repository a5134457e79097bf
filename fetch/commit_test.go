package fetch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errBroken = errors.New("broken")

// TestSinkFails has the Sink fail in one phase. Nothing is deleted, committed messages are recorded, and the next run
// completes the work.
func TestSinkFails(t *testing.T) {
	for _, test := range []struct {
		name      string
		set       func(s *memorySink)
		delivered int
	}{
		{"recover", func(s *memorySink) { s.recover = func(Recovery) error { return errBroken } }, 0},
		{"stage", func(s *memorySink) {
			s.stage = func(m Message) error {
				if m.Number == 100 {
					return errBroken
				}
				return nil
			}
		}, 99},
		{"sync", func(s *memorySink) {
			s.sync = func(staged []Record) error {
				if staged[0].Key.UID == "uid65" {
					return errBroken
				}
				return nil
			}
		}, 64},
		{"commit", func(s *memorySink) {
			s.commit = func(r Record) error {
				if r.Key.UID == "uid101" {
					return errBroken
				}
				return nil
			}
		}, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newFixture(t, mails(300)...)
			x.Policy.Delete = true
			test.set(x.sink)
			report := x.run(ErrSink)
			if _, err := x.Run(t.Context()); !errors.Is(err, errBroken) {
				t.Errorf("Run returned %v, without the cause", err)
			}
			if report.Deleted != 0 || len(x.drop.sent("DELE")) > 0 {
				t.Error("messages were deleted")
			}
			x.delivered(upTo(test.delivered)...)
			if n := len(x.states()); n != test.delivered {
				t.Errorf("%d records of %d messages", n, test.delivered)
			}
			if len(x.sink.staged) > 0 {
				t.Errorf("%d messages are staged", len(x.sink.staged))
			}
			x.sink.recover, x.sink.stage, x.sink.sync, x.sink.commit = nil, nil, nil, nil
			x.run(nil)
			x.delivered(upTo(300)...)
			x.left()
		})
	}
}

// TestSinkReportsNonsense has Commit return numbers that it cannot mean.
func TestSinkReportsNonsense(t *testing.T) {
	for _, n := range []int{-1, 0, 4} {
		x := newFixture(t, mails(3)...)
		x.Sink = sinkFunc{Sink: x.sink, commit: func(context.Context, []Record) (int, error) { return n, nil }}
		x.run(ErrSink)
		if states := x.states(); len(states) > 0 {
			t.Errorf("Commit returned %d: records %q", n, states)
		}
	}
}

// TestStoreFails has the Store fail once. Nothing is lost or doubled, whether it has stored the records or not.
func TestStoreFails(t *testing.T) {
	for _, call := range []string{"put intent", "put done", "delete"} {
		for _, stored := range []bool{false, true} {
			for _, deletes := range []bool{false, true} {
				t.Run(fmt.Sprint(call, ", stored ", stored, ", delete ", deletes), func(t *testing.T) {
					x := newFixture(t, mails(200)...)
					x.Policy.Delete = deletes
					fail := true
					do := func(this string, f func() error) error {
						if this != call || !fail {
							return f()
						}
						fail = false
						if stored {
							f()
						}
						return errBroken
					}
					x.Store = storeFunc{
						Store: x.store,
						put: func(ctx context.Context, records ...Record) error {
							return do(fmt.Sprint("put ", records[0].State), func() error { return x.store.Put(ctx, records...) })
						},
						delete: func(ctx context.Context, keys ...Key) error {
							return do("delete", func() error { return x.store.Delete(ctx, keys...) })
						},
					}
					if call == "delete" && !deletes {
						t.Skip("no record is deleted")
					}
					if report := x.run(ErrStore); report.Deleted > 0 {
						t.Errorf("%+v", report)
					}
					if n := len(x.sink.staged); call == "put intent" && n > 0 {
						t.Errorf("%d messages are staged after the first run", n)
					}
					x.run(nil)
					x.delivered(upTo(200)...)
					if deletes {
						x.left()
					}
					if len(x.sink.staged) > 0 {
						t.Errorf("%d messages are staged", len(x.sink.staged))
					}
				})
			}
		}
	}
}

// TestIntentsStayIfTheyCannotBeTakenBack has the Store fail permanently after it has stored intents. Staged messages
// must stay.
func TestIntentsStayIfTheyCannotBeTakenBack(t *testing.T) {
	x := newFixture(t, mails(3)...)
	broken := false
	x.Store = storeFunc{
		Store: x.store,
		put: func(ctx context.Context, records ...Record) error {
			x.store.Put(ctx, records...)
			broken = true
			return errBroken
		},
		delete: func(context.Context, ...Key) error { return errBroken },
	}
	x.run(ErrStore)
	if !broken || len(x.sink.staged) != 3 {
		t.Errorf("%d messages are staged, want 3", len(x.sink.staged))
	}
	x.Store = x.store
	x.run(nil)
	x.delivered(1, 2, 3)
}

func TestStoreLoadFails(t *testing.T) {
	x := newFixture(t, mails(3)...)
	for _, states := range []int{0, 1} { // of the call that fails
		x.Store = loadFails{x.store, states}
		x.run(ErrStore)
		x.delivered()
	}
}

type loadFails struct {
	Store
	states int
}

func (s loadFails) Load(ctx context.Context, states ...State) iter.Seq2[Record, error] {
	if len(states) != s.states {
		return s.Store.Load(ctx, states...)
	}
	return func(yield func(Record, error) bool) { yield(Record{}, errBroken) }
}

// TestPanics has user code panic. Run must panic with the same value, without leaving a goroutine or a session behind, and the next
// run must complete it.
func TestPanics(t *testing.T) {
	boom := func() { panic("boom") }
	for name, set := range map[string]func(x *fixture){
		"stage":    func(x *fixture) { x.sink.stage = func(Message) error { boom(); return nil } },
		"sync":     func(x *fixture) { x.sink.sync = func([]Record) error { boom(); return nil } },
		"commit":   func(x *fixture) { x.sink.commit = func(Record) error { boom(); return nil } },
		"recover":  func(x *fixture) { x.sink.recover = func(Recovery) error { boom(); return nil } },
		"progress": func(x *fixture) { x.Progress = func(e Event) { panicOn(e.Kind == EventStaged) } },
		"progress of the committer": func(x *fixture) {
			x.Progress = func(e Event) { panicOn(e.Kind == EventFetched) }
		},
		"filter": func(x *fixture) {
			x.Policy.Filter = func(context.Context, Candidate) (Action, error) { boom(); return 0, nil }
		},
		"store": func(x *fixture) {
			x.Store = storeFunc{Store: x.store, put: func(context.Context, ...Record) error { boom(); return nil }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // fails if a goroutine stays
				x := newFixture(t, mails(200)...)
				set(x)
				func() {
					defer func() {
						if v := recover(); v != "boom" {
							t.Errorf("Run panicked with %v", v)
						}
					}()
					x.Run(t.Context())
					t.Error("Run returned")
				}()
				x.sink.stage, x.sink.sync, x.sink.commit, x.sink.recover = nil, nil, nil, nil
				x.Progress, x.Policy.Filter, x.Store = nil, nil, x.store
				x.run(nil)
				x.delivered(upTo(200)...)
			})
		})
	}
}

func panicOn(condition bool) {
	if condition {
		panic("boom")
	}
}

// TestGoexitInCommit has the Sink end its goroutine.
func TestGoexitInCommit(t *testing.T) {
	x := newFixture(t, mails(200)...)
	x.sink.commit = func(Record) error { runtime.Goexit(); return nil }
	x.run(ErrSink)
	x.sink.commit = nil
	x.run(nil)
	x.delivered(upTo(200)...)
}

// TestNextBatchIsReceivedMeanwhile has a Sink that commits slowly: the next batch is received at the same time.
func TestNextBatchIsReceivedMeanwhile(t *testing.T) {
	x := newFixture(t, mails(128)...)
	second := make(chan bool)
	x.sink.stage = func(m Message) error {
		if m.Number == 128 {
			close(second)
		}
		return nil
	}
	commit := func(ctx context.Context, staged []Record) (int, error) {
		if staged[0].Key.UID == "uid1" {
			select {
			case <-second:
			case <-time.After(10 * time.Second):
				return 0, errors.New("the next batch is not received")
			}
		}
		return x.sink.Commit(ctx, staged)
	}
	x.Sink = sinkFunc{Sink: x.sink, commit: commit}
	x.run(nil)
	x.delivered(upTo(128)...)
}

// TestBatchesAreBounded has a Sink that never commits: at most three batches are received.
func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, mails(1000)...)
		x.Sink = sinkFunc{Sink: x.sink, commit: func(ctx context.Context, staged []Record) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		_, err := x.Run(ctx)
		if !errors.Is(err, ErrInterrupted) {
			t.Errorf("Run returned %v", err)
		}
		if elapsed := time.Since(begin); elapsed < time.Minute || elapsed > 71*time.Second {
			t.Errorf("took %v", elapsed)
		}
		if x.sink.next > 2*64+1 {
			t.Errorf("%d messages staged", x.sink.next)
		}
		if states := x.states(); len(states) > 0 || len(x.sink.staged) > 0 {
			t.Errorf("records %q, %d staged", states, len(x.sink.staged))
		}
	})
}

// TestSinkHangs has a Sink that does not obey its context. Run gives up when it must end.
func TestSinkHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, mails(500)...)
		release := make(chan bool)
		x.Sink = sinkFunc{Sink: x.sink, commit: func(context.Context, []Record) (int, error) {
			<-release
			return 0, errBroken
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		if _, err := x.Run(ctx); !errors.Is(err, ErrSink) || !errors.Is(err, errAbandoned) {
			t.Errorf("Run returned %v", err)
		}
		if elapsed := time.Since(begin); elapsed > 80*time.Second {
			t.Errorf("took %v", elapsed)
		}
		close(release)
		synctest.Wait()
		x.Sink = x.sink
		x.run(nil)
		x.delivered(upTo(500)...)
	})
}

func TestBatchSizes(t *testing.T) {
	large := func(n, size int) mail {
		m := newMail(n)
		m.text = fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", n, strings.Repeat("x", size))
		return m
	}
	x := newFixture(t, large(1, 100), large(2, 100), large(3, 1000), large(4, 100), large(5, 900), large(6, 100), large(7, 3000))
	x.BatchOctets = 1000
	x.run(nil)
	want := []string{"recover 0", "sync 2", "commit 2", "sync 1", "commit 1", "sync 1", "commit 1", "sync 1", "commit 1", "sync 1", "commit 1", "sync 1", "commit 1"}
	if !slices.Equal(x.sink.calls, want) {
		t.Errorf("calls of the sink: %q, want %q", x.sink.calls, want)
	}
	x = newFixture(t, mails(7)...)
	x.BatchMessages = 3
	x.run(nil)
	if want := []string{"recover 0", "sync 3", "commit 3", "sync 3", "commit 3", "sync 1", "commit 1"}; !slices.Equal(x.sink.calls, want) {
		t.Errorf("calls of the sink: %q, want %q", x.sink.calls, want)
	}
}

// TestForeignIntent has an intent of another target: its message is fetched again.
func TestForeignIntent(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.store.Put(t.Context(),
		Record{Key: Key{UID: "uid1"}, State: Intent, Target: "maildir:/elsewhere", Name: "x", Size: int64(len(newMail(1).text))},
		Record{Key: Key{UID: "uid2"}, State: Intent, Target: "memory:", Name: "y", Size: int64(len(newMail(2).text))})
	if report := x.run(nil); report.Recovered != 1 || report.Fetched != 2 {
		t.Errorf("%+v", report)
	}
	x.delivered(1, 3)
	x.logged("staged in another target")
	if want := []string{"uid1/0 done", "uid2/0 done", "uid3/0 done"}; !slices.Equal(x.states(), want) {
		t.Errorf("records %q", x.states())
	}
}
