package pop3

import (
	"bytes"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// pieces is a connection whose Reads return the strings, one each, and then io.EOF.
type pieces struct {
	net.Conn
	rest []string
}

func (p *pieces) SetDeadline(time.Time) error     { return nil }
func (p *pieces) SetReadDeadline(time.Time) error { return nil }
func (p *pieces) Close() error                    { return nil }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[0])
	if p.rest[0] = p.rest[0][n:]; p.rest[0] == "" {
		p.rest = p.rest[1:]
	}
	return n, nil
}

// connOn returns a conn that reads the strings, with lines of up to eight bytes.
func connOn(heard ...string) *conn {
	o := (&Options{Timeout: -1, MaxLineLength: 8}).withDefaults()
	return newConn(&pieces{rest: heard}, &o)
}

// splits calls try with every split of s in two, and with s byte by byte.
func splits(s string, try func(pieces ...string)) {
	for i := range s {
		if i > 0 {
			try(s[:i], s[i:])
		}
	}
	if s == "" {
		try()
		return
	}
	try(s)
	try(strings.Split(s, "")...)
}

func TestConnLine(t *testing.T) {
	splits("12345678\r\n\r\na\nb\rc\r\n.\r\n123456789\r\n", func(heard ...string) {
		c := connOn(heard...)
		for _, want := range []string{"12345678", "", "a\nb\rc", "."} {
			if line, err := c.line(); string(line) != want || err != nil {
				t.Errorf("%q: line %q, %v; want %q", heard, line, err, want)
			}
		}
		_, err := c.line()
		wantError(t, err, ErrLineTooLong)
	})
	for _, endless := range []string{"x", "\n", "\r"} {
		_, err := connOn(strings.Repeat(endless, 100), "\r\n").line()
		wantError(t, err, ErrLineTooLong)
	}
	_, err := connOn("cut").line()
	wantError(t, err, io.EOF)
}

func TestConnLines(t *testing.T) {
	const heard = "a\r\nb\nb\r\n\r\nc"
	splits(heard, func(heard ...string) {
		c := connOn(heard...)
		var got string
		for {
			lines, err := c.lines()
			if err != nil {
				wantError(t, err, io.EOF)
				break
			}
			if !bytes.HasSuffix(lines, []byte("\r\n")) {
				t.Fatalf("%q: lines %q", heard, lines)
			}
			got += string(lines)
			c.used(len(lines))
		}
		if got != "a\r\nb\nb\r\n\r\n" {
			t.Errorf("%q: lines %q", heard, got)
		}
	})
	_, err := connOn("12345678", "9").lines()
	wantError(t, err, io.EOF)
	_, err = connOn("12345678", "9x").lines()
	wantError(t, err, ErrLineTooLong)
}

func TestConnStatus(t *testing.T) {
	for _, test := range []struct {
		heard, word, text string
		err               error
	}{
		{"+OK\r\n", "+OK", "", nil},
		{"+OK a\r\n", "+OK", "a", nil},
		{"+OK\t  a \r\n", "+OK", "a ", nil},
		{"-ERR\r\n", "-ERR", "", nil},
		{"-ERR b\r\n", "-ERR", "b", nil},
		{"+OKAY\r\n", "", "", &ProtocolError{"", "+OKAY", noStatus}},
		{"+ok\r\n", "", "", &ProtocolError{"", "+ok", noStatus}},
		{"-Err\r\n", "", "", &ProtocolError{"", "-Err", noStatus}},
		{"-ERROR\r\n", "", "", &ProtocolError{"", "-ERROR", noStatus}},
		{" +OK\r\n", "", "", &ProtocolError{"", " +OK", noStatus}},
		{"+ QQ==\r\n", "", "", &ProtocolError{"", "+ QQ==", noStatus}},
		{"\r\n", "", "", &ProtocolError{"", "", noStatus}},
		{"+OK\n", "", "", &ProtocolError{"", "+OK", bareLF}},
		{"+O\nK\r\n", "", "", &ProtocolError{"", "+O", bareLF}},
		{"\n+OK\r\n", "", "", &ProtocolError{"", "", bareLF}},
		{"+OK\r\r\n", "", "", &ProtocolError{"", "+OK\r", noStatus}},
		{"+OK 5678\r\n", "+OK", "5678", nil},
		{"+OK 56789\r\n", "", "", ErrLineTooLong},
		{"+OK 56789 and no end", "", "", ErrLineTooLong},
		{"+OK", "", "", io.EOF},
		{"", "", "", io.EOF},
	} {
		splits(test.heard, func(heard ...string) {
			word, text, err := connOn(heard...).status()
			if word != test.word || text != test.text || !reflect.DeepEqual(err, test.err) {
				t.Errorf("status of %q: %q, %q, %v; want %q, %q, %v", heard, word, text, err, test.word, test.text, test.err)
			}
		})
	}
	if word, text, err := connOn("+ QQ==\r\n").reply(); word != "+" || text != "QQ==" || err != nil {
		t.Errorf("reply of a challenge: %q, %q, %v", word, text, err)
	}
}

func TestConnReturnsBuffer(t *testing.T) {
	c := connOn("+OK\r\n", "+OK\r\n")
	for range 2 {
		if _, _, err := c.status(); err != nil {
			t.Fatal(err)
		}
		c.returnBuffer()
		if c.buf != nil || c.r != 0 || c.w != 0 {
			t.Errorf("after release: %d bytes of buffer, r %d, w %d", len(c.buf), c.r, c.w)
		}
	}
}

// TestConnReadsNothing has a connection whose Reads return neither data nor an error.
func TestConnReadsNothing(t *testing.T) {
	_, err := connOn(make([]string, 1000)...).line()
	wantError(t, err, io.ErrNoProgress)
}

// TestDetachLargeBuffer detaches more data than a borrowed buffer holds.
func TestDetachLargeBuffer(t *testing.T) {
	c := connOn("one\r\n" + strings.Repeat("x", 2*bufferSize) + "\r\n")
	c.maxLine = 3 * bufferSize
	_, err := c.line()
	must(t, err)
	for c.w-c.r <= 2*bufferSize {
		must(t, c.fill())
	}
	c.detach()
	if line, err := c.line(); len(line) != 2*bufferSize || err != nil {
		t.Errorf("a line of %d bytes, %v; want %d", len(line), err, 2*bufferSize)
	}
}

func TestDetach(t *testing.T) {
	c := connOn("one\r\ntwo\r\n" + strings.Repeat("x", 8) + "\r\n")
	one, err := c.line()
	must(t, err)
	c.detach()
	for _, want := range []string{"two", "xxxxxxxx"} {
		if line, err := c.line(); string(line) != want || err != nil {
			t.Errorf("line %q, %v; want %q", line, err, want)
		}
		clear(c.buf[:c.r])
	}
	if string(one) != "one" {
		t.Errorf("the borrowed text has become %q", one)
	}
}

func TestConnSend(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	var transcript strings.Builder
	o := (&Options{DebugWriter: &transcript}).withDefaults()
	c := newConn(a, &o)
	long := strings.Repeat("x", 500)
	go func() {
		c.send("PASS "+long, "PASS ****")
		c.send("NOOP", "NOOP")
		a.Close()
	}()
	got, _ := io.ReadAll(b)
	if want := "PASS " + long + "\r\nNOOP\r\n"; string(got) != want {
		t.Errorf("sent %.40q... of %d bytes, want %.40q... of %d", got, len(got), want, len(want))
	}
	if transcript.String() != "C: PASS ****\nC: NOOP\n" {
		t.Errorf("transcript: %q", transcript.String())
	}
	if kept := c.out[:cap(c.out)]; bytes.Contains(kept, []byte("xx")) {
		t.Errorf("the password is still in memory: %.40q", kept)
	}
}
