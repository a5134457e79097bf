package fetch

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3"
)

// A listingServer has many messages and prepared listings.
type listingServer struct{ uidl, list string }

func newListingServer(count int) *listingServer {
	var uidl, list strings.Builder
	for n := 1; n <= count; n++ {
		fmt.Fprintf(&uidl, "%d %s\r\n", n, largeUID(n))
		fmt.Fprintf(&list, "%d 100\r\n", n)
	}
	return &listingServer{uidl.String(), list.String()}
}

func (s *listingServer) dial(ctx context.Context) (*pop3.Client, error) {
	d := &maildrop{hook: func(_ int, line string) *response {
		switch line {
		case "UIDL":
			return &response{text: "+OK\r\n" + s.uidl + ".\r\n"}
		case "LIST":
			return &response{text: "+OK\r\n" + s.list + ".\r\n"}
		}
		return nil
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		pipe := d.pipe()
		go io.Copy(pipe, conn)
		io.Copy(conn, pipe)
		conn.Close()
	}()
	c, err := pop3.Dial(ctx, l.Addr().String(), &pop3.Options{AllowInsecureLogin: true})
	if err != nil {
		return nil, err
	}
	return c, c.Login(ctx, "joe", "secret")
}

// A preparedStore yields prepared records.
type preparedStore struct {
	MemoryStore
	records []Record
}

func (s *preparedStore) Load(ctx context.Context, states ...State) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range s.records {
			if len(states) == 0 || slices.Contains(states, r.State) {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// BenchmarkNothingNew compares a run that finds nothing new among many messages with the two listings alone.
func BenchmarkNothingNew(b *testing.B) {
	const count = 300000
	srv := newListingServer(count)
	b.Run("listings", func(b *testing.B) {
		for b.Loop() {
			c, err := srv.dial(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			uids, err := c.UIDL(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for range uids.All() {
			}
			sizes, err := c.List(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for range sizes.All() {
			}
			c.Quit(b.Context())
		}
	})
	store := &preparedStore{}
	for n := 1; n <= count; n++ {
		store.records = append(store.records, Record{Key: Key{UID: largeUID(n)}, State: Done, Size: 100, Header: Digest{1}})
	}
	b.Run("run", func(b *testing.B) {
		f := &Fetcher{Dial: srv.dial, Store: store, Sink: &memorySink{}}
		for b.Loop() {
			if report, err := f.Run(b.Context()); err != nil || report.Listed != count || report.Fetched > 0 {
				b.Fatal(report, err)
			}
		}
	})
}
