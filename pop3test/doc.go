// Package pop3test provides a POP3 server for tests, in the manner of
// [net/http/httptest]: for a client, or for a program that reads mail.
//
// # Server
//
// A [Server] keeps to RFC 1939 and the extensions that its fields name. It
// listens on a port of the loopback interface:
//
//	srv := pop3test.NewServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
//	defer srv.Close()
//	// Dial srv.Addr, log in as "user" with "secret", read mail, delete, QUIT.
//	if got := srv.Deleted(); len(got) != 1 {
//		t.Errorf("%d messages deleted, want 1", len(got))
//	}
//
// or on none, with a session from [Server.Pipe], [Server.PipeTLS] or
// [Server.DialContext], which fits into a [testing/synctest] bubble: then a test
// of a timeout takes no time.
//
// What goes wrong in the world can be made to go wrong here. [Server.Refuse]
// answers a command with -ERR and [RefuseMessage] the retrieval of a message;
// [CutAt] drops the connection within a message, and
// [Server.CloseClientConnections] all connections at any time; Latency and
// Dribble are a bad line.
//
// # Script
//
// A [Script] is the server's side of one connection, octet for octet, and what
// the client must say:
//
//	conn := pop3test.Play(t, `
//		S: +OK ready
//		C: STAT
//		S: +OK two 320
//		!close`)
//
// It is for what no good server does, and for what one real server did once:
// see [ParseScript] for its language. Playing it with every [Script.Cut] up to
// [Script.Octets] shows what a client makes of a connection that is lost.
package pop3test
