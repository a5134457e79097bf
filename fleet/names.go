package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"
	"net"
	"strconv"
	"strings"
)

// The streams and buckets of a fleet, as they are named in the engine.
const (
	JobsStream   = "POP3_JOBS"   // one message a mailbox: when it is due, and its state
	MailStream   = "POP3_MAIL"   // one message a mail
	EventsStream = "POP3_EVENTS" // what an operator should know

	mailboxBucket = "pop3-mailboxes" // Mailbox, by its ID
	largeBucket   = "pop3-large"     // mail that is too large for a message
	seenBucket    = "pop3-seen"      // records of mailboxes that are too many for a job
)

const (
	nowPrefix   = "pop3.now."
	laterPrefix = "pop3.later."
	mailPrefix  = "pop3.mail."
	eventPrefix = "pop3.event."

	consumerPrefix = "class-"

	// The overdue watch is a job itself, in a class of its own, so that the engine lets one worker at a time run it.
	watchClass = "watch"
	watchID    = "watch"

	otherPrefix  = "other-"
	otherClasses = 16
)

// digest returns 32 hexadecimal digits that stand for a list of texts.
func digest(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		h.Write([]byte(strconv.Itoa(len(text)) + " " + text))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func nowSubject(class, id string) string   { return nowPrefix + class + "." + id }
func laterSubject(class, id string) string { return laterPrefix + class + "." + id }

// jobSubjects matches both subjects of a mailbox. The engine accepts a job only if the last message that matches is the one expected:
// this is the fence.
func jobSubjects(class, id string) string { return "pop3.*." + class + "." + id }

// splitJob returns the parts of a subject of the jobs stream.
func splitJob(subject string) (class, id string, due bool) {
	rest, due := strings.CutPrefix(subject, nowPrefix)
	if !due {
		rest = strings.TrimPrefix(subject, laterPrefix)
	}
	class, id, _ = strings.Cut(rest, ".")
	return class, id, due
}

// otherClass returns the class of a host that no provider is configured for.
func otherClass(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	h := fnv.New32a()
	h.Write([]byte(strings.ToLower(host)))
	return otherPrefix + strconv.Itoa(int(h.Sum32()%otherClasses))
}

// isToken reports whether s can be a part of a subject and of the name of a consumer.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 100
}
