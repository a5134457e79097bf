package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/seed-5b1d5243/pop3/fetch"
)

// An event is a line of the JSON output of fetch and watch. docs/fetch.md describes it.
type event struct {
	Time    string `json:"time"` // RFC 3339
	Type    string `json:"type"`
	Account string `json:"account,omitempty"`

	UID    string `json:"uid,omitempty"`
	Nth    int    `json:"nth,omitempty"`
	Number int    `json:"number,omitempty"`
	Octets *int64 `json:"octets,omitempty"` // of the message; of all of them in planned, account, and summary

	Messages *int    `json:"messages,omitempty"` // planned: how many are to be fetched
	Delay    float64 `json:"delay,omitempty"`    // seconds
	Action   string  `json:"action,omitempty"`   // plan
	Error    string  `json:"error,omitempty"`

	*Counts
	Status *int `json:"status,omitempty"` // exit status
}

// Counts are the counts of a report.
type Counts struct {
	Fetched   int     `json:"fetched"`
	Headers   int     `json:"headers"`
	Skipped   int     `json:"skipped"`
	Left      int     `json:"left"`
	Refused   int     `json:"refused"`
	Deleted   int     `json:"deleted"`
	Undone    int     `json:"undone"`
	Recovered int     `json:"recovered"`
	Sessions  int     `json:"sessions"`
	Seconds   float64 `json:"seconds"`
}

func countsOf(r fetch.Report) *Counts {
	return &Counts{r.Fetched, r.Headers, r.Skipped, r.Left, r.Refused, r.Deleted, r.Undone, r.Recovered, r.Sessions, r.Elapsed.Seconds()}
}

// An eventWriter writes events.
type eventWriter struct{ w io.Writer }

func (w *eventWriter) write(e event) {
	if e.Time == "" {
		e.Time = time.Now().Format(time.RFC3339Nano)
	}
	line, err := json.Marshal(e)
	if err != nil {
		return // the types have no value that cannot be encoded
	}
	w.w.Write(append(line, '\n'))
}

var eventTypes = map[fetch.EventKind]string{
	fetch.EventConnecting: "connecting", fetch.EventConnected: "connected", fetch.EventPlanned: "planned",
	fetch.EventFetched: "fetched", fetch.EventSkipped: "skipped", fetch.EventLeft: "left", fetch.EventRefused: "refused",
	fetch.EventDeleted: "deleted", fetch.EventRetry: "retry", fetch.EventRecovered: "recovered",
}

// eventOf returns the line for an event of a Fetcher. Not every event has one.
func eventOf(account string, e fetch.Event) (event, bool) {
	name, ok := eventTypes[e.Kind]
	if !ok {
		return event{}, false
	}
	j := event{Time: e.Time.Format(time.RFC3339Nano), Type: name, Account: account, Delay: e.Delay.Seconds()}
	if e.Err != nil {
		j.Error = explain(e.Err)
	}
	if m := e.Message; m.Key.UID != "" || m.Number > 0 {
		j.UID, j.Nth, j.Number = m.Key.UID, m.Key.Nth, m.Number
		if m.Size >= 0 {
			j.Octets = &m.Size
		}
	}
	if e.Kind == fetch.EventPlanned {
		j.Messages, j.Octets = &e.Total, &e.TotalOctets
	}
	return j, true
}

// accountEvent is the last line of an account.
func accountEvent(account string, r fetch.Report, err error) event {
	status := exitStatus(err)
	e := event{Type: "account", Account: account, Octets: &r.Octets, Counts: countsOf(r), Status: &status}
	if err != nil {
		e.Error = explain(err)
	}
	return e
}
