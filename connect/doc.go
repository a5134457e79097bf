// Package connect has the inputs pop3 and pop3_fleet for Benthos and the programs that are built from it, such as Redpanda Connect
// and Bento. Import it for its side effects:
//
//	import _ "github.com/seed-5b1d5243/pop3/connect"
//
// The input pop3 fetches one mailbox. The input pop3_fleet is a worker of a fleet: see package fleet.
//
// A message is deleted from the server after the output has acknowledged it, and the session quits after that. A message may be
// delivered again if the process is killed between the acknowledgement and the QUIT; the metadata pop3_key is the same then. A message
// is in memory while it is in flight.
package connect
