package servers

// Traits are properties of a server that the tests need to know and that the server does not advertise.
type Traits struct {
	NoCAPA      bool   // CAPA is refused
	NoSTLS      bool   // nor TLS on the other port: it is added here
	APOP        bool   // the greeting contains a timestamp
	Lock        bool   // a second login of a user is refused with [IN-USE]
	Waits       bool   // a second session of a user waits until the first has ended
	HangsUp     bool   // closes the connection after a wrong password
	DeleTwice   bool   // DELE of a deleted message succeeds
	LFSize      bool   // LIST counts a line end as one byte
	SizeShort   bool   // LIST does not count the CRLF that is appended to an incomplete last line
	Gone        string // result of RETR for a message that another session has deleted: error, closed, silence or the message
	CRCRLF      bool   // a message stored with CRLF is sent with CR CR LF
	Separator   bool   // the empty line between two messages of an mbox is sent as part of the first
	AddsHeaders bool   // in front of the message (LMTP) or among its headers
	SizesGrow   bool   // from session to session, since the server adds headers
	NoNUL       bool   // a message with a NUL is not stored
	Most        int    // limit of messages in a mailbox, or 0
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
