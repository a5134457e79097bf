package connect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/endpoints"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
)

// A savedToken is the content of the token file.
type savedToken struct {
	Seed  string        `json:"seed"` // digest of the configured refresh token that Token descends from, "" for a device login
	Token *oauth2.Token `json:"token"`
}

// oauthToken returns an access token: the saved one while it is valid and renew is not set, or a new one by the refresh
// token, or one that the user grants on another device.
func (c *Connector) oauthToken(ctx context.Context, renew bool) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client, err := c.httpClient()
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	o := c.Account.Secret.OAuth
	conf := oauthConfig(o)
	saved, err := c.loadToken()
	if err != nil {
		return "", &SetupError{err}
	}
	var token *oauth2.Token
	if old := saved.Token; old != nil && (old.RefreshToken != "" || old.Valid() && !renew) {
		if renew {
			old.Expiry = time.Unix(1, 0)
		}
		token, err = conf.TokenSource(ctx, old).Token()
		if err == nil && token.AccessToken == old.AccessToken && !renew {
			return token.AccessToken, nil
		}
	} else {
		err = errNoRefreshToken
	}
	if errors.Is(err, errNoRefreshToken) || rejected(err) {
		if conf.Endpoint.DeviceAuthURL != "" && c.Tell != nil {
			token, err = c.deviceLogin(ctx, conf)
		} else if errors.Is(err, errNoRefreshToken) {
			err = noRefreshToken(conf)
		} else {
			err = fmt.Errorf("the refresh token was refused: %w", oauthError(err))
		}
		if err != nil {
			return "", &SetupError{fmt.Errorf("oauth: %w", err)}
		}
	}
	if err != nil {
		return "", fmt.Errorf("oauth: %w", oauthError(err))
	}
	if err := c.saveToken(savedToken{saved.Seed, token}); err != nil {
		c.warn("the OAuth token cannot be kept: %v", err)
	}
	return token.AccessToken, nil
}

var errNoRefreshToken = errors.New("no refresh token")

func noRefreshToken(conf *oauth2.Config) error {
	if conf.Endpoint.DeviceAuthURL == "" {
		return errors.New("no refresh token: set refresh_token, because the provider has no device login for mail")
	}
	return errors.New("no refresh token: run pop3 check for this account once on a terminal, or set refresh_token")
}

// rejected reports whether the provider wants another refresh token.
func rejected(err error) bool {
	var r *oauth2.RetrieveError
	return errors.As(err, &r) && r.Response != nil && r.Response.StatusCode/100 == 4 && r.Response.StatusCode != http.StatusTooManyRequests
}

// oauthError leaves out the response of the provider, which may be a page.
func oauthError(err error) error {
	var r *oauth2.RetrieveError
	switch {
	case !errors.As(err, &r):
		return err
	case r.ErrorCode != "" && r.ErrorDescription != "":
		return fmt.Errorf("%s: %s", r.ErrorCode, r.ErrorDescription)
	case r.ErrorCode != "":
		return errors.New(r.ErrorCode)
	case r.Response != nil:
		return fmt.Errorf("the token endpoint responded %s", r.Response.Status)
	}
	return err
}

// deviceLogin asks the user to grant access in a browser (RFC 8628).
func (c *Connector) deviceLogin(ctx context.Context, conf *oauth2.Config) (*oauth2.Token, error) {
	device, err := conf.DeviceAuth(ctx)
	if err != nil {
		return nil, oauthError(err)
	}
	c.Tell("To grant access to the mail of %s, open %s and enter the code %s", c.Account.Mailbox, device.VerificationURI, device.UserCode)
	token, err := conf.DeviceAccessToken(ctx, device)
	if err != nil {
		return nil, oauthError(err)
	}
	if token.RefreshToken == "" {
		c.warn("the provider gave no refresh token: the login ends with this access token")
	}
	return token, nil
}

func oauthConfig(o *config.OAuth) *oauth2.Config {
	conf := &oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret}
	switch o.Provider {
	case "google":
		conf.Endpoint = endpoints.Google
		conf.Endpoint.DeviceAuthURL = "" // it does not grant access to mail
		conf.Scopes = []string{"https://mail.google.com/"}
	case "microsoft":
		conf.Endpoint = endpoints.AzureAD(o.Tenant)
		conf.Scopes = []string{"https://outlook.office.com/POP.AccessAsUser.All", "offline_access"}
	}
	if o.TokenURL != "" {
		conf.Endpoint.TokenURL = o.TokenURL
	}
	if o.DeviceURL != "" {
		conf.Endpoint.DeviceAuthURL = o.DeviceURL
	}
	if len(o.Scopes) > 0 {
		conf.Scopes = o.Scopes
	}
	conf.Endpoint.AuthStyle = oauth2.AuthStyleInParams // which every provider accepts
	return conf
}

// httpClient returns a client that takes the same way as the mail.
func (c *Connector) httpClient() (*http.Client, error) {
	dialer, err := c.dialer()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 30 * time.Second}
	if c.TLS != nil {
		transport.TLSClientConfig = c.TLS.Clone()
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}, nil
}

// loadToken returns the token in the token file, or the configured refresh token if that is newer.
func (c *Connector) loadToken() (savedToken, error) {
	var saved savedToken
	data, err := os.ReadFile(c.TokenFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return saved, err
	default:
		if err := json.Unmarshal(data, &saved); err != nil {
			return saved, fmt.Errorf("%s is damaged: remove it to log in again", c.TokenFile)
		}
	}
	configured := c.Account.Secret.OAuth.RefreshToken
	if configured == "" {
		return saved, nil
	}
	sum := sha256.Sum256([]byte(configured))
	if seed := hex.EncodeToString(sum[:]); saved.Seed != seed {
		return savedToken{seed, &oauth2.Token{RefreshToken: configured, Expiry: time.Unix(1, 0)}}, nil
	}
	return saved, nil
}

// saveToken replaces the token file. Providers may accept a refresh token only once, so the new one must survive a
// crash.
func (c *Connector) saveToken(saved savedToken) (err error) {
	data, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	dir := filepath.Dir(c.TokenFile)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".token-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.TokenFile)
}
