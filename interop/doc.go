// Package interop tests the library against the POP3 servers that people run: Dovecot, Courier, Cyrus, GNU Mailutils,
// popa3d, solid-pop3d and Twisted's.
//
//	./install.sh                              # or some of them: ./install.sh courier cyrus
//	go test ./...                             # -short leaves out the mailboxes of 100,000 messages and of 500 MB
//	go test -run TestServers . -update        # rewrites MATRIX.md
//
// A server that is not installed is skipped, unless the environment variable POP3_REQUIRE, a comma-separated list of
// names or "all", requires it.
package interop
