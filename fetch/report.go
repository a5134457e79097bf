package fetch

import (
	"errors"
	"fmt"
	"time"
)

// The kinds of errors that Run returns. Compare with errors.Is. The exit statuses are used by the command.
var (
	// ErrIncomplete reports that the run was completed, but that the server or the Sink refused some messages, or
	// left them for a later run. Exit status 1.
	ErrIncomplete = errors.New("some messages were refused or left")

	// ErrAllNew reports that all unique-ids are new at once: see Policy.AllNew. Nothing was fetched. Exit status 1.
	ErrAllNew = errors.New("all unique-ids are new, as after a migration of the server")

	// ErrNoUIDL reports a server without UIDL: see Policy.NoUIDL. Nothing was fetched. Exit status 2.
	ErrNoUIDL = errors.New("the server has no unique-ids (UIDL)")

	// ErrLogin reports that the server refused the login, or that no secure way to log in exists. Run does not try again. Exit
	// status 3.
	ErrLogin = errors.New("login refused")

	// ErrServer reports a failure of the server or of the network that may pass. Exit status 4.
	ErrServer = errors.New("server or network failed")

	// ErrSink reports that the Sink failed. Exit status 5.
	ErrSink = errors.New("delivery failed")

	// ErrStore reports that the Store failed. Exit status 5.
	ErrStore = errors.New("state cannot be read or written")

	// ErrLocked reports that another run has the Store open. Stores return it when they are opened. Exit status 6.
	ErrLocked = errors.New("locked by another run")

	// ErrInterrupted reports that the context of Run was done. Committed messages are recorded. Exit status 130.
	ErrInterrupted = errors.New("interrupted")
)

// A Report counts the results of a run.
type Report struct {
	Listed    int   // messages in the last listing
	New       int   // messages in the last listing that were new
	Fetched   int   // messages delivered and recorded
	Octets    int64 // in the messages delivered
	Headers   int   // messages of which the header was delivered: see Policy.HeaderOnly
	Skipped   int   // messages left by the Policy
	Left      int   // messages that the server or the Sink did not take now; the next run tries again
	Refused   int   // messages that the Sink refused for good, in this run
	Deleted   int   // messages whose deletion the server has confirmed
	Undone    int   // messages that are due for deletion and still on the server
	Sessions  int   // sessions opened
	Recovered int   // messages of an earlier run that were found to be delivered, or were delivered by recovery

	// QuitUnknown reports that the response to QUIT was lost, so that the next listing shows which messages are deleted.
	QuitUnknown bool

	// Problems has the first 100 messages that were left or refused.
	Problems []*MessageError

	Elapsed time.Duration
}

// A MessageError is the reason why one message was not fetched or not deleted.
type MessageError struct {
	Message Message
	Err     error
}

func (e *MessageError) Error() string {
	return fmt.Sprintf("message %d (%s): %v", e.Message.Number, printable(e.Message.Key.UID), e.Err)
}

func (e *MessageError) Unwrap() error { return e.Err }

// printable quotes a unique-id if it has anything but printable ASCII, and shortens it.
func printable(s string) string {
	const max = 70
	cut := s
	if len(cut) > max {
		cut = cut[:max]
	}
	for i := range len(cut) {
		if cut[i] < ' ' || cut[i] > '~' {
			cut = fmt.Sprintf("%+q", cut)
			break
		}
	}
	if len(s) > max {
		cut += "..."
	}
	return cut
}

// EventKind is the kind of an Event.
type EventKind uint8

const (
	EventConnecting EventKind = iota + 1 // about to connect; Attempt counts from 1
	EventConnected                       // logged in
	EventPlanned                         // the listing is compared: Total messages of TotalOctets are to be fetched by this session
	EventData                            // Octets of Message have arrived since the last event; at most one for each 64 KiB
	EventStaged                          // Message has arrived completely
	EventFetched                         // Message is delivered and recorded
	EventSkipped                         // Message was left by the Policy
	EventLeft                            // Message was not taken now, because of Err
	EventRefused                         // Message was refused for good, because of Err
	EventDeleted                         // the deletion of Message is confirmed
	EventRetry                           // the connection was lost because of Err; the next attempt comes after Delay
	EventRecovered                       // Message of an earlier run was settled; Err is nil if it is delivered
	EventDone                            // Run is about to return Err
)

// An Event reports progress.
type Event struct {
	Kind        EventKind
	Time        time.Time
	Message     Message // for events of one message
	Octets      int64   // EventData
	Total       int     // EventPlanned
	TotalOctets int64   // EventPlanned
	Attempt     int     // EventConnecting
	Delay       time.Duration
	Err         error
}
