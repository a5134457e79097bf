// Package fetch delivers the new messages of a POP3 maildrop to a target, each message once.
//
// A [Fetcher] connects, compares the unique-ids of the maildrop (RFC 1939, section 7) with those in a [Store], streams
// every new message into a [Sink], and deletes messages from the server according to its [Policy]:
//
//	f := &fetch.Fetcher{
//		Dial: func(ctx context.Context) (*pop3.Client, error) {
//			c, err := pop3.DialTLS(ctx, "pop.example.org", nil)
//			if err != nil {
//				return nil, err
//			}
//			if err := c.Login(ctx, "joe", password); err != nil {
//				c.Close()
//				return nil, err
//			}
//			return c, nil
//		},
//		Store: store,                              // package boltstore, or your own
//		Sink:  &fetch.Maildir{Dir: "/home/joe/Mail"},
//	}
//	report, err := f.Run(ctx)
//
// # Guarantee
//
// If the Sink has two phases, as [Maildir] does, no message is lost and none is delivered twice, no matter when the
// process is killed or the power fails, provided that the file system keeps what was synced with fsync. Run the
// Fetcher again, and it continues. Messages are handled in batches of at most 64 messages or 4 MiB, in this order:
//
//  1. stage each message where no reader looks, and sync it;
//  2. sync the folder that the messages were staged in;
//  3. record an intent for each message of the batch, durably;
//  4. commit: move each message to where readers look;
//  5. sync the folder that it was moved to;
//  6. record each message as done, durably;
//  7. delete messages from the server according to the Policy, and quit. Records of deleted messages are removed after the server has
//     confirmed the QUIT.
//
// Before it connects, each run settles the intents that an earlier run recorded but did not finish.
//
// A message that was fetched in an earlier session is deleted only if its size and a digest of its header prove that
// it is the recorded one; but see Policy.DeleteUnproven.
//
// The guarantee does not cover a disk that loses confirmed writes, a server that gives a message two unique-ids, a
// Store that was deleted or restored from a backup, or a Sink with one phase: that of [Deliver] receives a message
// again if the process dies after the delivery and before the Store has recorded it.
package fetch

import (
	"context"
	"log/slog"
	"time"

	"github.com/seed-5b1d5243/pop3"
)

// A Fetcher fetches the new messages of one maildrop. Dial, Store, and Sink are required. The fields must not change
// while Run or Plan is running.
type Fetcher struct {
	// Account names the maildrop, such as joe@pop.example.org. It distinguishes the staged files of accounts that
	// share a target, so it must stay the same from run to run.
	Account string

	// Dial returns a session that is logged in. Run calls it again after the connection was lost. If err is a *pop3.ServerError of
	// a login command that is not Temporary, or wraps ErrLogin, Run ends with ErrLogin.
	Dial func(ctx context.Context) (*pop3.Client, error)

	// Store remembers which messages were fetched. The caller closes it.
	Store Store

	// Sink receives the messages.
	Sink Sink

	// Prepend, if not nil, returns text to put in front of a message, such as a Received field with its CRLF.
	Prepend func(m Message) []byte

	// Policy selects the messages to fetch and to delete. The zero Policy fetches all and deletes none.
	Policy Policy

	// Retry configures reconnecting. The zero value has sensible defaults.
	Retry Retry

	// Grace is the time that Run has to finish after its context is done: to commit the messages received, to delete, and to
	// quit. If 0, it is 10 s.
	Grace time.Duration

	// Progress, if not nil, is called for every Event, by one goroutine at a time. It must not block for long, because messages
	// wait for it.
	Progress func(Event)

	// Logger, if not nil, receives records for an operator: unique-ids that were used again, listings with malformed
	// lines, retries.
	Logger *slog.Logger

	// Now, if not nil, replaces time.Now in records and policies. It must be safe for concurrent use.
	Now func() time.Time

	// BatchMessages and BatchOctets bound a batch. If 0, they are 64 and 4 MiB. A message larger than BatchOctets is a batch of
	// its own.
	BatchMessages int
	BatchOctets   int64

	// sequential commits a batch before the next one is received, so that tests are deterministic.
	sequential bool
}

// Retry configures how to connect again after a connection was lost. If the first connection of a run cannot be made,
// Run returns at once.
type Retry struct {
	// Attempts is the number of attempts in a row without progress after which Run gives up. Each completed batch is
	// progress. If 0, it is 5; if negative, Run never connects again.
	Attempts int

	// MinDelay is the delay before the first retry. The delay doubles with each attempt, up to MaxDelay, and progress
	// resets it; each delay varies at random by up to a half. If 0, MinDelay is 1 s and MaxDelay is 5 min. A server's
	// LOGIN-DELAY longer than MaxDelay ends the run.
	MinDelay, MaxDelay time.Duration
}

// Run fetches new messages and deletes those that are due, over as many sessions as it takes. The Report is valid with
// any error.
//
// The error is nil if everything was done. Otherwise it wraps the cause and matches, with errors.Is, one of
// ErrIncomplete, ErrLogin, ErrServer, ErrSink, ErrStore, ErrLocked, ErrAllNew, ErrNoUIDL, and ErrInterrupted.
//
// When ctx is done, Run finishes the current batch: it commits the messages received completely, deletes the messages
// that are due, quits, and returns ErrInterrupted, within Grace. It is safe to kill the process instead.
func (f *Fetcher) Run(ctx context.Context) (Report, error) {
	return f.run(ctx)
}

// Plan returns what Run would do with each message of the maildrop, in the order of the listing. It uses the session
// c, which belongs to the caller. It fetches nothing, deletes nothing, and does not change the Store. A Policy.Filter
// is not called: its messages appear as ActionFetch.
func (f *Fetcher) Plan(ctx context.Context, c *pop3.Client) ([]Step, error) {
	return f.plan(ctx, c)
}

// A Step is the action of Run for one message.
type Step struct {
	Message Message
	Action  Action
	Record  Record // of the Store; its State is 0 if the message is new
	Delete  bool   // the message is due for deletion
}

// A Message identifies a message on the server.
type Message struct {
	Account string // Fetcher.Account
	Key     Key
	Number  int       // message number in the current session
	Size    int64     // octets, as in the scan listing; -1 if unknown
	Time    time.Time // when this value was made
	Header  bool      // only the header is fetched: see Policy.HeaderOnly
}
