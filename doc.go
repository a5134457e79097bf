// Package pop3 is a client for POP3, the Post Office Protocol, version 3 ([RFC 1939]): it logs in, lists what has
// arrived, streams messages, deletes them and commits. It knows CAPA, PIPELINING and response codes ([RFC 2449],
// [RFC 3206]), STLS ([RFC 2595]) and implicit TLS ([RFC 8314]), APOP, SASL ([RFC 5034]), UTF8 and LANG ([RFC 6856]).
//
// A session is a [Client]. [DialTLS] makes one; [Client.Login] picks the best way to log in that the server offers:
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
// A message is an [io.Reader] and a listing is a channel, and commands may be given while a listing is read. So a mailbox
// of any size is emptied by one loop:
//
//	messages, err := c.List(ctx)
//	if err != nil {
//		return err
//	}
//	for e := range messages.C() {
//		m, err := c.Retr(ctx, e.Number)
//		if err != nil {
//			return err
//		}
//		if err := store(m); err != nil { // reads to io.EOF
//			return err
//		}
//		if err := c.Dele(ctx, e.Number); err != nil {
//			return err
//		}
//	}
//	if err := messages.Err(); err != nil {
//		return err
//	}
//	return c.Quit(ctx) // commits the deletions
//
// Three rules of POP3 are worth knowing. A message number belongs to one session: what was 7 may be another message
// after a reconnect, so keep unique-ids ([Client.UIDL]), never numbers. A size in a listing is a hint, which servers get
// wrong: a message ends where its reader says io.EOF. And [Client.Dele] only marks: a session that ends without
// [Client.Quit] deletes nothing.
//
// Package pop3test has servers to test one's own mail code with.
//
// # Messages
//
// A [Message] yields the octets as the server sent them: CRLF kept, dot-stuffing taken off, nothing decoded. It says
// io.EOF only when the terminating dot was seen; a connection cut before that is io.ErrUnexpectedEOF. Only CRLF . CRLF
// ends a message, a bare LF never does. Read it to io.EOF or Close it, for until then it holds the session; Close reads the
// rest and drops it, since hanging up would undo every deletion.
//
// # Concurrency
//
// A Client is safe for use by many goroutines. It has one connection, on which one command is outstanding: callers queue,
// first in, first out. Login, StartTLS and Auth are each one turn, and no queued command slips between their lines.
//
// A command may wait until the server has finished answering another one. It does not wait for ever on unread data:
//
//   - A [Listing] makes way. As soon as another command wants the session, the rest of the listing is read into memory,
//     where its reader goes on finding it; until then its memory is constant, and a slow reader slows the server down.
//   - A Message that is being read is waited for. One that nobody has read from for [Options].StallTimeout makes the
//     commands that wait fail with [ErrBusy], which names both; nothing was sent, and nothing is lost. The time that
//     Message.WriteTo spends in a slow Write counts as not reading.
//   - A batch ([Client.RetrAll], [Client.TopAll], [Client.DeleAll]) is one turn, in which commands are sent ahead where the server
//     lists PIPELINING. Inside the loop over one, other commands wait as for a Message: delete behind the loop, with DeleAll.
//   - Quit waits like all others, but where they get ErrBusy it drops the rest of the message, or of the batch, and quits:
//     deletions must not be lost to a forgotten Close. The reader of the message then gets [ErrClosed].
//
// A Message and a Listing are for one goroutine each, with these exceptions: Message.Close, Listing.Stop and Listing.Err may be
// called from any, and the channel of Listing.C may be received from by many.
//
// The context of a command governs its response to the end. While a command is queued, the end of its context costs nothing:
// nothing was sent. Once a command is written, giving it up means giving up the session, since nobody could tell its answer
// from the next: the session is closed, and the deletions are not committed. Listing.Stop ends the context's hold: to stop
// early, and go on, call it (or break out of a loop over All) before the context is cancelled.
//
// Close hangs up at once, from any goroutine. Everything that waits then ends with ErrClosed.
//
// # Errors
//
// A negative response (-ERR) is a [*ServerError]; the session remains usable. A response that violates the protocol is a
// [*ProtocolError]. It closes the session if client and server may be out of sync; if only the text after +OK is invalid, the
// session remains usable. All other errors are matched with errors.Is: [ErrInsecureLogin], [ErrTLSNotSupported], [ErrBusy],
// [ErrLineTooLong], [ErrTooManyEntries], context.Canceled and context.DeadlineExceeded; io.ErrUnexpectedEOF if the connection
// was lost within a response; os.ErrDeadlineExceeded if the server was silent for longer than [Options].Timeout. If an error
// also matches [ErrNotSent], nothing of the command was written, so that it may safely be repeated.
//
// The error that ends a session is returned by the command in flight. All other and later calls return [ErrClosed] wrapping it;
// ErrClosed also matches net.ErrClosed. The package never retries or reconnects on its own.
//
// [Client.Quit] returns nil if the deletions were committed and a *ServerError if the server kept some of the messages.
// After any other error the outcome is unknown, unless it matches ErrNotSent.
//
// # Limits
//
// Each wait for the server is bounded by [Options].Timeout, the greeting, QUIT and each piece of a message among them: a server that keeps
// sending may take as long as it likes, which is for the context to bound. Connecting and the TLS handshake are bounded by the context too.
//
// A status line or a line of a listing may have MaxLineLength octets, a listing MaxEntries entries; more is [ErrLineTooLong]
// or [ErrTooManyEntries] and closes the session. A message, and a line of it, may have any length, and takes one buffer of 64 KiB, which is
// borrowed while a response is read: an idle session holds none. A listing that had to make way takes the memory of its entries.
//
// Nothing longer than 255 octets goes on an AUTH line (RFC 5034); a longer initial response is sent after the empty
// challenge. Other commands are sent however long they are, though servers may refuse them (RFC 2449 allows 255 octets).
//
// # Security
//
// The name of the server is verified; without a TLSConfig TLS is 1.2 or newer. A password is sent only over TLS, unless
// [Options].AllowInsecureLogin is set; without either it is [ErrInsecureLogin]. So it is with the SASL mechanisms that
// show the secret: PLAIN, LOGIN, XOAUTH2, OAUTHBEARER. APOP hides the password from listeners, but its MD5 digest can be
// attacked by trying passwords, and it proves nothing about the server: prefer TLS, where a challenge is still answered
// by APOP.
//
// STLS can be stripped by whoever sits on the line: [DialStartTLS] fails then, Login says ErrInsecureLogin unless
// insecure logins are allowed (or the greeting has a challenge, which needs no TLS). [DialTLS] has nothing to be stripped. Whatever arrives between
// the answer to STLS and the handshake is an injection: a *ProtocolError, and the end. What was known about the
// server before TLS, its capabilities and its challenge, is forgotten.
//
// CR, LF and NUL in an argument are refused before anything is sent. What the server sends while nothing was asked is
// logged and dropped, and not taken for the answer to the next command. It is looked for before a command is written, unless the
// last answer was read less than a moment ago: 100 µs on TCP under Unix, 10 ms where looking takes a wait (other systems,
// wrapped connections and those of proxies, a *tls.Conn given to [NewClient], net.Pipe). Before QUIT it is always looked
// for. Where a connection has no deadlines, as in an SSH tunnel, nobody can look.
//
// Passwords, digests, tokens and SASL responses are replaced in errors, in the log and in the transcript of DebugWriter,
// even where the server echoes them. Control characters from the server are escaped in the text of errors. A message is not looked into: what it holds is as trustworthy as its sender.
//
// # From Twisted
//
// For those who know POP3Client of Twisted (twisted.mail.pop3):
//
//	POP3Client                                  here
//	connectionMade, state_WELCOME,              NewClient, Greeting
//	  serverGreeting
//	serverChallenge, _challengeMagicRe          Challenge
//	startedTLS                                  TLSConnectionState
//	allowInsecureLogin, timeout, MAX_LENGTH     Options: AllowInsecureLogin, Timeout, MaxLineLength
//	WELCOME, WAITING, SHORT, LONG_INITIAL,      the same states, inside the session
//	  LONG
//	sendShort, sendLong(consumer, xform)        Cmd, CmdMultiline; the consumer is your io.Copy,
//	                                              or your range over a channel
//	_blocked, _unblock, _blockedQueue,          commands queue by themselves
//	  _waiting
//	capabilities(useCache)                      Capabilities, RefreshCapabilities
//	startTLS, login, apop, user, password       StartTLS, Login, APOP, User, Pass
//	stat, listSize, listUID                     Stat, List, UIDL
//	retrieve(index, lines)                      Retr, Top; numbers are the server's, from 1, not from 0
//	delete, reset, noop, quit                   Dele, Rset, Noop, Quit
//	timeoutConnection                           os.ErrDeadlineExceeded
//	connectionLost                              ErrClosed, io.ErrUnexpectedEOF
//	lineLengthExceeded                          ErrLineTooLong
//	ServerErrorResponse                         *ServerError
//	TLSError                                    the handshake's error
//	TLSNotSupportedError                        ErrTLSNotSupported
//	InsecureAuthenticationDisallowed            ErrInsecureLogin
//
// [RFC 1939]: https://www.rfc-editor.org/rfc/rfc1939
// [RFC 2449]: https://www.rfc-editor.org/rfc/rfc2449
// [RFC 2595]: https://www.rfc-editor.org/rfc/rfc2595
// [RFC 3206]: https://www.rfc-editor.org/rfc/rfc3206
// [RFC 5034]: https://www.rfc-editor.org/rfc/rfc5034
// [RFC 6856]: https://www.rfc-editor.org/rfc/rfc6856
// [RFC 8314]: https://www.rfc-editor.org/rfc/rfc8314
package pop3
