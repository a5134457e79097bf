package pop3

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-5b1d5243/pop3/internal/oracle"
)

var spaces = regexp.MustCompile(`[\t-\r\x{85}\p{Z}]+`)

// capabilitiesSlowly is the reference for the response to CAPA. It returns the errors of statusSlowly.
func capabilitiesSlowly(said string) (Capabilities, error) {
	caps := Capabilities{}
	word, _, said, err := statusSlowly(said)
	switch {
	case err != nil || word == "-ERR":
		return caps, err
	case word == "+":
		return caps, errRefusedLine
	}
	for lines := 0; ; lines++ {
		line, rest, whole := strings.Cut(said, "\r\n")
		switch {
		case !whole && len(line) <= longestLine+1:
			return nil, io.ErrUnexpectedEOF
		case len(line) > longestLine:
			return nil, errRefusedLine
		case line == ".":
			return caps, nil
		case lines == 1024:
			return nil, errRefusedLine
		}
		if strings.HasPrefix(line, "..") {
			line = line[1:]
		}
		words := slices.DeleteFunc(spaces.Split(line, -1), func(word string) bool { return word == "" })
		if len(words) > 0 {
			name := strings.ToUpper(words[0])
			caps[name] = append(caps[name], words[1:]...)
		}
		said = rest
	}
}

// FuzzCapabilities sends arbitrary data as the response to CAPA, complete and truncated anywhere.
func FuzzCapabilities(f *testing.F) {
	for _, said := range []string{
		"+OK Capability list follows\r\nUSER\r\nRESP-CODES\r\nEXPIRE 0\r\nX-GOOGLE-VERHOEVEN\r\nSASL PLAIN XOAUTH2 OAUTHBEARER\r\n.\r\n",
		"+OK Here's what I can do:\r\nSASL LOGIN PLAIN CRAM-MD5\r\nUTF8 USER\r\nIMPLEMENTATION Courier Mail Server\r\n.\r\n",
		"+OK\r\ntop\r\nsasl  PLAIN \t cram-md5 \r\nUidl\r\n.\r\n",
		"+OK\r\nSASL\r\nSASL PLAIN\r\nTOP a\r\n\r\n \r\nTOP\r\n.\r\n",
		"+OK\r\n..\r\n..X ..\r\n.Y\r\na\n.\n\r\n.\r\n",
		"+OK\r\n\xffX \xe4\u00a0\u2028b\r\n.\r\n-ERR noise\r\n+OK noise\r\n",
		"-ERR unknown command\r\n",
		"-ERR\r\n-ERR noise\r\n.\r\n",
		"+ \r\n", "+OKAY\r\n.\r\n", "+OK\n.\n", "TOP\r\n.\r\n", "",
		"+OK\r\n" + strings.Repeat("X\r\n", 1024) + ".\r\n",
		"+OK\r\n" + strings.Repeat("X\r\n", 1025) + ".\r\n",
		"+OK\r\n" + strings.Repeat("x", longestLine) + "\r\n.\r\n",
		"+OK\r\n" + strings.Repeat("x", longestLine+1) + "\r\n.\r\n",
		"+OK\r\n" + strings.Repeat("x", longestLine+1),
		"+OK " + strings.Repeat("x", longestLine-4) + "\r\n.\r\n",
		"+OK " + strings.Repeat("x", longestLine-3) + "\r\n.\r\n",
	} {
		f.Add(said, []byte{2, 0, 30}, uint16(len(said)/2))
		f.Add(said, []byte{255}, uint16(max(0, len(said)-1)))
	}
	f.Fuzz(func(t *testing.T, said string, pieces []byte, cut uint16) {
		said = said[:min(len(said), 1<<14)]
		for _, gone := range []bool{false, true} {
			if gone {
				said = said[:int(cut)%(len(said)+1)]
			}
			conn := &memory{answers: []string{"+OK\r\n", said, ""}, pieces: oracle.Lengths(pieces)}
			c := connect(t, &Options{Timeout: -1, MaxLineLength: longestLine}, conn)
			if gone {
				conn.answers = conn.answers[:1]
			}
			got, err := c.RefreshCapabilities(background)
			want, wantErr := capabilitiesSlowly(said)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("response to CAPA %q: %v, want %v", said, err, wantErr)
			}
			if err != nil {
				checkBroken(t, err, wantErr, gone)
				if len(got) > 0 {
					t.Errorf("response to CAPA %q: %q with %v", said, got, err)
				}
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("response to CAPA %q: %s", said, diff)
			} else if cached, err := c.Capabilities(background); err != nil || !cmp.Equal(cached, want) || len(conn.asked) != 1 {
				t.Errorf("cached: %q, %v, and %q was sent", cached, err, conn.asked)
			}
			checkInSync(t, c, conn, wantErr == nil, true)
		}
	})
}
