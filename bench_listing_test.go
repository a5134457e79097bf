package pop3

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"testing"
)

// BenchmarkListing reads a million entries from memory: a bare loop, All, and C.
func BenchmarkListing(b *testing.B) {
	for _, command := range []string{"LIST", "UIDL"} {
		b.Run(command, func(b *testing.B) {
			each(b, listings(command))
		})
	}
}

const benchEntries = 1_000_000

func listings(command string) []contender {
	wire := []byte("+OK\r\n")
	for n := 1; n <= benchEntries; n++ {
		wire = strconv.AppendInt(wire, int64(n), 10)
		if command == "LIST" {
			wire = fmt.Appendf(wire, " %d\r\n", 1000+n%9000)
		} else {
			wire = fmt.Appendf(wire, " %016x\r\n", n*7919)
		}
	}
	wire = append(wire, ".\r\n"...)
	all, byC := readListing((*Client).List, false), readListing((*Client).List, true)
	if command == "UIDL" {
		all, byC = readListing((*Client).UIDL, false), readListing((*Client).UIDL, true)
	}
	active := func(read func(*memConn) int) func() error {
		return func() error {
			if n := read(&memConn{answer: wire, rest: []byte("+OK\r\n")}); n != benchEntries {
				return fmt.Errorf("%d entries", n)
			}
			return nil
		}
	}
	return []contender{
		{"loop", len(wire), active(func(conn *memConn) int { return bareListing(conn, command == "UIDL") })},
		{"All", len(wire), active(all)},
		{"C", len(wire), active(byC)},
	}
}

// readListing counts the entries of a listing, by C or by All.
func readListing[T Entry | UID](list func(*Client, context.Context) (*Listing[T], error), byC bool) func(*memConn) int {
	return func(conn *memConn) (n int) {
		c, err := NewClient(background, conn, &Options{Timeout: -1})
		if err != nil {
			return 0
		}
		l, err := list(c, background)
		switch {
		case err != nil:
		case byC:
			for range l.C() {
				n++
			}
		default:
			for range l.All() {
				n++
			}
		}
		return n
	}
}

// sink keeps the bare loop from being optimized away.
var sink struct {
	sum int64
	id  string
}

func bareListing(conn *memConn, ids bool) (entries int) {
	conn.rest = conn.answer
	r := bufio.NewReaderSize(conn, bufferSize)
	r.ReadSlice('\n')
	for {
		line, err := r.ReadSlice('\n')
		if err != nil || line[0] == '.' {
			return entries
		}
		number, i := int64(0), 0
		for ; line[i] != ' '; i++ {
			number = number*10 + int64(line[i]-'0')
		}
		if ids {
			sink.id = string(line[i+1 : len(line)-2])
		} else {
			size := int64(0)
			for i++; line[i] != '\r'; i++ {
				size = size*10 + int64(line[i]-'0')
			}
			sink.sum += size
		}
		sink.sum += number
		entries++
	}
}

// BenchmarkChannel measures the limit of Listing.C: a channel of the same size whose feeder does nothing else.
func BenchmarkChannel(b *testing.B) {
	for b.Loop() {
		ch := make(chan Entry, channelRoom)
		go func() {
			for n := range benchEntries {
				ch <- Entry{n, 1}
			}
			close(ch)
		}()
		for range ch {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchEntries, "ns/entry")
}
