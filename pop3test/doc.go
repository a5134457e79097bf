// Package pop3test provides a POP3 server for testing clients and programs that read mail, in the manner of
// [net/http/httptest].
//
// # Server
//
// A [Server] implements RFC 1939 and the extensions that its fields enable. It listens on a port of the loopback
// interface:
//
//	srv := pop3test.NewServer(pop3test.Messages("Subject: hello\r\n\r\nHow are you?\r\n"))
//	defer srv.Close()
//	// Dial srv.Addr, log in as "user" with "secret", read mail, delete, QUIT.
//	if got := srv.Deleted(); len(got) != 1 {
//		t.Errorf("%d messages deleted, want 1", len(got))
//	}
//
// A session from [Server.Pipe], [Server.PipeTLS] or [Server.DialContext] needs no port. It can be used in a
// [testing/synctest] bubble, in which a test of a timeout takes no time.
//
// A Server can simulate failures. [Server.Refuse] rejects a command with -ERR, and [RefuseMessage] rejects the
// retrieval of a message. [CutAt] drops the connection within a message, and [Server.CloseClientConnections] drops all
// connections at any time. Latency and Dribble simulate a slow connection.
//
// # Script
//
// A [Script] is the server's side of one connection, byte for byte, and the lines that the client must send:
//
//	conn := pop3test.Play(t, `
//		S: +OK ready
//		C: STAT
//		S: +OK two 320
//		!close`)
//
// Use it for responses that no correct server sends, and to reproduce the behavior of a particular server.
// [ParseScript] describes its language. Play it with every [Script.Cut] up to [Script.Octets] to test how a client
// handles a lost connection.
package pop3test
