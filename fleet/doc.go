// Package fleet polls many POP3 mailboxes from many processes, on an engine that exists: the streams of NATS JetStream.
//
// A maildrop is exclusive (RFC 1939, section 8), so the mailbox is the unit of work: each mailbox is one message of a work queue, which
// a worker holds by a lease as long as it has a session. Enrol mailboxes, run Workers, and Receive the mail:
//
//	e, err := engine.Start(engine.Options{Dir: "fleet"}) // or nats.Connect to servers that exist
//	nc, err := e.Connect()
//	f, err := fleet.Open(ctx, nc, fleet.Config{})
//	err = f.Enrol(ctx, fleet.Mailbox{User: "ann", Addr: "pop.example.org", Secret: "file:ann"})
//	w := &fleet.Worker{Fleet: f, Secrets: &fleet.Secrets{Dir: "/run/secrets"}}
//	err = w.Run(ctx)
//
// The package has no queue, no scheduler, no lock, and no store of its own. The engine has them:
//
//   - POP3_JOBS is a work queue with one message a mailbox: pop3.now.CLASS.BOX is due, and pop3.later.CLASS.BOX is a schedule that
//     the engine turns into the former. The message is the state of the mailbox from one poll to the next.
//   - The consumer class-CLASS has the limit of a provider: the number of its mailboxes that all workers hold at once.
//   - POP3_MAIL is the sink: one message a mail, pop3.mail.BOX.KEY, where KEY is a digest of the unique-id. Mail that is too large for
//     a message is in the object store pop3-large, and complete when the message that refers to it appears.
//   - pop3-mailboxes has the mailboxes, with references to their secrets. Secrets are never in the engine.
//   - POP3_EVENTS has what an operator should know.
//
// # Guarantee
//
// Each message of each mailbox is in POP3_MAIL once, no matter when workers and engines are killed, as long as the engine keeps what it
// has confirmed and no key is removed while the message is on the server. The rules are:
//
//  1. A message is durable in the sink before it is deleted, and all deletions of a session come before its QUIT.
//  2. The sink has a key for each message. What is there already is deleted from the server, not written again. A message with the
//     unique-id of another one, but another digest, gets a key of its own.
//  3. A worker schedules the next poll of a mailbox only if the job that it holds is still the last message of the mailbox: a worker
//     that was stopped longer than its lease is refused.
//  4. A worker that receives a job again looks first whether an earlier one has scheduled the next poll.
//  5. A worker that cannot reach the engine drops its sessions, without QUIT, before its leases end.
//  6. After a single engine was killed, which forgets its latest deliveries, no worker takes a job for the time of a lease. A cluster
//     does not forget.
//
// What is not guaranteed: a worker that is stopped (SIGSTOP, a suspended machine) longer than its lease may still have a session when
// another worker opens one, unless the server locks the maildrop. A server that changes its unique-ids makes all mail new. A Worker.Sink
// without keys may receive a message twice.
package fleet
