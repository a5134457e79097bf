package pop3

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMaxEntries(t *testing.T) {
	for _, spilled := range []bool{false, true} {
		bothViews(t, func(t *testing.T, byC bool) {
			c := dialogue(t, &Options{MaxEntries: 1000}, `
				C: LIST
				S: +OK
				!repeat 1000 1 1
				S: .
				C: LIST
				S: +OK
				!repeat 1000000 1 1
				!expect-close`)
			l, err := c.List(background)
			must(t, err)
			if got, err := collect(l, byC); len(got) != 1000 || err != nil {
				t.Errorf("%d entries, %v, want 1000", len(got), err)
			}
			l, err = c.List(background)
			must(t, err)
			if spilled {
				wantError(t, c.Noop(background), ErrClosed, ErrTooManyEntries)
			}
			got, err := collect(l, byC)
			wantError(t, err, ErrTooManyEntries)
			if len(got) != 1000 {
				t.Errorf("%d entries, want 1000", len(got))
			}
			wantError(t, c.Noop(background), ErrClosed)
		})
	}
}

func TestMaxLineLengthOfAListing(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		ok         bool
	}{
		{"longest", "2 " + strings.Repeat("x", 98) + `\r\n`, true},
		{"too long", "2 " + strings.Repeat("x", 99) + `\r\n`, false},
		{"much too long", "2 " + strings.Repeat("x", 200_000) + `\r\n`, false},
		{"without end", "2 " + strings.Repeat("x", 200_000) + "\nS- more", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothViews(t, func(t *testing.T, byC bool) {
				end := "\nS: .\nC: NOOP\nS: +OK"
				if !tt.ok {
					end = "\n!expect-close"
				}
				c := dialogue(t, &Options{MaxLineLength: 100}, "\nC: UIDL\nS: +OK\nS: 1 a\nS- "+tt.line+end)
				l, err := c.UIDL(background)
				must(t, err)
				got, err := collect(l, byC)
				if tt.ok {
					if err != nil || len(got) != 2 {
						t.Errorf("%d entries, %v", len(got), err)
					}
					must(t, c.Noop(background))
					return
				}
				if wantError(t, err, ErrLineTooLong); len(got) != 1 {
					t.Errorf("%d entries, want the one before", len(got))
				}
				wantError(t, c.Noop(background), ErrClosed)
			})
		})
	}
}

// A malformed line ends the listing after the entries before it, and the session stays in sync.
func TestMalformedLine(t *testing.T) {
	for _, tt := range []struct{ command, line string }{
		{"LIST", "x 1"},
		{"LIST", "1"},
		{"LIST", "1 "},
		{"LIST", "1 x"},
		{"LIST", "0 1"},
		{"LIST", "-1 1"},
		{"LIST", "1 -1"},
		{"LIST", "+1 1"},
		{"LIST", "1 9223372036854775808"},
		{"LIST", "9223372036854775808 1"},
		{"LIST", "18446744073709551617 1"},
		{"LIST", "1 18446744073709551617"},
		{"LIST", "1 1x"},
		{"LIST", `1 1 \x00`},
		{"LIST", `1 1 a\nb`},
		{"LIST", "..1 1"},
		{"UIDL", "1"},
		{"UIDL", "1 "},
		{"UIDL", "1\t "},
		{"UIDL", "0 x"},
		{"UIDL", `1 a\tb`},
		{"UIDL", `1 a\x7f`},
		{"UIDL", `1 a\x00`},
		{"UIDL", `1 a\rb`},
		{"UIDL", `1 a\nb`},
		{"UIDL", "99999999999999999999 x"},
	} {
		t.Run(tt.command+" "+tt.line, func(t *testing.T) {
			bothViews(t, func(t *testing.T, byC bool) {
				for _, spilled := range []bool{false, true} {
					script := "\nC: " + tt.command + "\nS: +OK\nS: 7 7\nS: 8 8\nS: " + tt.line + "\nS: 9 9\nS: .\nC: NOOP\nS: +OK\nC: NOOP\nS: +OK"
					if spilled { // in one write
						script = strings.Replace(script, "7 7\nS: 8 8\nS: ", `7 7\r\n8 8\r\n`, 1)
					}
					c := dialogue(t, nil, script)
					var n int
					var err error
					if tt.command == "LIST" {
						n, err = countEntries(t, c, c.List, spilled, byC)
					} else {
						n, err = countEntries(t, c, c.UIDL, spilled, byC)
					}
					e := new(ProtocolError)
					line := unescaped(t, tt.line)
					if !errors.As(err, &e) || e.Command != tt.command || e.Line != line || n != 2 {
						t.Errorf("%d entries, then %v; want 2 and a *ProtocolError quoting %q", n, err, line)
					}
					must(t, c.Noop(background))
					if !spilled {
						must(t, c.Noop(background))
					}
				}
			})
		})
	}
}

func unescaped(t *testing.T, text string) string {
	t.Helper()
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	must(t, err)
	return s
}

// The error need not wait for the rest of the response.
func TestMalformedLineThenSilence(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			S: 1 1
			S: nonsense
			!wait 1m
			S: 2 2
			S: .
			C: NOOP
			S: +OK`)
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		l, err := c.List(ctx)
		must(t, err)
		start := time.Now()
		got, err := collect(l, byC)
		if len(got) != 1 || !isProtocolError(err) || time.Since(start) != 0 {
			t.Errorf("after %v: %v, %v", time.Since(start), got, err)
		}
		cancel() // does not affect a listing that has ended
		must(t, c.Noop(background))
	})
}

// A server that is silent after a malformed line times out when the next command needs the connection.
func TestMalformedLineThenNothing(t *testing.T) {
	bothViews(t, func(t *testing.T, byC bool) {
		c := dialogue(t, nil, `
			C: LIST
			S: +OK
			S: nonsense
			!stall`)
		l, err := c.List(background)
		must(t, err)
		if got, err := collect(l, byC); len(got) > 0 || !isProtocolError(err) {
			t.Errorf("%v, %v", got, err)
		}
		wantError(t, c.Noop(background), ErrClosed, os.ErrDeadlineExceeded)
		if err := l.Err(); !isProtocolError(err) {
			t.Errorf("%v", err)
		}
	})
}
