// Package conformance contains tests that use package pop3 as its callers do: transcripts of servers that deviate from
// the RFCs, and the features of Twisted's client.
package conformance
