package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newDeliveryFixture returns a fixture with a Delivery, and the texts that it has delivered.
func newDeliveryFixture(t *testing.T, decide func(m Message) error, mails ...mail) (x *fixture, texts *[]string) {
	x = newFixture(t, mails...)
	texts = new([]string)
	x.Sink = Deliver(func(ctx context.Context, m Message, body io.ReadSeeker) error {
		if decide != nil {
			if err := decide(m); err != nil {
				return err
			}
		}
		text, err := io.ReadAll(body)
		*texts = append(*texts, string(text))
		return err
	})
	return x, texts
}

func textsOf(numbers ...int) (texts []string) {
	for _, n := range numbers {
		texts = append(texts, newMail(n).text)
	}
	return texts
}

func TestDelivery(t *testing.T) {
	decide := func(m Message) error {
		switch m.Number {
		case 3:
			return Later(errors.New("busy"))
		case 5:
			return Never(errors.New("no such user"))
		}
		return nil
	}
	x, texts := newDeliveryFixture(t, decide, mails(100)...)
	x.Policy.Delete = true
	report := x.run(ErrIncomplete)
	if report.Fetched != 98 || report.Left != 1 || report.Refused != 1 || report.Deleted != 98 {
		t.Errorf("%+v", report)
	}
	want := slices.DeleteFunc(upTo(100), func(n int) bool { return n == 3 || n == 5 })
	if !slices.Equal(*texts, textsOf(want...)) { // in order
		t.Errorf("delivered %q", *texts)
	}
	x.left(3, 5)
	for _, p := range report.Problems {
		if IsLater(p) != (p.Message.Number == 3) || IsNever(p) != (p.Message.Number == 5) {
			t.Errorf("problem %v", p)
		}
	}
}

// TestDeliveryFails has the target fail. Each message before is recorded, and none is delivered twice.
func TestDeliveryFails(t *testing.T) {
	fail := true
	decide := func(m Message) error {
		if fail && m.Key.UID == "uid70" {
			return errors.New("connection refused")
		}
		return nil
	}
	x, texts := newDeliveryFixture(t, decide, mails(100)...)
	x.Policy.Delete = true
	x.run(ErrSink)
	if !slices.Equal(*texts, textsOf(upTo(69)...)) {
		t.Errorf("delivered %d", len(*texts))
	}
	x.left(upTo(100)...)
	fail = false
	x.run(nil)
	if !slices.Equal(*texts, textsOf(upTo(100)...)) {
		t.Errorf("delivered %d", len(*texts))
	}
	x.left()
}

// TestDeliveryDiesHalfWay ends the process, as it were, during a delivery. That message alone is delivered again.
func TestDeliveryDiesHalfWay(t *testing.T) {
	die := true
	x, texts := newDeliveryFixture(t, nil, mails(100)...)
	inner := x.Sink.(*Delivery).Func
	x.Sink = Deliver(func(ctx context.Context, m Message, body io.ReadSeeker) error {
		err := inner(ctx, m, body)
		if die && m.Number == 70 {
			panic("killed")
		}
		return err
	})
	func() {
		defer func() {
			if v := recover(); v != "killed" {
				t.Errorf("Run panicked with %v", v)
			}
		}()
		x.Run(t.Context())
	}()
	die = false
	x.run(nil)
	if want := slices.Concat(textsOf(upTo(70)...), textsOf(70), textsOf(upTo(100)[70:]...)); !slices.Equal(*texts, want) {
		t.Errorf("delivered %d, want %d", len(*texts), len(want))
	}
}

// TestDeliveryIsComplete never gives a truncated message to the function.
func TestDeliveryIsComplete(t *testing.T) {
	large := mail{uid: "large", text: "Subject: large\r\n\r\n" + strings.Repeat("0123456789\r\n", 50000)}
	for _, cut := range []int{10, 1000, spoolMemory, len(large.text) - 1} {
		x, texts := newDeliveryFixture(t, nil, large)
		dir := t.TempDir()
		x.Sink.(*Delivery).Dir = dir
		x.drop.hook = func(session int, line string) *response {
			if session == 1 && line == "RETR 1" {
				return &response{text: "+OK\r\n" + large.text[:cut], hangUp: true}
			}
			return nil
		}
		x.run(nil)
		if !slices.Equal(*texts, []string{large.text}) {
			t.Errorf("cut at %d: delivered %d messages", cut, len(*texts))
		}
		if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil {
			t.Errorf("left %v, %v", entries, err)
		}
	}
}

// TestDeliveryReadsAgain gives the function a body that it can read twice.
func TestDeliveryReadsAgain(t *testing.T) {
	for _, size := range []int{10, 2 * spoolMemory} {
		x := newFixture(t, mail{uid: "1", text: strings.Repeat("x", size) + "\r\n"})
		x.Sink = Deliver(func(ctx context.Context, m Message, body io.ReadSeeker) error {
			first, err := io.ReadAll(body)
			if _, seekErr := body.Seek(0, io.SeekStart); err != nil || seekErr != nil {
				return errors.Join(err, seekErr)
			}
			second, err := io.ReadAll(body)
			if !bytes.Equal(first, second) || len(first) != size+2 {
				t.Errorf("read %d and %d bytes, want %d", len(first), len(second), size+2)
			}
			return err
		})
		x.run(nil)
	}
}

func TestDeliveryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, obeys := range []bool{true, false} { // its context
			release := make(chan bool)
			x := newFixture(t, mails(3)...)
			x.Sink = &Delivery{Timeout: time.Minute, Func: func(ctx context.Context, m Message, body io.ReadSeeker) error {
				if m.Number < 2 {
					return nil
				}
				if obeys {
					<-ctx.Done()
					return ctx.Err()
				}
				<-release
				return nil
			}}
			begin := time.Now()
			if report := x.run(ErrSink); report.Fetched != 1 {
				t.Errorf("%+v", report)
			}
			if elapsed := time.Since(begin); elapsed < time.Minute || elapsed > 70*time.Second {
				t.Errorf("took %v", elapsed)
			}
			close(release)
		}
	})
}

func TestDeliveryGoexit(t *testing.T) {
	x := newFixture(t, mails(3)...)
	x.Sink = Deliver(func(context.Context, Message, io.ReadSeeker) error { runtime.Goexit(); return nil })
	x.run(ErrSink)
	if states := x.states(); len(states) > 0 {
		t.Errorf("records %q", states)
	}
}

func TestDeliveryTemporaryFolderVanished(t *testing.T) {
	x, texts := newDeliveryFixture(t, nil, mails(2)...)
	x.drop.set(newMail(1), mail{uid: "large", text: strings.Repeat("x\r\n", spoolMemory)})
	x.Sink.(*Delivery).Dir = t.TempDir() + "/none"
	x.run(ErrSink)
	if len(*texts) > 1 {
		t.Errorf("delivered %d", len(*texts))
	}
}
