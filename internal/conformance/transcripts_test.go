package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// TestTranscripts replays the dialogues under testdata/transcripts, in which real servers deviate from the RFCs. Each
// is played completely, with one byte per write, and cut after every byte.
//
// A transcript contains the calls and their outcomes in its comments:
//
//	# > stat
//	# < 2 320
//
// A call is the name of a method and its arguments. An outcome of several lines has several "# < ".
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(file), "testdata/transcripts/"), ".txt")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script := pop3test.LoadScript(t, file)
			calls := parseCalls(t, string(text))
			for _, dribble := range []bool{false, true} {
				script.Dribble = dribble
				synctest.Test(t, func(t *testing.T) {
					for i, got := range replay(t, script, calls) {
						if !isOutcome(got, calls[i].outcome) {
							t.Errorf("dribble %v: %s: got\n%s\nwant\n%s", dribble, calls[i].line, got, calls[i].outcome)
						}
					}
				})
			}
			for script.Cut = range script.Octets() {
				synctest.Test(t, func(t *testing.T) {
					for i, got := range replay(t, script, calls) {
						if !isCutShort(got, calls[i].outcome) {
							t.Errorf("cut after %d bytes: %s: got\n%s\nof\n%s", script.Cut, calls[i].line, got, calls[i].outcome)
						}
					}
				})
				if t.Failed() {
					return
				}
			}
		})
	}
}

// isOutcome reports whether got matches an outcome, which may end in "..." for any rest.
func isOutcome(got, want string) bool {
	begin, open := strings.CutSuffix(want, "...")
	return got == want || open && strings.HasPrefix(got, begin)
}

// isCutShort reports whether got is the outcome of a call, or as much of it as had arrived and then the loss.
func isCutShort(got, whole string) bool {
	arrived, _, lost := strings.Cut(got, "lost:")
	return isOutcome(got, whole) || lost && strings.HasPrefix(whole, arrived)
}

type call struct{ line, outcome string }

func parseCalls(t *testing.T, text string) []call {
	var calls []call
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if c, ok := strings.CutPrefix(line, "# > "); ok {
			calls = append(calls, call{line: c})
		} else if outcome, ok := strings.CutPrefix(line, "# < "); ok && len(calls) > 0 {
			last := &calls[len(calls)-1]
			if last.outcome != "" {
				last.outcome += "\n"
			}
			last.outcome += outcome
		}
	}
	if len(calls) == 0 {
		t.Fatal("no calls")
	}
	return calls
}

// replay makes the calls against the script and returns their outcomes. The first call is always the connection.
func replay(t *testing.T, script *pop3test.Script, calls []call) []string {
	ctx := context.Background()
	opts := &pop3.Options{TLSConfig: pop3test.TLSConfig(), AllowInsecureLogin: true}
	c, err := pop3.NewClient(ctx, script.Play(t), opts)
	if err != nil {
		outcomes := []string{failure(err)}
		for range calls[1:] {
			outcomes = append(outcomes, "lost: no connection")
		}
		return outcomes
	}
	defer c.Close()
	outcomes := []string{strings.TrimSpace(strconv.Quote(c.Greeting()) + " " + c.Challenge())}
	for _, call := range calls[1:] {
		outcomes = append(outcomes, perform(ctx, t, c, strings.Fields(call.line)))
	}
	return outcomes
}

// perform makes one call.
func perform(ctx context.Context, t *testing.T, c *pop3.Client, words []string) string {
	var n []int // the arguments as numbers
	for _, w := range words[1:] {
		if i, err := strconv.Atoi(w); err == nil {
			n = append(n, i)
		}
	}
	var err error
	switch words[0] {
	case "wait":
		time.Sleep(time.Second)
	case "caps":
		caps, err := c.RefreshCapabilities(ctx)
		return outcome(capabilities(caps), err)
	case "login":
		err = c.Login(ctx, words[1], words[2])
	case "user":
		err = c.User(ctx, words[1])
	case "pass":
		err = c.Pass(ctx, words[1])
	case "starttls":
		err = c.StartTLS(ctx, nil)
	case "xoauth2":
		err = c.Auth(ctx, pop3.XOAUTH2(words[1], strings.Repeat(words[2], n[0])))
	case "auth":
		var says []string
		for _, w := range words[2:] {
			s, err := strconv.Unquote(`"` + w + `"`)
			if err != nil {
				t.Fatal(err)
			}
			says = append(says, s)
		}
		err = c.Auth(ctx, &answers{words[1], says})
	case "stat":
		count, size, err := c.Stat(ctx)
		return outcome(fmt.Sprint(count, size), err)
	case "list":
		l, err := c.List(ctx)
		return entries(l, err)
	case "uidl":
		l, err := c.UIDL(ctx)
		return entries(l, err)
	case "size":
		size, err := c.Size(ctx, n[0])
		return outcome(fmt.Sprint(size), err)
	case "uid":
		id, err := c.UID(ctx, n[0])
		return outcome(id, err)
	case "retr":
		m, err := c.Retr(ctx, n[0])
		return message(m, err)
	case "top":
		m, err := c.Top(ctx, n[0], n[1])
		return message(m, err)
	case "retrall":
		var all []string
		for m, err := range c.RetrAll(ctx, n) {
			all = append(all, message(m, err))
		}
		return strings.Join(all, "\n")
	case "dele":
		err = c.Dele(ctx, n[0])
	case "deleall":
		err = c.DeleAll(ctx, n)
	case "noop":
		err = c.Noop(ctx)
	case "utf8":
		err = c.UTF8(ctx)
	case "langs":
		langs, err := c.Langs(ctx)
		return outcome(fmt.Sprint(langs), err)
	case "cmd":
		text, err := c.Cmd(ctx, words[1], words[2:]...)
		return outcome(text, err)
	case "quit":
		err = c.Quit(ctx)
	default:
		t.Fatalf("no call is named %q", words[0])
	}
	return outcome("ok", err)
}

// answers is a mechanism with the responses of the transcript: "-" for no initial response, "!" to fail.
type answers struct {
	name string
	left []string
}

func (a *answers) Start() (string, []byte, error) {
	initial, err := a.Next(nil)
	return a.name, initial, err
}

func (a *answers) Next([]byte) ([]byte, error) {
	if len(a.left) == 0 {
		return []byte{}, nil
	}
	next := a.left[0]
	a.left = a.left[1:]
	switch next {
	case "-":
		return nil, nil
	case "!":
		return nil, errors.New("given up")
	}
	return []byte(next), nil
}

func outcome(result string, err error) string {
	if err != nil {
		return failure(err)
	}
	return result
}

// failure returns the kind of an error, and its text.
func failure(err error) string {
	var refused *pop3.ServerError
	var malformed *pop3.ProtocolError
	kind := "error"
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		kind = "timeout"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		kind = "lost"
	case errors.As(err, &malformed):
		kind = "protocol error"
	case errors.As(err, &refused):
		kind = "refused"
		if refused.Code != "" {
			kind += " " + string(refused.Code)
		}
		if refused.Temporary() {
			kind += " for now"
		}
	}
	return kind + ": " + strings.ReplaceAll(strings.ReplaceAll(err.Error(), "pop3: ", ""), "\n", "; ")
}

func capabilities(caps pop3.Capabilities) string {
	var all []string
	for name, params := range caps {
		all = append(all, strings.Join(append([]string{name}, params...), " "))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func entries[T pop3.Entry | pop3.UID](l *pop3.Listing[T], err error) string {
	if err != nil {
		return failure(err)
	}
	var b strings.Builder
	for e, err := range l.All() {
		if err != nil {
			return b.String() + failure(err)
		}
		fmt.Fprintf(&b, "%v\n", e)
	}
	return b.String() + "end"
}

// message is as much of a message as can be read, in quotes.
func message(m *pop3.Message, err error) string {
	if err != nil {
		return failure(err)
	}
	text, err := io.ReadAll(m)
	var quoted strings.Builder
	quoted.WriteByte('"')
	for _, b := range text { // byte by byte, since a cut may be inside a character
		q := strconv.Quote(string([]byte{b}))
		quoted.WriteString(q[1 : len(q)-1])
	}
	switch {
	case err != nil && len(text) > 0:
		return quoted.String() + failure(err)
	case err != nil:
		return failure(err)
	}
	return quoted.String() + `"`
}
