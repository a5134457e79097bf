package fetch

import (
	"context"
	"time"
)

// Policy selects the messages that are fetched and the messages that are deleted from the server. The zero Policy
// fetches every message and deletes none.
type Policy struct {
	// Delete deletes every message that was delivered, in the same session.
	Delete bool

	// DeleteAfter, if not 0, is the age, counted from the time of fetching, above which delivered messages are
	// deleted.
	DeleteAfter time.Duration

	// DeleteOver, if not 0, is the number of delivered messages that may stay on the server. The oldest in the order of the
	// listing are deleted first.
	DeleteOver int

	// DeleteUnproven also deletes messages whose identity cannot be proven because their Record has no header digest,
	// as after an import from another program. Otherwise such messages stay on the server.
	DeleteUnproven bool

	// MaxMessages and MaxOctets, if not 0, limit the messages that a run fetches. At least one message is fetched. The
	// others wait for the next run and count as skipped.
	MaxMessages int
	MaxOctets   int64

	// MaxSize, if not 0, is the size in octets above which a message is skipped.
	MaxSize int64

	// HeaderOnly delivers the header of messages above MaxSize, once, instead of skipping them. Those messages stay on the
	// server.
	HeaderOnly bool

	// Filter, if not nil, decides about each new message by its header.
	Filter func(ctx context.Context, c Candidate) (Action, error)

	// AllNew is the action if all unique-ids are new at once, as after a migration of the server.
	AllNew AllNew

	// NoUIDL permits servers without UIDL even if nothing is deleted. Messages are then identified by their size and
	// a digest of their header, which takes a TOP for each message in each session. If messages are deleted, NoUIDL is
	// not needed, unless the Store has messages with unique-ids of the server.
	NoUIDL bool
}

// deletes reports whether any message may have to be deleted.
func (p *Policy) deletes() bool { return p.Delete || p.DeleteAfter > 0 || p.DeleteOver > 0 }

// A Candidate is a new message that Policy.Filter decides about.
type Candidate struct {
	Message
	Header []byte // with the CRLF line endings of the server; the first 256 KiB of it
}

// Action is the action for a message.
type Action uint8

const (
	// ActionFetch fetches the message.
	ActionFetch Action = iota
	// ActionSkip leaves the message on the server. The next run decides again.
	ActionSkip
	// ActionDelete deletes the message from the server without fetching it.
	ActionDelete
	// ActionHeader fetches the header alone: see Policy.HeaderOnly.
	ActionHeader
	// ActionKnown leaves alone a message that was fetched or refused before. Only Plan returns it.
	ActionKnown
)

var actionNames = [...]string{"fetch", "skip", "delete", "header", "known"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// AllNew is the action if all messages look new at once, but are probably those that the Store knows, under other
// unique-ids.
type AllNew uint8

const (
	// AllNewStop ends the run with ErrAllNew before anything is fetched.
	AllNewStop AllNew = iota
	// AllNewFetch fetches all messages.
	AllNewFetch
	// AllNewMatch looks up the header digest of each message in the Store, and fetches only the messages that are not
	// found.
	AllNewMatch
)
