package fetch

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/seed-5b1d5243/pop3"
)

const (
	// maxRefusals is how many messages in a row the server may refuse until a sample of the others shows whether it refuses all.
	maxRefusals = 64
	sampleSize  = 16

	// filterAhead is how many headers are asked for at a time, for Policy.Filter.
	filterAhead = 256

	// maxBroken is how often the connection may be lost at a message until the message is left for the next run.
	maxBroken = 3
)

// receive fetches the messages of the plan and hands them to the committer, batch by batch.
func (s *session) receive() (err error) {
	s.commits = newCommitter(s)
	defer func() {
		if commitErr := s.commits.finish(); commitErr != nil && (err == nil || isLost(err)) {
			err = commitErr
		}
	}()
	queue := s.fetch
	for len(queue) > 0 && !s.stopping() {
		var chunk []int32
		chunk, queue = queue, nil
		if s.f.Policy.Filter != nil {
			n := min(len(chunk), filterAhead)
			chunk, queue = chunk[:n], chunk[n:]
			if chunk, err = s.filter(chunk); err != nil {
				return err
			}
			chunk = s.withinLimits(chunk)
		}
		var headers, messages []int32
		for _, i := range chunk {
			if s.t.at(int(i)).flags&flagHeader != 0 {
				headers = append(headers, i)
			} else {
				messages = append(messages, i)
			}
		}
		if err := s.retrieve(headers, s.tops); err != nil {
			return err
		}
		if err := s.retrieve(messages, s.c.RetrAll); err != nil {
			return err
		}
	}
	return nil
}

func isLost(err error) bool {
	var l *lostError
	return errors.As(err, &l)
}

func (s *session) tops(ctx context.Context, numbers []int) iter.Seq2[*pop3.Message, error] {
	return s.c.TopAll(ctx, numbers, 0)
}

// withinLimits returns the messages that Policy.MaxMessages and MaxOctets permit. The others are skipped.
func (s *session) withinLimits(items []int32) []int32 {
	p := &s.f.Policy
	if p.MaxMessages <= 0 && p.MaxOctets <= 0 {
		return items
	}
	taken, octets := s.taken, s.octets
	kept := items[:0:0]
	for _, i := range items {
		e := s.t.at(int(i))
		if e.flags&flagCompare == 0 {
			size := max(0, e.size)
			if p.MaxMessages > 0 && taken >= p.MaxMessages || p.MaxOctets > 0 && taken > 0 && octets+size > p.MaxOctets {
				s.skip(e)
				continue
			}
			taken++
			octets += size
		}
		kept = append(kept, i)
	}
	return kept
}

// skip counts a message that the Policy leaves on the server.
func (s *session) skip(e *entry) {
	s.count(func(report *Report) { report.Skipped++ }, Event{Kind: EventSkipped, Message: s.messageOf(e)})
}

// filter asks Policy.Filter about messages, and returns those to fetch.
func (s *session) filter(items []int32) (kept []int32, err error) {
	err = s.headers(items, maxHeader, func(e *entry, i int32, h *headerBuffer, err error) error {
		if e.flags&flagCompare != 0 {
			kept = append(kept, i)
			return nil
		}
		if err != nil {
			s.leave(s.messageOf(e), err)
			return nil
		}
		action, err := s.f.Policy.Filter(s.quit, Candidate{Message: s.messageOf(e), Header: append(h.text[:len(h.text):len(h.text)], crlfLine...)})
		switch {
		case err != nil && s.stopping():
		case err != nil:
			s.leave(s.messageOf(e), err)
		case action == ActionFetch:
			kept = append(kept, i)
		case action == ActionHeader && e.flags&flagHadHeader != 0:
			e.status = statusHeader
		case action == ActionHeader:
			e.flags |= flagHeader
			kept = append(kept, i)
		case action == ActionDelete:
			e.status = statusDropped
		default:
			s.skip(e)
		}
		return nil
	})
	return kept, err
}

// headers asks for the headers of messages by TOP, and calls each for every one of them. err is the refusal of the server.
func (s *session) headers(items []int32, limit int, each func(e *entry, i int32, h *headerBuffer, err error) error) error {
	if len(items) == 0 {
		return nil
	}
	s.body.progress = nil
	s.hand = s.t.at(int(items[0]))
	k := 0
	for m, err := range s.c.TopAll(s.net, s.numbers(items), 0) {
		if err != nil {
			return lost(err)
		}
		if s.stopping() {
			break
		}
		i := items[k]
		err := s.body.open(m, limit)
		if err == nil {
			_, err = s.body.WriteTo(io.Discard)
		}
		if err != nil && !isServerError(err) {
			return lost(err)
		}
		s.received++
		if err := each(s.t.at(int(i)), i, &s.body.header, err); err != nil {
			return err
		}
		s.hand = nil
		if k++; k < len(items) {
			s.hand = s.t.at(int(items[k]))
		}
	}
	s.hand = nil
	return nil
}

func (s *session) numbers(items []int32) []int {
	numbers := make([]int, len(items))
	for k, i := range items {
		numbers[k] = int(s.t.at(int(i)).number)
	}
	return numbers
}

type retriever func(ctx context.Context, numbers []int) iter.Seq2[*pop3.Message, error]

// retrieve fetches messages. If the server refuses many in a row, a sample of the others shows whether it refuses all, as at a
// volume limit.
func (s *session) retrieve(items []int32, retr retriever) error {
	for len(items) > 0 {
		n, err := s.stream(items, retr)
		items = items[n:]
		if err != nil || s.stopping() || len(items) == 0 {
			return err
		}
		sample, rest := split(items, sampleSize)
		received := s.received
		n, err = s.stream(sample, retr)
		if err != nil || s.stopping() {
			return err
		}
		if s.received == received {
			s.leaveRest(rest)
			return nil
		}
		items = append(sample[n:], rest...)
	}
	return nil
}

// split takes a sample of n items.
func split(items []int32, n int) (sample, rest []int32) {
	stride := max(1, len(items)/n)
	for k, i := range items {
		if k%stride == stride-1 && len(sample) < n {
			sample = append(sample, i)
		} else {
			rest = append(rest, i)
		}
	}
	return sample, rest
}

// leaveRest counts messages that were not asked for, because the server refuses all.
func (s *session) leaveRest(items []int32) {
	if len(items) == 0 {
		return
	}
	s.log.Warn("the server refuses all messages", "left", len(items))
	s.leaveUnnamed(len(items), s.messageOf(s.t.at(int(items[0]))), errVolume)
}

// stream fetches messages until it must stop or too many are refused. It returns how many it has handled.
func (s *session) stream(items []int32, retr retriever) (n int, err error) {
	if len(items) == 0 {
		return 0, nil
	}
	s.refusals = 0
	s.hand = s.t.at(int(items[0]))
	for m, err := range retr(s.net, s.numbers(items)) {
		if err != nil {
			return n, lost(err)
		}
		if s.stopping() {
			break
		}
		if err := s.stage(m, s.hand, items[n]); err != nil {
			return n, err
		}
		n++
		if s.refusals >= maxRefusals {
			break
		}
		s.hand = nil
		if n < len(items) {
			s.hand = s.t.at(int(items[n]))
		}
	}
	s.hand = nil
	return n, nil
}

// stage receives one message and adds it to the batch.
func (s *session) stage(m *pop3.Message, e *entry, i int32) error {
	message := s.messageOf(e)
	s.body.progress = nil
	if s.f.Progress != nil {
		s.body.progress = func(octets int64) { s.emit(Event{Kind: EventData, Message: message, Octets: octets}) }
	}
	if err := s.body.open(m, maxDigested); isServerError(err) {
		s.refusals++
		s.leave(message, err)
		return nil
	} else if err != nil {
		return lost(err)
	}
	s.refusals = 0
	if s.f.Prepend != nil {
		s.body.prefix = s.f.Prepend(message)
	}
	s.commits.makeRoom(e.size)
	name, err := s.f.Sink.Stage(s.kill, message, &s.body)
	if s.body.err != nil {
		if err == nil {
			s.commits.discard(name)
		}
		return lost(s.body.err)
	}
	if err == nil && !s.body.complete {
		if n, _ := s.body.Read(make([]byte, 1)); n > 0 || !s.body.complete {
			s.commits.discard(name)
			if s.body.err != nil {
				return lost(s.body.err)
			}
			return sinkError(errNotReadToEnd)
		}
	}
	s.received++
	if err != nil {
		switch {
		case IsLater(err):
			s.leave(message, err)
		case IsNever(err):
			s.commits.refuse(s.record(e, ""), message, err)
		default:
			return sinkError(err)
		}
		return nil
	}
	r := s.record(e, name)
	if e.flags&flagCompare != 0 {
		if s.proofs[e.proof-1].header == r.Header {
			e.flags |= flagProven
			s.commits.discard(name)
			return nil
		}
		s.reused(e)
	}
	s.taken++
	s.octets += max(0, e.size)
	s.emit(Event{Kind: EventStaged, Message: message})
	s.commits.add(r, message, e, s.body.octets)
	return nil
}

// record returns the Intent of the message that the body has.
func (s *session) record(e *entry, name string) Record {
	return Record{
		Key: e.key(), State: Intent, Target: s.f.Sink.Target(), Name: name, Size: e.size, Header: s.body.header.digest(),
		Time: s.now(), HeaderOnly: e.flags&flagHeader != 0,
	}
}
