// Package faults tries to break the guarantees of package pop3: with connections that are cut, reset and stalled at
// every byte, of the plain session and of TLS, with servers killed in the middle of a command, with random commands
// checked against a model, with hostile servers, with many sessions at once, with user code that blocks, panics or
// exits wherever it is called, with data at each point where none is expected, and with Close and canceled contexts
// while commands wait; and those of package fetch, with processes that are killed while they fetch. It consists of
// tests alone.
//
//	go test -race -short ./...            # half a minute
//	go test ./...                         # minutes: every byte, 10,000 sessions twice, 32 messages of 1 GiB
//	go test -race -run Soak -soak=10m     # as long as one likes
//	go test -run Model -rapid.checks=10000
//	go test -run FetchKilled -fetchkills=200 -timeout=2h
//
// The numbers of cases, sessions and commands are in the output of go test -v. Tests against Dovecot are skipped if it
// is not installed, unless POP3_REQUIRE=dovecot makes that a failure.
package faults
