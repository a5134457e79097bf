package servers

// Traits are what the tests must know about a server that it does not say itself.
type Traits struct {
	NoCAPA      bool   // CAPA is answered with -ERR
	NoSTLS      bool   // and none of its own on the TLS port: that is wrapped around it here
	APOP        bool   // the greeting carries a timestamp
	Lock        bool   // a second login of a user is refused with [IN-USE]
	Waits       bool   // a second session of a user waits until the first has ended
	HangsUp     bool   // after a wrong password
	DeleTwice   bool   // DELE of a deleted message is answered with +OK
	LFSize      bool   // LIST counts a line end as one octet
	SizeShort   bool   // LIST leaves out the CRLF put behind a last line without one
	Gone        string // what RETR gets of a message that another session has deleted: error, closed, silence or the message
	CRCRLF      bool   // a message stored with CRLF comes with CR CR LF
	Separator   bool   // the empty line between two messages of an mbox comes with the first
	AddsHeaders bool   // in front of the message (LMTP) or among its headers
	SizesGrow   bool   // from session to session, by headers that it adds
	NoNUL       bool   // a message with a NUL is not stored
	Most        int    // messages in a test of many; 0: no limit
	MostWhy     string
}

var traits = map[string]Traits{
	"dovecot-maildir": {APOP: true, SizeShort: true, Gone: "error"},
	"dovecot-mbox":    {APOP: true, Waits: true},
	"dovecot-mdbox":   {APOP: true, Gone: "the message"},
	"courier":         {SizeShort: true, CRCRLF: true, Gone: "error"},
	"cyrus":           {APOP: true, AddsHeaders: true, NoNUL: true, Most: 5_000, MostWhy: "delivery is slow", Gone: "the message"},
	"mailutils":       {APOP: true, Lock: true, DeleTwice: true, AddsHeaders: true, SizesGrow: true},
	"popa3d":          {NoCAPA: true, NoSTLS: true, HangsUp: true, Gone: "closed"},
	"solid-pop3d":     {NoCAPA: true, NoSTLS: true, HangsUp: true, APOP: true, Separator: true, Most: 5_000, MostWhy: "it answers PASS with `-ERR no memory available` at 10,000", Gone: "closed"},
	"twisted":         {APOP: true, DeleTwice: true, LFSize: true, CRCRLF: true, Gone: "silence"},
}
