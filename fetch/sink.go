package fetch

import (
	"context"
	"errors"
	"io"
	"time"
)

// A Sink receives messages in two phases, so that a crash at any moment neither loses a message nor doubles one. A target that
// cannot stage messages uses Deliver instead.
//
// For each batch a Fetcher calls Stage for every message, Sync, stores an Intent for every message, and calls Commit.
// Stage may be called for the next batch while Sync or Commit is still running for this one; otherwise the methods
// are called one at a time. Recover is called once in each run, before Stage.
type Sink interface {
	// Target identifies the target, such as "maildir:/home/joe/Mail". Intents of another target are not given to Recover: their
	// messages are fetched again.
	Target() string

	// Recover checks that the target can be used, settles the intents of an earlier run, and removes the messages
	// that such a run staged but recorded no intent for. It returns an Outcome for each intent; a message with
	// OutcomeDelivered is durable.
	Recover(ctx context.Context, r Recovery) ([]Outcome, error)

	// Stage reads body to io.EOF and writes the message where no reader of the target looks. It returns a name that
	// is unique in the target. If it returns an error, it leaves nothing of the message behind. If reading body
	// fails, Stage must return that error, wrapped or unwrapped; any other error ends the run, unless it is marked by
	// Later or Never.
	//
	// body has the bytes that the server sent, with CRLF line endings. It implements io.WriterTo.
	Stage(ctx context.Context, m Message, body io.Reader) (name string, err error)

	// Sync makes staged messages durable. The Name of each record is the one that Stage returned; Sync may replace it by what
	// Commit, Discard, and Recover need to know, such as an offset. After an error the run discards the batch and ends.
	Sync(ctx context.Context, staged []Record) error

	// Commit makes staged messages visible in the target, in order. It returns how many of them are delivered and
	// durable. If err is nil and n is at least 1 but fewer than all, the n messages are recorded and Commit is called
	// again for the others. If err is marked by Later or Never, it concerns the next message after the n delivered
	// ones: that message is discarded, and Commit is called again for the remaining ones. After any other error, all
	// messages after the first n are discarded and the run ends.
	Commit(ctx context.Context, staged []Record) (n int, err error)

	// Discard removes messages that were staged and are not to be delivered, as far as it can. It may be called before or after
	// Sync, and after a Commit that failed.
	Discard(ctx context.Context, staged []Record)
}

// Recovery is the input of Sink.Recover.
type Recovery struct {
	Account string    // Fetcher.Account
	Now     time.Time // for the age of an intent
	Intents []Record  // may be empty
}

// Outcome is the result of an intent.
type Outcome uint8

const (
	// OutcomeForgotten is a message that is not in the target and is to be fetched again.
	OutcomeForgotten Outcome = iota
	// OutcomeDelivered is a message that is in the target.
	OutcomeDelivered
)

// Errors by which a Sink reports its decision about one message. The run continues with the others.
var (
	errLater = errors.New("try again later")
	errNever = errors.New("refused")
)

// verdictError marks err as errLater or errNever.
type verdictError struct{ err, verdict error }

func (e *verdictError) Error() string        { return e.err.Error() }
func (e *verdictError) Unwrap() error        { return e.err }
func (e *verdictError) Is(target error) bool { return target == e.verdict }

// Later marks err as a temporary refusal of one message, such as a 4xx of SMTP or the exit status 75 of a program. The message
// stays on the server and is fetched again by the next run.
func Later(err error) error { return &verdictError{err, errLater} }

// Never marks err as a permanent refusal of one message, such as a 5xx of SMTP. The message stays on the server, is reported, and
// is not fetched again until its Record is removed from the Store. It is never deleted.
func Never(err error) error { return &verdictError{err, errNever} }

// IsLater reports whether err was marked by Later.
func IsLater(err error) bool { return errors.Is(err, errLater) }

// IsNever reports whether err was marked by Never.
func IsNever(err error) bool { return errors.Is(err, errNever) }

// A DeliverFunc delivers one complete message. body has the bytes that the server sent, with CRLF line endings; it is valid until
// the function returns, and implements io.WriterTo and io.Seeker.
//
// If the error is nil, the message is delivered: it is never given to the function again, unless the process dies before the
// Store has recorded it, and it may be deleted from the server. If the error is marked by Later or by Never, the message stays on
// the server, and the run continues. Any other error means that the target itself has failed, and ends the run.
type DeliverFunc func(ctx context.Context, m Message, body io.ReadSeeker) error

// A Delivery is a Sink with one phase. The complete message is received before Func is called, into memory if it is small and
// otherwise into a temporary file, so Func never receives a truncated one. Each delivery is recorded before the next one begins.
type Delivery struct {
	// Func delivers a message.
	Func DeliverFunc

	// Name identifies the target, as Sink.Target does. It may be empty.
	Name string

	// Dir is the folder of temporary files. If empty, it is os.TempDir.
	Dir string

	// Timeout, if not 0, bounds the context of each call of Func. A call that does not return soon after its context
	// is done is abandoned, and the run ends.
	Timeout time.Duration

	spool spool
}

// Deliver returns a Sink that gives each message to fn.
func Deliver(fn DeliverFunc) *Delivery { return &Delivery{Func: fn} }
