package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/examples/internal/mailtest"
	"github.com/seed-5b1d5243/pop3/pop3test"
	"golang.org/x/oauth2"
)

var mailbox = pop3test.Messages("Subject: one\r\n\r\n", "Subject: two\r\n\r\n")

// A provider gives out access tokens, and replaces the refresh token each time.
type provider struct {
	access   string
	requests int
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.requests++
	if r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != fmt.Sprint("refresh", p.requests) {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600,"refresh_token":"refresh%d"}`, p.access, p.requests+1)
}

// serve starts a mailbox that accepts the token "secret", and returns a function that runs the program against it.
func serve(t *testing.T, m pop3test.Maildrop, p *provider, saved oauth2.Token) (run1 func(out io.Writer) error, file string) {
	t.Helper()
	srv := pop3test.NewUnstartedServer(m)
	srv.SASL = []string{"XOAUTH2"}
	srv.NoUSER = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	tokens := httptest.NewServer(p)
	t.Cleanup(tokens.Close)
	config := &oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: tokens.URL, AuthStyle: oauth2.AuthStyleInParams}}
	file = filepath.Join(t.TempDir(), "token.json")
	if err := save(file, &saved); err != nil {
		t.Fatal(err)
	}
	return func(out io.Writer) error {
		return run(t.Context(), srv.Addr, &pop3.Options{TLSConfig: srv.TLSConfig()}, "user", config, file, out)
	}, file
}

func TestRun(t *testing.T) {
	for _, test := range []struct {
		name     string
		saved    oauth2.Token
		requests int
	}{
		{"valid", oauth2.Token{AccessToken: "secret", Expiry: time.Now().Add(time.Hour)}, 0},
		{"expired", oauth2.Token{AccessToken: "old", Expiry: time.Now().Add(-time.Hour)}, 1},
		{"revoked", oauth2.Token{AccessToken: "old", Expiry: time.Now().Add(time.Hour)}, 1},
		{"first use", oauth2.Token{}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &provider{access: "secret"}
			test.saved.RefreshToken = "refresh1"
			run1, file := serve(t, mailbox, p, test.saved)
			for range 2 { // the second run uses the token that the first has saved
				var out bytes.Buffer
				if err := run1(&out); err != nil {
					t.Fatal(err)
				}
				if out.String() != "one\ntwo\n" {
					t.Errorf("printed %q", &out)
				}
			}
			if p.requests != test.requests {
				t.Errorf("%d requests for a token, want %d", p.requests, test.requests)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var token oauth2.Token
			if err := json.Unmarshal(data, &token); err != nil || token.RefreshToken != fmt.Sprint("refresh", test.requests+1) {
				t.Errorf("saved refresh token %q, %v", token.RefreshToken, err)
			}
		})
	}
}

// TestWrongToken lets the server refuse every token: it is renewed once and no more, and never shown.
func TestWrongToken(t *testing.T) {
	p := &provider{access: "hunter2"}
	run1, _ := serve(t, mailbox, p, oauth2.Token{AccessToken: "hunter1", RefreshToken: "refresh1", Expiry: time.Now().Add(time.Hour)})
	var refused *pop3.ServerError
	err := run1(io.Discard)
	if !errors.As(err, &refused) {
		t.Errorf("run returned %v, want a refusal", err)
	}
	if p.requests != 1 {
		t.Errorf("%d requests for a token, want 1", p.requests)
	}
	if strings.Contains(err.Error(), "hunter") {
		t.Errorf("the error shows a token: %v", err)
	}
}

func TestCut(t *testing.T) {
	p := &provider{access: "secret"}
	run1, _ := serve(t, mailtest.Cut(mailbox, 2, -1), p, oauth2.Token{RefreshToken: "refresh1"})
	var out bytes.Buffer
	if err := run1(&out); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("run returned %v, want an unexpected EOF", err)
	}
	if out.String() != "one\n" {
		t.Errorf("printed %q", &out)
	}
}
