package connect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// A provider gives tokens away: each refresh token is good once, as with Microsoft.
type provider struct {
	*httptest.Server
	mu      sync.Mutex
	refresh string // valid refresh token
	access  string // the access token to give
	grants  []string
	status  int // if not 0, the status of every response
}

func newProvider(t *testing.T) *provider {
	p := &provider{access: "secret"}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != 0 {
		w.WriteHeader(p.status)
		fmt.Fprint(w, "<html>a page</html>")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/device" {
		fmt.Fprint(w, `{"device_code":"d","user_code":"ABCD","verification_uri":"https://example.org/d","expires_in":60,"interval":1}`)
		return
	}
	grant := r.FormValue("grant_type")
	p.grants = append(p.grants, grant)
	if grant == "refresh_token" && r.FormValue("refresh_token") != p.refresh || r.FormValue("client_id") != "id" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"no more"}`)
		return
	}
	p.refresh += "+"
	json.NewEncoder(w).Encode(map[string]any{"access_token": p.access, "refresh_token": p.refresh, "expires_in": 3600, "token_type": "Bearer"})
}

func oauthConnector(t *testing.T, p *provider) *Connector {
	_, a := serve(t, true, func(s *pop3test.Server) { s.SASL = []string{"XOAUTH2"} })
	a.Secret.OAuth = &config.OAuth{ClientID: "id", TokenURL: p.URL + "/token", RefreshToken: "r"}
	c := connector(a)
	c.TokenFile = filepath.Join(t.TempDir(), "state", "a.token")
	p.refresh = "r"
	return c
}

// again is the same account in another process.
func again(c *Connector) *Connector {
	d := connector(c.Account)
	d.TokenFile = c.TokenFile
	return d
}

func TestOAuth(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("for Unix")
	}
	p := newProvider(t)
	c := oauthConnector(t, p)
	for range 2 { // the second time with the saved access token
		if err := dial(t, c); err != nil {
			t.Fatal(err)
		}
		c = again(c)
	}
	if len(p.grants) != 1 {
		t.Errorf("grants %q", p.grants)
	}
	info, err := os.Stat(c.TokenFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v, %v", info, err)
	}
	// The server refuses the access token before it expires: the saved refresh token brings another one.
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.TokenFile, []byte(strings.Replace(string(data), `"secret"`, `"revoked"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, again(c)); err != nil {
		t.Fatal(err)
	}
	if len(p.grants) != 2 || p.refresh != "r++" {
		t.Errorf("grants %q, refresh token %q", p.grants, p.refresh)
	}
	// A refresh token that the user has changed replaces the saved one.
	c.Account.Secret.OAuth.RefreshToken = "new"
	p.refresh = "new"
	if err := dial(t, again(c)); err != nil {
		t.Error(err)
	}
}

func TestOAuthRefused(t *testing.T) {
	p := newProvider(t)
	c := oauthConnector(t, p)
	var setup *SetupError
	p.refresh = "another"
	if err := dial(t, c); !errors.As(err, &setup) || !strings.Contains(err.Error(), "invalid_grant: no more") {
		t.Errorf("error %v", err)
	}
	p.status = http.StatusServiceUnavailable
	if err := dial(t, c); err == nil || errors.As(err, &setup) || !strings.Contains(err.Error(), "503") || strings.Contains(err.Error(), "page") {
		t.Errorf("error %v", err)
	}
	p.status = 0
	c.Account.Secret.OAuth.RefreshToken = ""
	if err := dial(t, c); !errors.As(err, &setup) || !strings.Contains(err.Error(), "no refresh token") {
		t.Errorf("error %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.TokenFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.TokenFile, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, c); !errors.As(err, &setup) || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("error %v", err)
	}
}

func TestDeviceLogin(t *testing.T) {
	p := newProvider(t)
	c := oauthConnector(t, p)
	c.Account.Secret.OAuth.RefreshToken = ""
	c.Account.Secret.OAuth.DeviceURL = p.URL + "/device"
	var told string
	c.Tell = func(format string, args ...any) { told = fmt.Sprintf(format, args...) }
	if err := dial(t, c); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told, "https://example.org/d") || !strings.Contains(told, "ABCD") {
		t.Errorf("told %q", told)
	}
	if err := dial(t, again(c)); err != nil { // without a user
		t.Error(err)
	}
}

func TestProviders(t *testing.T) {
	google := oauthConfig(&config.OAuth{Provider: "google"})
	if google.Endpoint.TokenURL == "" || google.Endpoint.DeviceAuthURL != "" || google.Scopes[0] != "https://mail.google.com/" {
		t.Errorf("google %+v", google)
	}
	microsoft := oauthConfig(&config.OAuth{Provider: "microsoft", Tenant: "t", Scopes: []string{"x"}})
	if !strings.Contains(microsoft.Endpoint.DeviceAuthURL, "/t/") || microsoft.Scopes[0] != "x" {
		t.Errorf("microsoft %+v", microsoft)
	}
}
