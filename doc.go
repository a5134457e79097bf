// Package pop3 implements a client for the Post Office Protocol, version 3 ([RFC 1939]), with capabilities, pipelining
// and response codes ([RFC 2449], [RFC 3206]), STLS ([RFC 2595]), implicit TLS ([RFC 8314]), APOP, SASL ([RFC 5034]),
// UTF8 and LANG ([RFC 6856]).
//
// A [Client] is one session. Open it with [DialTLS] and authenticate with [Client.Login], which picks the best method
// that the server supports:
//
//	c, err := pop3.DialTLS(ctx, "pop.example.org", nil)
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	if err := c.Login(ctx, user, password); err != nil {
//		return err
//	}
//
// Messages are io.Readers, listings are iterators or channels, and commands may be issued while a listing is being
// read, so one loop can empty a maildrop of any size:
//
//	messages, err := c.List(ctx)
//	if err != nil {
//		return err
//	}
//	for e, err := range messages.All() {
//		if err != nil {
//			return err
//		}
//		m, err := c.Retr(ctx, e.Number)
//		if err != nil {
//			return err
//		}
//		err = store(m) // reads to io.EOF
//		if closeErr := m.Close(); err == nil {
//			err = closeErr
//		}
//		if err != nil {
//			return err
//		}
//		if err := c.Dele(ctx, e.Number); err != nil {
//			return err
//		}
//	}
//	return c.Quit(ctx) // commits the deletions
//
// Some properties of POP3 matter to callers. A session sees the maildrop as it was at login: new messages appear in
// the next session. Message numbers are valid only within a session: after reconnecting, 7 may be a different
// message, so store unique-ids ([Client.UIDL]), and compare [Client.UID] before acting on a number from another
// session. Sizes in a listing are advisory: a message ends where Read returns io.EOF. [Client.Dele] only marks a
// message: nothing is deleted unless [Client.Quit] succeeds, and a server that logs an idle session out, often after
// ten minutes, discards its marks. A program that keeps no durable record of unique-ids may receive a message twice:
// package fetch keeps such a record.
//
// Package pop3test provides servers for tests of mail code.
//
// # Methods by phase
//
//   - Connecting: [Dial], [DialTLS], [DialStartTLS], [NewClient], [Client.Greeting], [Client.Challenge], [Client.TLSConnectionState]
//   - Authentication: [Client.Login], or by hand [Client.StartTLS], [Client.User] and [Client.Pass], [Client.APOP], [Client.Auth]
//   - Reading: [Client.Stat], [Client.List], [Client.UIDL], [Client.Size], [Client.UID], [Client.Retr], [Client.Top]
//   - Deleting: [Client.Dele], [Client.Rset], [Client.Quit]
//   - Batches: [Client.RetrAll], [Client.TopAll], [Client.DeleAll]
//   - Anything else: [Client.Capabilities], [Client.RefreshCapabilities], [Client.Noop], [Client.UTF8], [Client.Lang], [Client.Langs],
//     [Client.Cmd], [Client.CmdMultiline], [Client.Close]
//
// # Messages
//
// A [Message] yields the bytes the server sent, with CRLF preserved, dot-stuffing removed and nothing decoded. Read
// returns io.EOF only after the terminating line; if the connection is lost first, the error matches
// io.ErrUnexpectedEOF. Only CRLF . CRLF terminates a message.
//
// Until it has been read to io.EOF or closed, a message occupies the session. [Message.Close] on a half-read message
// downloads and discards the rest of it; closing the connection instead would discard all pending deletions.
//
// Many mail parsers mistake io.ErrUnexpectedEOF for the end of a message. If a Read has failed, Close therefore
// returns the same error. Check it after parsing, and delete a message only if it is nil:
//
//	parsed, err := parse(m)
//	if closeErr := m.Close(); closeErr != nil {
//		return closeErr // the message is truncated, even if parse did not notice
//	}
//
// # Concurrency
//
// A Client is safe for concurrent use. It uses one connection with at most one command in flight; concurrent calls
// queue in FIFO order. Login, StartTLS and Auth hold the connection for their whole exchange: no queued command is sent
// in between.
//
// A call may wait for the server to complete an earlier response. It never waits indefinitely for another caller to
// read one:
//
//   - A [Listing] is spilled: as soon as another command needs the connection, the unread entries are moved to memory, and the
//     listing continues from there. Until then its memory use is constant, and a slow reader exerts backpressure on the server.
//   - While a Message is being read, other commands wait. If nothing has been read from it for
//     [Options].StallTimeout, they fail with [ErrBusy], which names the command that waited and the one in its way;
//     nothing was sent and the session remains usable. Time that [Message.WriteTo] spends blocked in Write counts as
//     not reading.
//   - A batch ([Client.RetrAll], [Client.TopAll], [Client.DeleAll]) holds the connection until its loop ends, and
//     pipelines its commands if the server advertises PIPELINING. A command issued inside the loop waits as it would
//     for an open Message, so delete after the loop, with DeleAll. A batch without numbers does nothing.
//   - Quit waits too, but where other commands would fail with ErrBusy it discards the rest of the message or batch and proceeds,
//     so that a forgotten Close cannot lose deletions. Reads of the discarded message return [ErrClosed].
//
// A Message or Listing must not be used concurrently, except that [Message.Close], [Listing.Stop] and [Listing.Err] may
// be called from any goroutine, and several goroutines may receive from [Listing.C].
//
// A session runs code of yours, such as a Writer, a SASL mechanism, a Logger or a callback of crypto/tls. Even if
// that code blocks, every waiting call ends at once on [Client.Close], or when its own context is done. If the code
// panics or calls runtime.Goexit at a point where the session can no longer tell its position in the protocol, the
// session is closed.
//
// # Contexts
//
// The context passed to a command also governs its response. If it is done while the command is still queued, nothing
// was sent and the session is unaffected. If it is done later, the session is closed, because responses could no longer
// be matched to commands; pending deletions are not committed. Listing.Stop detaches the context: to stop early and
// keep the session, call Stop (or break out of a loop over All) before canceling.
//
// If a helper function calls Retr and returns the Message, do not give Retr a context that ends when the helper
// returns. Do not pass the context of an errgroup to Quit: it is canceled when the group ends.
//
// Close closes the connection immediately and may be called from any goroutine. All pending calls return ErrClosed.
//
// # Errors
//
// A negative response (-ERR) is a [*ServerError]; the session remains usable. A response that violates the protocol
// is a [*ProtocolError]. It closes the session if client and server may be out of sync; if only the text after +OK is
// invalid, the session remains usable. All other errors are matched with errors.Is. If an error also matches
// [ErrNotSent], no part of the command was written, so it is safe to repeat the command.
//
//	error                                              what to do
//	*ServerError, Temporary                            retry later
//	*ServerError of PASS, APOP or AUTH                 ask for the password or refresh the token; do not retry unchanged
//	*ServerError of RETR, TOP or DELE                  only this message is affected; continue
//	ErrInsecureLogin, ErrTLSNotSupported               change the configuration: use TLS
//	*tls.CertificateVerificationError                  change the configuration, or do not trust the server
//	ErrBusy                                            a mistake in the program: close the message that the error names
//	ErrLineTooLong, ErrTooManyEntries, *ProtocolError  the server is broken or hostile, or a limit in Options is too low
//	ErrClosed, io.ErrUnexpectedEOF,                    connect again, and list the unique-ids again
//	  os.ErrDeadlineExceeded
//	context.Canceled, context.DeadlineExceeded         your context ended; connect again, unless ErrNotSent matches
//
// The error that ends a session is returned by the command in flight. All other and later calls return [ErrClosed]
// wrapping it; ErrClosed also matches net.ErrClosed. The package never retries or reconnects on its own.
//
// [Client.Quit] returns nil if the deletions were committed and a *ServerError if the server kept some of the
// messages. If the error matches ErrNotSent, QUIT was not sent and nothing was deleted. After any other error the
// outcome is unknown: connect again and compare unique-ids.
//
// # Limits
//
// [Options].Timeout bounds each wait for the server, including the greeting, QUIT and every read of a message. It does
// not bound a response that keeps arriving; use the context for that. Connecting and the TLS handshake are bounded by
// the context, too.
//
// Status lines and listing lines are limited to Options.MaxLineLength bytes, and listings to Options.MaxEntries
// entries. The entries that are moved to memory may take Options.MaxSpill bytes. Exceeding a limit closes the session
// with [ErrLineTooLong] or [ErrTooManyEntries]. Messages, and the lines in them, may be of any length. Reading a
// message takes one buffer of 64 KiB, which is returned to a pool afterwards: an idle session holds none.
//
// An AUTH line is limited to 255 octets (RFC 5034). An initial response that does not fit is sent on a line of its
// own, once the server has asked for it with an empty challenge. Other commands are sent whatever their length,
// though servers may refuse those of more than 255 octets (RFC 2449).
//
// # Security
//
// The server's certificate is verified, and TLS 1.2 is the minimum version unless a TLSConfig says otherwise.
// Passwords are sent over an unencrypted connection only if [Options].AllowInsecureLogin is set; otherwise the call
// fails with ErrInsecureLogin. The same applies to SASL mechanisms that transmit the secret: PLAIN, LOGIN, XOAUTH2,
// OAUTHBEARER. APOP does not transmit the password, but its MD5 digest is open to offline guessing, and it proves
// nothing about the server: prefer TLS. Login answers a challenge with APOP over TLS, too.
//
// An on-path attacker can remove STLS from the capabilities. [DialStartTLS] then fails, and Login returns
// ErrInsecureLogin unless insecure logins are allowed or the greeting carries an APOP challenge. [DialTLS] is not
// affected. Data received between the response to STLS and the handshake is treated as an injection attack: the call
// returns a *ProtocolError, and the connection is closed. The capabilities and the challenge that were received
// before TLS are discarded.
//
// CR, LF and NUL in an argument are refused before anything is sent. Unsolicited data is logged and discarded, never
// mistaken for the next response. The client checks for it before the first command, PASS, APOP, AUTH and QUIT, and
// before each command of a batch that is not pipelined; before other commands it skips the check if the previous
// response ended less than 100 µs ago. On a TCP or Unix connection, and on a
// *tls.Conn over one, the check does not wait for more data to arrive. On any other, such as a connection that wraps
// another, or net.Pipe, it waits for up to a millisecond, which is the price of wrapping a connection.
//
// Passwords, digests, tokens and SASL responses are redacted in errors, in the log and in the transcript of
// DebugWriter, even if the server echoes them. Control characters from the server are escaped in the text of errors.
// Message content is not inspected; trust it no more than its sender.
//
// [RFC 1939]: https://www.rfc-editor.org/rfc/rfc1939
// [RFC 2449]: https://www.rfc-editor.org/rfc/rfc2449
// [RFC 2595]: https://www.rfc-editor.org/rfc/rfc2595
// [RFC 3206]: https://www.rfc-editor.org/rfc/rfc3206
// [RFC 5034]: https://www.rfc-editor.org/rfc/rfc5034
// [RFC 6856]: https://www.rfc-editor.org/rfc/rfc6856
// [RFC 8314]: https://www.rfc-editor.org/rfc/rfc8314
package pop3
