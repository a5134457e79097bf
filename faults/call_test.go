package faults

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
	"time"
)

// atOnce limits the time of calls that must end at once. It is long because the machine may be busy; only a failure
// takes that long.
const atOnce = 20 * time.Second

// call is a function that runs in its own goroutine, which it may end with a panic or Goexit.
type call struct {
	id       []byte        // the beginning of the goroutine's stack
	done     chan struct{} // closed when the goroutine ends
	err      error
	panicked any
	exited   bool // by Goexit
}

func start(do func() error) *call {
	c := &call{done: make(chan struct{})}
	runs := make(chan struct{})
	go c.run(do, runs)
	<-runs
	return c
}

func (c *call) run(do func() error, runs chan<- struct{}) {
	defer close(c.done)
	stack := make([]byte, 100)
	c.id, _, _ = bytes.Cut(stack[:runtime.Stack(stack, false)], []byte("["))
	close(runs)
	returned := false
	defer func() {
		if !returned {
			c.panicked = recover()
			c.exited = c.panicked == nil
		}
	}()
	c.err = do()
	returned = true
}

// over reports whether the call has ended.
func (c *call) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// ends reports whether the call ends at once. If not, the test fails.
func (c *call) ends(t *testing.T, what string) bool {
	t.Helper()
	return arrives(t, c.done, what+" does not end")
}

// arrives reports whether something happens at once. If not, the test fails.
func arrives(t *testing.T, happens <-chan struct{}, otherwise string) bool {
	t.Helper()
	select {
	case <-happens:
		return true
	default:
	}
	limit := time.NewTimer(atOnce)
	defer limit.Stop()
	select {
	case <-happens:
		return true
	case <-limit.C:
		t.Errorf("%s\n%s", otherwise, involved())
		return false
	}
}

// endsWith checks that the call ends at once with one of the errors, which may include nil.
func (c *call) endsWith(t *testing.T, what string, errs ...error) bool {
	t.Helper()
	if !c.ends(t, what) {
		return false
	}
	for _, err := range errs {
		if errors.Is(c.err, err) {
			return true
		}
	}
	t.Errorf("%s: error %v, want one of %v", what, c.err, errs)
	return false
}

// settle returns when each of the calls has ended or waits for something.
func settle(t *testing.T, calls ...*call) {
	t.Helper()
	for limit := time.Now().Add(atOnce); ; runtime.Gosched() {
		running := false
		for _, c := range calls {
			running = running || !c.over() && !c.waits()
		}
		if !running {
			return
		}
		if time.Now().After(limit) {
			t.Errorf("calls neither end nor wait\n%s", involved())
			return
		}
	}
}

// waits reports whether the call waits for something.
func (c *call) waits() bool {
	for g := range bytes.SplitSeq(stacks(), []byte("\n\n")) {
		if state, ours := bytes.CutPrefix(g, c.id); ours {
			return !bytes.HasPrefix(state, []byte("[run")) // running, runnable
		}
	}
	return false
}

// inCall reports whether the goroutine is that of a call, and not one that the library has started.
func inCall() bool {
	buf := make([]byte, 1<<16)
	return bytes.Contains(buf[:runtime.Stack(buf, false)], []byte("faults.(*call).run("))
}

// involved returns the stacks of the goroutines that are in the library, or called it.
func involved() []byte {
	var all [][]byte
	for g := range bytes.SplitSeq(stacks(), []byte("\n\n")) {
		if bytes.Contains(g, []byte("pop3.(*")) {
			all = append(all, g)
		}
	}
	return bytes.Join(all, []byte("\n\n"))
}

func stacks() []byte {
	for size := 1 << 16; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return buf[:n]
		}
	}
}
