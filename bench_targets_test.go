package pop3

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"
)

// BenchmarkTargets measures the performance targets of this package. For each target, the package and its reference run
// alternately, and the ratio of the medians is printed. A metric is named a/b, more is better unless the line says
// "most"; "least" and "most" are the targets. RETR is a large message from a loopback socket, relative to reading such
// a socket with 64 KiB at a time and discarding the data. Every few rounds all connections are replaced, since their
// speeds differ.
func BenchmarkTargets(b *testing.B) {
	for _, c := range corpus {
		b.Run("RETR/"+c.name, func(b *testing.B) {
			took := turns(b, func() []contender { return retrieving(b, c.unit, c.size, false) })
			for _, by := range []string{"Read", "WriteTo"} {
				b.ReportMetric(took["socket"]/took[by], by+"/socket")
				b.ReportMetric(took["textproto"]/took[by], by+"/textproto")
			}
			if c.stuffed {
				b.ReportMetric(4, "least/textproto")
			} else {
				b.ReportMetric(.8, "least/socket")
				b.ReportMetric(8, "least/textproto")
			}
		})
	}
	b.Run("RETR/TLS", func(b *testing.B) {
		took := turns(b, func() []contender { return retrieving(b, corpus[0].unit, corpus[0].size, true) })
		b.ReportMetric(took["socket"]/took["Read"], "Read/crypto-tls")
		b.ReportMetric(took["socket"]/took["WriteTo"], "WriteTo/crypto-tls")
	})
	b.Run("RETR/4KiB", func(b *testing.B) {
		took := turns(b, func() []contender { return repeated(100, retrieving(b, corpus[0].unit, 4<<10, false)) })
		b.ReportMetric(took["socket"]/took["WriteTo"], "WriteTo/socket")
		b.ReportMetric(.9, "least/socket")
	})
	b.Run("RETR/heap", func(b *testing.B) {
		wire := append([]byte("+OK\r\n"), stuffed(corpusText(corpus[1].unit, 1<<20))...)
		c, err := NewClient(background, &memConn{answer: wire, rest: []byte("+OK\r\n")}, &Options{Timeout: -1})
		if err != nil {
			b.Fatal(err)
		}
		piece := make([]byte, 1<<10)
		for b.Loop() {
			before := heap()
			m, err := c.Retr(background, 1)
			if err != nil {
				b.Fatal(err)
			}
			io.ReadFull(m, piece)
			b.ReportMetric(float64(heap()-before)/1024, "KiB")
			m.Close()
		}
		b.ReportMetric(testing.AllocsPerRun(100, func() {
			m, err := c.Retr(background, 1)
			if err != nil {
				b.Fatal(err)
			}
			m.WriteTo(io.Discard)
		}), "allocs/message")
		b.ReportMetric(128, "most/KiB")
		b.ReportMetric(6, "most/allocs")
	})
	for _, c := range corpus {
		b.Run("unstuff/"+c.name, func(b *testing.B) {
			took := turns(b, func() []contender { return repeated(16, unstuffing(c.unit)) })
			b.ReportMetric(took["copy"]/took["unstuff"], "unstuff/copy")
			b.ReportMetric(16*float64(unstuffing(c.unit)[0].octets)/took["unstuff"]/1e9, "GB/s")
			if c.stuffed {
				b.ReportMetric(1, "least/GB/s")
			} else {
				b.ReportMetric(4./37, "least/copy")
			}
		})
	}
	for _, command := range []string{"LIST", "UIDL"} {
		b.Run(command, func(b *testing.B) {
			contenders := listings(command)
			took := turns(b, func() []contender { return contenders })
			b.ReportMetric(took["loop"]/took["All"], "All/loop")
			b.ReportMetric(took["loop"]/took["C"], "C/loop")
			b.ReportMetric(testing.AllocsPerRun(1, func() { contenders[2].do() })/benchEntries, "C-allocs/entry")
			b.ReportMetric(.7, "least-All/loop")
			b.ReportMetric(.3, "least-C/loop")
		})
	}
	for _, batch := range batches[:2] {
		b.Run(batch.name, func(b *testing.B) {
			const rtt = 20 * time.Millisecond
			c, numbers := mailbox(b, rtt)
			took := turns(b, func() []contender { return []contender{{do: func() error { return batch.run(c, numbers) }}} })
			b.ReportMetric(took[""]/rtt.Seconds(), "round-trips")
			b.ReportMetric(8, "most")
		})
	}
	b.Run("idle", func(b *testing.B) {
		b.ReportMetric(idleSession(b)/1024, "KiB/session")
		b.ReportMetric(4, "most")
	})
}

// turns runs contenders alternately, and returns the median of the seconds that each took. They are replaced every
// fourth round.
func turns(b *testing.B, anew func() []contender) map[string]float64 {
	var contenders []contender
	took := map[string][]float64{}
	for round := 0; b.Loop(); round++ {
		if round%4 == 0 {
			contenders = anew()
		}
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			begin := time.Now()
			if err := c.do(); err != nil {
				b.Fatal(err)
			}
			took[c.name] = append(took[c.name], time.Since(begin).Seconds())
		}
	}
	medians := map[string]float64{}
	for name, times := range took {
		slices.Sort(times)
		medians[name] = times[len(times)/2]
	}
	b.ReportMetric(0, "ns/op") // the sum of all contenders is of no use
	return medians
}

// repeated has contenders do their work n times per call.
func repeated(n int, contenders []contender) []contender {
	for i, c := range contenders {
		contenders[i].do = func() (err error) {
			for range n {
				err = errors.Join(err, c.do())
			}
			return err
		}
	}
	return contenders
}
