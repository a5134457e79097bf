package pop3

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

// A response is the reference's result. err is not nil if the response closed the session: within the status line if
// word is empty, otherwise within the message.
type response struct {
	word, status, text string
	err                error
	begun, end         int // bytes read from the server, up to the end of the status line, and in total
}

// responsesSlowly returns the responses to the commands that were sent, up to one that closes the session.
func responsesSlowly(h *hearing, sent, wanted int, bodies, pipelined bool) (all []response) {
	if pipelined { // all are in flight before the first is read
		for range sent {
			h.send()
		}
	}
	for range sent {
		if !pipelined {
			h.probe()
			h.send()
		}
		var r response
		r.word, r.status, r.err = h.status()
		if r.word == "+" {
			r.word, r.err = "", errRefusedLine
		}
		r.begun = h.taken - len(h.buffered)
		if r.word == "+OK" && bodies {
			r.text, r.err = h.body()
		}
		r.end = h.taken - len(h.buffered)
		all = append(all, r)
		if r.err != nil {
			return all
		}
	}
	if !pipelined && sent < wanted && h.probe() == io.EOF { // which is detected before the next command is sent
		all = append(all, response{err: io.ErrUnexpectedEOF})
	}
	return all
}

// A batchStep is one iteration of the loop over a batch.
type batchStep struct {
	number       int
	status, text string
	limit        int   // length of the text to be read; if 0, the message is only closed
	err          error // yielded by the iterator
	end          error // of Read, WriteTo or Close, or nil
}

const noLimit = 1 << 30

// take performs act on a message.
func take(m *Message, act byte) batchStep {
	s := batchStep{limit: noLimit}
	var text []byte
	switch act % 5 {
	case 0, 1:
		text, s.end = io.ReadAll(m)
	case 2:
		var b bytes.Buffer
		_, s.end = m.WriteTo(&b)
		text = b.Bytes()
	case 3:
		s.limit = int(act)
		text, s.end = io.ReadAll(io.LimitReader(m, int64(act)))
	case 4:
		s.limit = 0
		s.end = m.Close()
	}
	s.text = string(text)
	return s
}

// check compares with the response. If gone is set, the server closes the connection after its last response.
func (s batchStep) check(t *testing.T, command string, r response, gone bool) {
	t.Helper()
	if r.word == "-ERR" {
		if s.text != "" || s.status != "" {
			t.Errorf("%s is refused, but yields %q, %q", command, s.status, s.text)
		}
		checkRefusal(t, s.end, command, r)
		return
	}
	want := r.text[:min(s.limit, len(r.text))]
	missing := len(want) - len(s.text)
	switch {
	case s.status != r.status:
		t.Errorf("%s: status %q, want %q", command, s.status, r.status)
	case s.end == nil && (s.text != want || r.err != nil && (s.limit == 0 || s.limit > len(r.text))):
		t.Errorf("%s reads %q, to the end; want %q, %v", command, s.text, want, r.err)
	case s.end != nil && r.err == nil:
		t.Errorf("%s: %v", command, s.end)
	case s.end != nil:
		checkBroken(t, s.end, r.err, gone)
		if !strings.HasPrefix(want, s.text) || s.limit > 0 && missing > 2 { // two bytes may have been those of the terminator
			t.Errorf("%s reads %q, %v; want %q", command, s.text, s.end, want)
		}
	}
}

// checkRefusal checks for the *ServerError of a response.
func checkRefusal(t *testing.T, err error, command string, r response) {
	t.Helper()
	if no := new(ServerError); !errors.As(err, &no) || *no != *serverError(command, r.status) {
		t.Errorf("%s: %v, want the refusal %q", command, err, r.status)
	}
}

// FuzzBatch runs a batch against a server that sends arbitrary responses, which are separated by NUL; # stands for the
// message number. Every number gets its own response, or there is an error. The commands are sent in order, and no more
// than the window. After a break the session is in sync, or closed.
//
// kind selects the batch, whether PIPELINING is listed, whether the connection ends at cut, and whether the client
// writes more slowly than the server. acts are performed on the messages in order. The loop breaks in the step stop.
func FuzzBatch(f *testing.F) {
	const retr, top, dele, lockstep, cuts, slow = 0, 1, 2, 3, 6, 12
	const ok = "+OK # octets\r\nSubject: #\r\n\r\nmessage #\r\n.\r\n"
	for _, seed := range []struct {
		kind      byte
		count     uint16
		said      string
		pieces    string
		acts      string
		stop, cut uint16
	}{
		{retr, 3, "+OK 16 octets\r\nSubject: #\r\n\r\n.\r\n\x00-ERR Message # expunged.\r\n\x00+OK 18 octets\r\nSubject: #\r\n\r\n.\r\n", "\x05", "", 9, 0},
		{retr, 550, ok, "\x0a", "\x00\x02\x03\x04", 999, 0},
		{retr, 550, ok + "\x00-ERR [SYS/TEMP] no #\r\n", "\x00\xff", "\x03", 450, 0},
		{retr, 550, ok, "\xff", "\x00", 999, 9000},
		{top, 40, "+OK\r\n..#\r\n.\r\n\x00+OK\r\n.#\r\n\r\n.\r\n", "\x02", "\x04\x00", 7, 0},
		{dele, 550, "+OK deleted\r\n\x00-ERR Message # is gone\r\n\x00-ERR [SYS/PERM] # stays\r\n", "\x07", "", 0, 0},
		{dele, 30, "+OK #\r\n", "\x00", "", 0, 100},
		{dele, 550, strings.Repeat("+OK #\r\n", 40), "\xff", "", 0, 0},
		{dele, 3, "+OK #\r\n+OK noise\r\n", "\x30", "", 0, 0},
		{retr, 3, ok + "\x00" + ok + "\x00" + ok + "\x00" + ok + "+OK noise\r\n", "\x40", "\x00", 99, 0},
		{retr, 20, "-ERR\r\n-ERR noise\r\n\x00" + ok, "\x40", "\x00", 99, 0},
		{retr, 20, ok + "+OK noise\r\n", "\xff", "\x03", 99, 0},
		{retr, 5, ok + "\x00+OKAY\r\n", "\x03", "\x04", 99, 0},
		{retr, 5, ok + "\x00what?\r\n", "\x03", "\x03", 0, 0},
		{retr, 5, "+OK\r\nno end #\r\n", "\xff", "\x00", 99, 0},
		{retr, 300, "+OK\r\nno end #\r\n", "\xff", "\x03", 99, 0},
		{retr, 5, "+OK #\n", "\xff", "\x00", 99, 0},
		{retr, 5, "+ \r\n", "\xff", "\x00", 99, 0},
		{retr, 5, "", "\xff", "\x00", 99, 0},
		{retr, 5, ok, "\x10", "\x00\x04\xff", 99, 0},
		{retr, 50, ok, "\x10", "\xff", 3, 0},
	} {
		f.Add(seed.kind, seed.count, seed.said, []byte(seed.pieces), []byte(seed.acts), seed.stop, seed.cut)
		f.Add(seed.kind+slow, seed.count, seed.said, []byte(seed.pieces), []byte(seed.acts), seed.stop, seed.cut)
		f.Add(seed.kind+lockstep, seed.count, seed.said, []byte(seed.pieces), []byte(seed.acts), seed.stop, seed.cut)
		f.Add(seed.kind+cuts, seed.count, seed.said, []byte(seed.pieces), []byte(seed.acts), seed.stop, seed.cut+41)
	}
	f.Fuzz(func(t *testing.T, kind byte, count uint16, said string, pieces, acts []byte, stop, cut uint16) {
		listed := kind/lockstep%2 == 0
		var numbers []int
		var answers []string
		list := strings.Split(said[:min(len(said), 1<<12)], "\x00")
		total := 0
		for i := range int(count)%600 + 1 {
			number := int(count) - i + 1
			answers = append(answers, strings.ReplaceAll(list[i%len(list)], "#", strconv.Itoa(number)))
			numbers = append(numbers, number)
			if total += len(answers[i]); total > 1<<15 {
				break
			}
		}
		if kind/cuts%2 == 0 {
			answers = append(answers, "") // after the last the server would be gone
		} else {
			left := int(cut) % (total + 1)
			for i, a := range answers {
				if len(a) >= left {
					answers = append(answers[:i:i], a[:left])
					break
				}
				left -= len(a)
			}
		}
		synctest.Test(t, func(t *testing.T) {
			conn := &memory{answers: answers, pieces: oracle.Lengths(pieces), waits: time.Second}
			if kind/slow%2 != 0 {
				conn.slow = time.Nanosecond
			}
			switch kind % 3 {
			case retr:
				checkBatch(t, "RETR %", conn, listed, numbers, acts, int(stop))
			case top:
				checkBatch(t, "TOP % 7", conn, listed, numbers, acts, int(stop))
			case dele:
				checkBatch(t, "DELE %", conn, listed, numbers, nil, noLimit)
			}
		})
	})
}

// checkAhead checks that no command succeeds that was not sent.
func checkAhead(t *testing.T, steps []batchStep, err error, numbers, sent int, left bool) {
	if len(steps) > 0 {
		err = steps[len(steps)-1].err
	}
	protocol := new(ProtocolError)
	broke := errors.As(err, &protocol) || errors.Is(err, ErrLineTooLong) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded)
	if !broke && !left && sent < numbers || len(steps) > sent+1 {
		t.Errorf("%d steps for %d commands of %d, %v", len(steps), sent, numbers, err)
	}
}

// checkBatch runs one batch; % in command is the number.
func checkBatch(t *testing.T, command string, conn *memory, listed bool, numbers []int, acts []byte, stop int) {
	answers := conn.answers
	capa := "-ERR\r\n"
	if listed {
		capa = "+OK\r\nPIPELINING\r\n.\r\n"
	}
	conn.answers = append([]string{"+OK\r\n", capa}, answers...)
	c := connect(t, &Options{Timeout: -1, MaxLineLength: longestLine}, conn)
	_, err := c.Capabilities(background)
	must(t, err)
	h := &hearing{answers: answers, pieces: conn.pieces, reads: conn.reads, taken: conn.taken}
	before := conn.taken

	var steps []batchStep
	left, closed := false, false // left by break; closed by Client.Close
	loop := func(all iter.Seq2[*Message, error]) {
		for m, err := range all {
			time.Sleep(conn.waits) // until all commands that may be sent are sent
			s := batchStep{}
			if err == nil {
				act := byte(0)
				if len(acts) > 0 {
					act = acts[len(steps)%len(acts)]
				}
				s = take(m, act)
				if act == 255 {
					closed = s.end == nil || isServerError(s.end) // otherwise it is closed already
					c.Close()
				}
			}
			s.number, s.status, s.err = m.Number, m.Status, err
			steps = append(steps, s)
			if left = err == nil && len(steps) > stop; left { // the loop ends with an error
				break
			}
		}
	}
	switch command {
	case "RETR %":
		loop(c.RetrAll(background, numbers))
	case "TOP % 7":
		loop(c.TopAll(background, numbers, 7))
	case "DELE %":
		err = c.DeleAll(background, numbers)
	}
	time.Sleep(conn.waits)

	line := func(i int) string { return strings.Replace(command, "%", strconv.Itoa(numbers[i]), 1) }
	sent := conn.asked[1:]
	for i := range sent {
		if i == len(numbers) || sent[i] != line(i)+"\r\n" {
			t.Fatalf("sent %q for %d", sent, numbers)
		}
	}
	pipelined := listed && len(numbers) > 1
	responses := responsesSlowly(h, len(sent), len(numbers), command != "DELE %", pipelined)
	last := responses[len(responses)-1]
	inSync, gone := last.err == nil, len(h.answers) == 0
	surplus := inSync && pipelined && h.buffered+h.unread != "" // there was one response too many

	for i, taken := range conn.takenAt[1:] {
		if k := i - maxWindow; pipelined && k >= 0 && (k >= len(responses) || responses[k].begun > taken) {
			t.Fatalf("%q is sent before the response to %q has been read", sent[i], sent[k])
		}
		if !pipelined && i > 0 && responses[i-1].end > taken {
			t.Fatalf("%q is sent before the response to %q is read", sent[i], sent[i-1])
		}
	}
	if pipelined && len(numbers) > firstWindow {
		// A server that responds ahead of its commands may respond ahead of what was sent: that depends on timing.
		for i, r := range responses {
			if before += len(answers[min(i, len(answers)-1)]); r.err == nil && r.end < before {
				checkAhead(t, steps, err, len(numbers), len(sent), left || closed)
				return
			}
		}
	}
	if inSync && !left && !closed && len(sent) < len(numbers) {
		t.Errorf("sent only %d of %d commands", len(sent), len(numbers))
	}

	if command == "DELE %" {
		var errs []error
		if err != nil {
			errs = err.(interface{ Unwrap() []error }).Unwrap()
		}
		for i, r := range responses {
			switch {
			case r.err == nil && r.word == "+OK":
				continue
			case len(errs) == 0:
				t.Fatalf("%q is no error for %+v", line(i), r)
			case r.err != nil:
				checkBroken(t, errs[0], r.err, gone)
			default:
				checkRefusal(t, errs[0], line(i), r)
			}
			errs = errs[1:]
		}
		if surplus && len(errs) == 1 && errors.As(errs[0], new(*ProtocolError)) {
			errs = nil
		} else if surplus || len(errs) > 0 {
			t.Errorf("errors %v, surplus %v", errs, surplus)
		}
		checkInSync(t, c, conn, inSync && !surplus, h.buffered+h.unread != "")
		return
	}

	if surplus && !left && !closed {
		if end := len(steps) - 1; end != len(numbers) || !errors.As(steps[end].err, new(*ProtocolError)) {
			t.Fatalf("%d steps of %d with more responses than that", len(steps), len(numbers))
		}
		steps = steps[:len(numbers)]
	}
	failed := closed
	for i, s := range steps {
		if s.err != nil && i < len(steps)-1 {
			t.Errorf("the loop continues after %v", s.err)
		}
		failed = failed || s.err != nil || s.end != nil && !isServerError(s.end)
		switch {
		case i < len(responses) && responses[i].word != "" && s.err == nil:
			s.check(t, line(i), responses[i], gone)
		case closed && s.err != nil:
			wantError(t, s.err, ErrClosed)
		case s.err == nil || inSync || i < len(responses)-1 || i == len(responses) && last.word == "":
			t.Fatalf("step %d: %v of responses %+v", i, s.err, responses)
		default:
			checkBroken(t, s.err, last.err, gone)
		}
		// An error within a message is yielded in another step for that message, also if its Read has returned it.
		again := s.err != nil && !closed && i > 0 && i == len(responses)
		number := numbers[min(i, len(numbers)-1)]
		if again {
			number = numbers[i-1]
		}
		if s.number != number {
			t.Errorf("step %d is number %d of %d", i, s.number, numbers)
		}
	}
	if !inSync && !left && !failed || inSync && !left && !closed && len(steps) < len(numbers) {
		t.Errorf("%d steps of %d, and no error", len(steps), len(numbers))
	}
	checkInSync(t, c, conn, inSync && !closed && !surplus, h.buffered+h.unread != "")
}
