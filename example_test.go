package pop3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/mail"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// Read every message.
func Example() {
	srv := pop3test.NewTLSServer(pop3test.Messages(
		"Subject: one\r\n\r\nThis is the first.\r\n",
		"Subject: two\r\n\r\n.. - .-- ---\r\n",
	))
	defer srv.Close()

	ctx := context.Background()
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}
	messages, err := c.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range messages.All() {
		if err != nil {
			log.Fatal(err)
		}
		m, err := c.Retr(ctx, e.Number)
		if err != nil {
			log.Fatal(err)
		}
		message, err := mail.ReadMessage(m)
		if err != nil {
			log.Fatal(err)
		}
		n, err := io.Copy(io.Discard, message.Body)
		if err != nil {
			log.Fatal(err)
		}
		if err := m.Close(); err != nil { // a nil error means the message is complete
			log.Fatal(err)
		}
		fmt.Printf("%d: %s (%d octets)\n", m.Number, message.Header.Get("Subject"), n)
	}
	if err := c.Quit(ctx); err != nil {
		log.Fatal(err)
	}

	// Output:
	// 1: one (20 octets)
	// 2: two (14 octets)
}

// Move all messages out of a mailbox of any size. Memory use is constant until another command needs the connection:
// the first Retr moves the remaining entries to memory.
func ExampleListing_C() {
	srv := pop3test.NewTLSServer(pop3test.Generate(1000, func(n int) string {
		return fmt.Sprintf("Subject: message %d\r\n\r\nHow are you?\r\n", n)
	}))
	defer srv.Close()

	// move returns nil if all messages were stored and deleted.
	move := func(ctx context.Context, c *pop3.Client, store func(io.Reader) error) error {
		messages, err := c.List(ctx)
		if err != nil {
			return err
		}
		defer messages.Stop() // for the returns below
		for e := range messages.C() {
			m, err := c.Retr(ctx, e.Number)
			if err != nil {
				return err
			}
			err = store(m)
			if closed := m.Close(); err == nil {
				err = closed // the message is truncated, though store has not noticed
			}
			if err != nil {
				return err // nothing is deleted without Quit
			}
			if err := c.Dele(ctx, e.Number); err != nil {
				return err
			}
		}
		if err := messages.Err(); err != nil {
			return err
		}
		return c.Quit(ctx) // commits the deletions
	}

	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()
	stored := 0
	err := move(ctx, c, func(r io.Reader) error {
		stored++
		_, err := io.Copy(io.Discard, r)
		return err
	})
	fmt.Println(err)
	fmt.Println(stored, "stored,", len(srv.Deleted()), "deleted,", len(srv.Remaining()), "left")

	// Output:
	// <nil>
	// 1000 stored, 1000 deleted, 0 left
}

// Issue commands while a listing is being read. Breaking out of the loop stops the listing.
func ExampleListing_All() {
	srv := pop3test.NewTLSServer(&pop3test.Generated{
		N:     3,
		Text:  func(n int) string { return "Subject: hello\r\n\r\n" + strings.Repeat("Well, ...\r\n", n) },
		UIDOf: func(n int) string { return fmt.Sprint("id-", n) },
	})
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	messages, err := c.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range messages.All() {
		if err != nil {
			log.Fatal(err)
		}
		if e.Size < 40 {
			continue
		}
		uid, err := c.UID(ctx, e.Number)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("message %d (%s): %d octets\n", e.Number, uid, e.Size)
		break
	}
	fmt.Println(c.Noop(ctx)) // the session remains usable

	// Output:
	// message 2 (id-2): 40 octets
	// <nil>
}

// Read a complete listing into memory, here to begin with the latest message.
func ExampleListing_Slice() {
	srv := pop3test.NewTLSServer(pop3test.Messages(
		"Subject: one\r\n\r\n",
		"Subject: two\r\n\r\nHow are you?\r\n",
	))
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	messages, err := c.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	entries, err := messages.Slice()
	if err != nil {
		log.Fatal(err) // entries is incomplete
	}
	for _, e := range slices.Backward(entries) {
		fmt.Println(e.Number, e.Size)
	}

	// Output:
	// 2 30
	// 1 16
}

// Fetch only new messages, and leave all messages on the server. A message number is valid within one session; a
// unique-id stays.
func ExampleClient_UIDL() {
	srv := pop3test.NewTLSServer(&pop3test.Generated{
		N:     4,
		Text:  func(n int) string { return fmt.Sprintf("Subject: message %d\r\n\r\n", n) },
		UIDOf: func(n int) string { return fmt.Sprint("id-", n) },
	})
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	seen := map[string]bool{"id-1": true, "id-3": true} // loaded from the previous run
	ids, err := c.UIDL(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for u, err := range ids.All() {
		if err != nil {
			log.Fatal(err)
		}
		if seen[u.ID] {
			continue
		}
		m, err := c.Retr(ctx, u.Number)
		if err != nil {
			log.Fatal(err)
		}
		n, err := io.Copy(io.Discard, m)
		if err != nil {
			log.Fatal(err)
		}
		if err := m.Close(); err != nil { // a nil error means the message is complete
			log.Fatal(err)
		}
		seen[u.ID] = true
		fmt.Println(u.ID, n)
	}
	if err := c.Quit(ctx); err != nil {
		log.Fatal(err)
	}

	// Output:
	// id-2 22
	// id-4 22
}

// Fetch messages and delete them. The commands are pipelined if the server advertises PIPELINING.
func ExampleClient_RetrAll() {
	srv := pop3test.NewTLSServer(pop3test.Generate(5, func(n int) string {
		return fmt.Sprintf("Subject: message %d\r\n\r\n", n)
	}))
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	var stored []int
	for m, err := range c.RetrAll(ctx, []int{1, 3, 5, 7}) {
		if err != nil {
			log.Fatal(err)
		}
		_, err := io.Copy(io.Discard, m)
		if closed := m.Close(); err == nil {
			err = closed
		}
		var refused *pop3.ServerError
		if errors.As(err, &refused) { // this message only
			fmt.Println(m.Number, refused.Text)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		stored = append(stored, m.Number)
	}
	if err := c.DeleAll(ctx, stored); err != nil {
		log.Fatal(err)
	}
	if err := c.Quit(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(stored, len(srv.Deleted()), "deleted")

	// Output:
	// 7 no such message
	// [1 3 5] 3 deleted
}

// Read the header of a message without fetching its body.
func ExampleClient_Top() {
	srv := pop3test.NewTLSServer(pop3test.Messages(
		"From: Ann <ann@example.org>\r\nSubject: lunch\r\n\r\n" + strings.Repeat("Well, ...\r\n", 100000),
	))
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	m, err := c.Top(ctx, 1, 0)
	if err != nil {
		log.Fatal(err)
	}
	message, err := mail.ReadMessage(m)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Close(); err != nil { // a nil error means the header is complete
		log.Fatal(err)
	}
	fmt.Println(message.Header.Get("From"))
	fmt.Println(message.Header.Get("Subject"))

	// Output:
	// Ann <ann@example.org>
	// lunch
}

// A truncated message never looks complete. Close reports it as well, in case a parser ignores the error of Read.
func ExampleMessage() {
	srv := pop3test.NewTLSServer(half{pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n")})
	defer srv.Close()
	ctx := context.Background()
	c := login(ctx, srv)
	defer c.Close()

	m, err := c.Retr(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	n, err := io.Copy(io.Discard, m)
	fmt.Println(n, "octets,", errors.Is(err, io.ErrUnexpectedEOF))
	fmt.Println(errors.Is(m.Close(), io.ErrUnexpectedEOF))
	err = c.Dele(ctx, 1)
	fmt.Println(errors.Is(err, pop3.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF))

	// Output:
	// 14 octets, true
	// true
	// true true
}

// half is a Maildrop whose messages are truncated.
type half struct{ pop3test.Maildrop }

func (h half) WriteMessage(w io.Writer, n int) error {
	io.WriteString(w, "Subject: hello")
	return errors.New("disk on fire")
}

// login starts a session with a test server.
func login(ctx context.Context, srv *pop3test.Server) *pop3.Client {
	c, err := pop3.DialTLS(ctx, srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Login(ctx, "user", "secret"); err != nil {
		log.Fatal(err)
	}
	return c
}

// TestREADME checks that the program in README.md is that of Example, except for the server.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := bytes.Cut(readme, []byte("func main() {\n"))
	program, _, _ = bytes.Cut(program, []byte("}\n```"))
	_, example, _ := bytes.Cut(source, []byte("defer srv.Close()\n\n"))
	example, _, _ = bytes.Cut(example, []byte("\n\t// Output:"))
	want := strings.NewReplacer(
		`srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()}`, `"pop.example.org", nil`,
		`"user", "secret"`, `os.Getenv("POP3_USER"), os.Getenv("POP3_PASSWORD")`,
	).Replace(string(example))
	if len(want) == 0 || string(program) != want {
		t.Errorf("main in README.md is\n%s\nwant that of Example:\n%s", program, want)
	}
}
