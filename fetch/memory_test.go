package fetch

import (
	"context"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A largeStore knows n messages, without keeping them.
type largeStore struct {
	Store
	n    int
	size int64
	time time.Time
}

func largeUID(n int) string { return fmt.Sprintf("%08x.large", n) }

func (s largeStore) Load(ctx context.Context, states ...State) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if len(states) > 0 && !slices.Contains(states, Done) {
			return
		}
		for n := 1; n <= s.n; n++ {
			if !yield(Record{Key: Key{UID: largeUID(n)}, State: Done, Size: s.size, Header: Digest{1}, Time: s.time}, nil) {
				return
			}
		}
	}
}

func liveHeap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// dial returns a Dial for a server of pop3test.
func dial(srv *pop3test.Server) func(ctx context.Context) (*pop3.Client, error) {
	srv.STLS = false
	return func(ctx context.Context) (*pop3.Client, error) {
		c, err := pop3.NewClient(ctx, srv.Pipe(), &pop3.Options{AllowInsecureLogin: true})
		if err != nil {
			return nil, err
		}
		return c, c.Login(ctx, "user", "secret")
	}
}

// TestMemoryOfManyKnownMessages compares 300,000 known messages with a listing.
func TestMemoryOfManyKnownMessages(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	const count = 300000
	for _, policy := range []Policy{{}, {DeleteAfter: day}} {
		srv := pop3test.NewUnstartedServer(&pop3test.Generated{
			N: count + 1, SizeOf: func(int) int64 { return 100 }, UIDOf: largeUID, Text: func(int) string { return "Subject: new\r\n\r\n" },
		})
		before := liveHeap()
		x := newFixture(t)
		x.Dial, x.Store, x.Policy = dial(srv), largeStore{x.store, count, 100, x.now}, policy
		var used int64
		x.Progress = func(e Event) {
			if e.Kind == EventPlanned {
				used = liveHeap() - before
			}
		}
		if report := x.run(nil); report.Listed != count+1 || report.Fetched != 1 {
			t.Errorf("%+v", report)
		}
		if used > 40<<20 {
			t.Errorf("%+v: %d MiB for %d messages", policy, used>>20, count)
		}
		srv.Close()
	}
}

// A generatedMessage is a Maildrop with one large message.
type generatedMessage struct{ size int }

const generatedLine = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\r\n"

func (g generatedMessage) Count() int     { return 1 }
func (g generatedMessage) Size(int) int64 { return int64(g.size) }
func (g generatedMessage) UID(int) string { return "1" }
func (g generatedMessage) lines() int     { return g.size / len(generatedLine) }
func (g generatedMessage) WriteMessage(w io.Writer, _ int) error {
	block := []byte(strings.Repeat(generatedLine, 100))
	io.WriteString(w, "Subject: large\r\n\r\n")
	for range g.lines() / 100 {
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// TestMemoryOfALargeMessage receives a large message in constant memory.
func TestMemoryOfALargeMessage(t *testing.T) {
	const size = 64 << 20
	srv := pop3test.NewUnstartedServer(generatedMessage{size})
	defer srv.Close()
	x := newFixture(t)
	x.Dial, x.Progress = dial(srv), nil
	x.Sink = sinkFunc{Sink: x.sink, stage: func(ctx context.Context, m Message, body io.Reader) (string, error) {
		if n, err := io.Copy(io.Discard, body); err != nil || n < size*9/10 {
			t.Errorf("received %d, %v", n, err)
		}
		return x.sink.Stage(ctx, m, strings.NewReader(""))
	}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if report := x.run(nil); report.Fetched != 1 || report.Octets < size*9/10 {
		t.Errorf("%+v", report)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("allocated %d KiB", used>>10)
	}
}
