package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// A view shows progress and results. It has one of three forms: lines, lines below which a terminal has a bar for each
// running account, or JSON. Its lock serializes the output.
type view struct {
	verb    string
	quiet   bool
	verbose bool
	named   bool // lines begin with the name of the account
	stamp   bool // lines begin with the time
	out     io.Writer
	err     io.Writer
	place   map[string]int // of each account in the configuration

	mu   sync.Mutex
	json *eventWriter // nil if the form is not JSON
	bars *bars        // nil if there is no terminal
}

// viewFlags are the flags that choose the form.
type viewFlags struct {
	quiet, verbose, json, debug bool
}

// newView returns a view of a verb. Nothing is written to stdout if the messages go there.
func (a *app) newView(verb string, f viewFlags, s *selection, toStdout bool) *view {
	v := &view{verb: verb, quiet: f.quiet, verbose: f.verbose || f.debug, named: !s.single || s.accounts[0].Line > 0, out: a.stdout, err: a.stderr}
	v.place = make(map[string]int)
	for i, account := range s.accounts {
		v.place[account.Name] = i
	}
	if toStdout {
		v.out = a.stderr
	}
	if f.json {
		v.json = &eventWriter{w: v.out}
	} else if file, ok := terminal(a.stderr); ok && !f.quiet && !f.debug && a.getenv("TERM") != "dumb" {
		v.bars = newBars(file)
	}
	return v
}

// close takes the bars away.
func (v *view) close() {
	if v.bars != nil {
		v.bars.stop()
	}
}

// write writes a line above the bars.
func (v *view) write(w io.Writer, line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bars != nil {
		defer v.bars.hide()()
	}
	if v.stamp {
		line = time.Now().Format("2006-01-02 15:04:05 ") + line
	}
	io.WriteString(w, clean(line)+"\n") // a reader that is gone does not stop the fetch
}

func (v *view) label(account string) string {
	if !v.named {
		return ""
	}
	return account + ": "
}

// info reports progress to a user who wants to see it.
func (v *view) info(account, format string, args ...any) {
	if v.json == nil && !v.quiet {
		v.write(v.out, v.label(account)+fmt.Sprintf(format, args...))
	}
}

// problem reports an actual or possible failure.
func (v *view) problem(account, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if v.json != nil {
		v.emit(event{Type: "problem", Account: account, Error: text})
		return
	}
	for line := range strings.Lines(text) {
		v.write(v.err, "pop3 "+v.verb+": "+v.label(account)+strings.TrimSuffix(line, "\n"))
	}
}

// fail reports the error that ended an account, with a hint.
func (v *view) fail(account string, err error) {
	if v.json != nil {
		return // it is in the event of the account
	}
	v.problem(account, "%s", explain(err))
	if h := hint(err); h != "" {
		v.write(v.err, "hint: "+h)
	}
}

func (v *view) emit(e event) {
	if v.json == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.json.write(e)
}

// An accountView is the view of one running account.
type accountView struct {
	*view
	name string
	bar  *bar // nil if there are no bars
}

// begin begins the view of an account.
func (v *view) begin(account string) *accountView {
	a := &accountView{view: v, name: account}
	if v.bars != nil {
		a.bar = v.bars.add(account, v.place[account])
	}
	return a
}

// event shows an event of the account's Fetcher.
func (a *accountView) event(e fetch.Event) {
	if a.bar != nil {
		a.bar.event(e)
	}
	if a.json != nil {
		if j, ok := eventOf(a.name, e); ok {
			a.emit(j)
		}
		return
	}
	if !a.verbose {
		return
	}
	m := e.Message
	switch e.Kind {
	case fetch.EventConnected:
		a.info(a.name, "connected")
	case fetch.EventPlanned:
		a.info(a.name, "%d messages to fetch, %s", e.Total, bytesText(e.TotalOctets))
	case fetch.EventFetched:
		a.info(a.name, "fetched message %d (%s), %s", m.Number, m.Key.UID, bytesText(m.Size))
	case fetch.EventSkipped:
		a.info(a.name, "skipped message %d (%s), %s", m.Number, m.Key.UID, bytesText(m.Size))
	case fetch.EventDeleted:
		a.info(a.name, "deleted message %d (%s)", m.Number, m.Key.UID)
	}
}

// end ends the view of an account with its result.
func (a *accountView) end(r fetch.Report, err error) {
	if a.bar != nil {
		a.bars.remove(a.bar)
	}
	if a.json != nil {
		a.emit(accountEvent(a.name, r, err))
		return
	}
	for _, p := range r.Problems {
		a.problem(a.name, "%s", explain(p))
	}
	if more := r.Left + r.Refused - len(r.Problems); more > 0 && len(r.Problems) == maxProblems {
		a.problem(a.name, "and %d more", more)
	}
	switch {
	case err == nil:
	case !errors.Is(err, fetch.ErrIncomplete):
		a.fail(a.name, err)
	case len(r.Problems) == 0 && r.Undone > 0: // the logger has reported it
		a.write(a.err, "hint: -delete-unproven deletes them")
	case len(r.Problems) == 0:
		a.fail(a.name, err)
	}
	if r.QuitUnknown {
		a.problem(a.name, "the response to QUIT was lost: the next run finds out what is deleted")
	}
}

// maxProblems is how many a Report has.
const maxProblems = 100

// summary returns the result of a run, in one line.
func summary(r fetch.Report) string {
	s := fmt.Sprintf("%s fetched, %s, %d deleted", count(r.Fetched, "message"), bytesText(r.Octets), r.Deleted)
	for _, part := range []struct {
		n    int
		what string
	}{
		{r.Headers, "of the header only"}, {r.Skipped, "skipped"}, {r.Left, "left"}, {r.Refused, "refused"},
		{r.Undone, "not deleted"}, {r.Recovered, "of an earlier run settled"},
	} {
		if part.n > 0 {
			s += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return s
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// logger returns a Logger whose records become problems of an account.
func (v *view) logger(account string) *slog.Logger {
	level := slog.LevelWarn
	if v.verbose {
		level = slog.LevelInfo
	}
	return slog.New(&logHandler{view: v, account: account, level: level})
}

// A logHandler shows the records of a Fetcher and of a Client.
type logHandler struct {
	view    *view
	account string
	level   slog.Level
	attrs   []slog.Attr
}

// reportedAnyway are records of which the Report has the same.
var reportedAnyway = map[string]bool{"message left on the server": true, "message refused": true, "message not deleted": true}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	if reportedAnyway[r.Message] || h.view.quiet && r.Level < slog.LevelError {
		return nil
	}
	text := r.Message
	show := func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			text += fmt.Sprintf(" %s=%q", a.Key, explain(err))
		} else if a.Key != "account" {
			text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	}
	for _, a := range h.attrs {
		show(a)
	}
	r.Attrs(show)
	h.view.problem(h.account, "%s", text)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(append([]slog.Attr(nil), h.attrs...), attrs...)
	return &c
}

// WithGroup implements slog.Handler. Groups are not shown.
func (h *logHandler) WithGroup(string) slog.Handler { return h }

// transcript returns a Writer that shows the protocol line by line.
func (v *view) transcript(account string) io.Writer {
	return &lineSplitter{emit: func(line string) { v.write(v.err, v.label(account)+line) }}
}

// A lineSplitter calls emit for each line written to it.
type lineSplitter struct {
	emit    func(string)
	mu      sync.Mutex
	pending []byte
}

func (l *lineSplitter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, p...)
	for {
		line, rest, ok := strings.Cut(string(l.pending), "\n")
		if !ok {
			return len(p), nil
		}
		l.emit(strings.TrimSuffix(line, "\r"))
		l.pending = []byte(rest)
	}
}
