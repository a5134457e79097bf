// Package boltstore keeps the state of a [fetch.Fetcher] in a file: which messages of one maildrop were fetched.
//
//	store, err := boltstore.Open(filepath.Join(dir, boltstore.FileName(account)), account)
//	if err != nil {
//		return err // errors.Is(err, fetch.ErrLocked): another run has it open
//	}
//	defer store.Close()
//	f := &fetch.Fetcher{Account: account, Store: store, …}
//
// # File
//
// The file is a bbolt database (go.etcd.io/bbolt) with mode 0600. It is locked while a Store has it open. Every change is a
// transaction, durable when the method returns, and after a crash the file has all of it or nothing. The file has a format version,
// the name of its account, and checksums of its records. Open and Load refuse a file that is damaged, truncated, empty, of another
// account, or of a newer format, with an error that names the file. They never begin a new one in its place.
//
// Do not keep the file on a network file system without locks, and do not copy it while it is open: use [Store.Export].
//
// # Text format
//
// [Store.Export] and [Store.Import] use a text format, which remains readable by later versions:
//
//	# pop3 state, format 1
//	account joe@pop.example.org
//	done 00000001.trial size=4210 time=2026-11-26T00:22:38Z header=6f0c8e7b21d94a53b0f2c7a5d1e98f34
//	done 00000001.trial nth=1 size=4210 time=2026-11-26T00:22:38Z
//	refused a%20b size=812 time=2026-11-26T00:22:38Z reason=550%20no%20such%20user
//	end 3
//
// The first line is fixed. The second has the account, and the last the number of records; a text without it is truncated. Other
// lines that are empty or begin with # are ignored. Each record is a line of words:
//
//	STATE      done: delivered; refused: refused by the target, not fetched again; intent: staged, not yet known to be delivered
//	UNIQUE-ID  as the server sends it
//	nth=       place among messages with the same unique-id, if not the first: 1, 2, …
//	size=      octets, as in the scan listing, if known
//	time=      when it was fetched (RFC 3339)
//	header=    SHA-256 digest of the header, the first 16 bytes in hexadecimal, if known
//	gone=      since when the server does not list it
//	only=      "header" if the header alone was fetched
//	target=, name=   the target, and the name of the staged message
//	reason=    why it was refused
//
// In the account, the unique-id, and the last three fields, % and " and all bytes other than printable ASCII are written as % and
// two hexadecimal digits. An empty one is written as "". The order of the records is fixed, so that exports can be compared.
//
// # Moving from another program
//
// [Store.ImportForeign] takes over the state of mpop, getmail, and fetchmail, read by [ReadMpop], [ReadGetmail], and
// [ReadFetchmail], so that the messages these have left on the server are not fetched again.
package boltstore
