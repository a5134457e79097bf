package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/connect"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
)

// A selection is the accounts of a command line.
type selection struct {
	accounts []*config.Account
	stateDir string
	jobs     int  // of the configuration; 0 for the default
	perHost  int  // the same
	single   bool // POP3_PASSWORD is meant for the account
}

// isURL reports whether an operand is meant as a URL rather than as the name of an account.
func isURL(operand string) bool {
	scheme, _, ok := strings.Cut(operand, ":")
	return ok && (strings.EqualFold(scheme, "pop") || strings.EqualFold(scheme, "pops") || strings.Contains(operand, "://"))
}

// selectURL returns the account of URL DEST, or of URL alone.
func (a *app) selectURL(f *accountFlags, operands []string) (*selection, error) {
	account, err := config.FromURL(operands[0])
	if err != nil {
		return nil, &usageError{err: err}
	}
	if len(operands) > 1 {
		if account.Dest, err = config.ParseDest(operands[1]); err != nil {
			return nil, &usageError{err: err}
		}
	}
	if account, err = f.apply(account); err != nil {
		return nil, err
	}
	s := &selection{accounts: []*config.Account{account}, single: true}
	return s, a.setStateDir(s, f, "")
}

// selectNames returns accounts of the configuration, all of them without names.
func (a *app) selectNames(f *accountFlags, names []string) (*selection, error) {
	c, err := a.loadConfig(f)
	if err != nil {
		return nil, err
	}
	accounts, err := c.Find(names)
	if err != nil {
		return nil, &usageError{err: err}
	}
	s := &selection{jobs: c.Jobs, perHost: c.PerHost, single: len(accounts) == 1}
	for _, account := range accounts {
		changed, err := f.apply(account)
		if err != nil {
			return nil, err
		}
		s.accounts = append(s.accounts, changed)
	}
	return s, a.setStateDir(s, f, c.StateDir)
}

// loadConfig loads the configuration. If it has mistakes, the error has them all.
func (a *app) loadConfig(f *accountFlags) (*config.Config, error) {
	file := f.config
	if file == "" {
		var err error
		if file, err = config.DefaultFile(a.getenv); err != nil {
			return nil, &usageError{err: err}
		}
	}
	c, err := config.Load(file)
	if errors.Is(err, fs.ErrNotExist) && f.config == "" {
		return nil, &usageError{errors.New("there is no configuration " + file), "give URL and DEST instead of an account"}
	}
	if err != nil {
		return nil, &usageError{err: err}
	}
	return c, nil
}

func (a *app) setStateDir(s *selection, f *accountFlags, configured string) (err error) {
	switch {
	case f.state != "":
		s.stateDir, err = filepath.Abs(f.state)
	case configured != "":
		s.stateDir = configured
	default:
		s.stateDir, err = config.DefaultStateDir(a.getenv)
	}
	if err != nil {
		return &usageError{err: err}
	}
	return nil
}

// selectAny returns accounts by a URL or by names. If dest is set, a URL needs a DEST.
func (a *app) selectAny(f *accountFlags, operands []string, dest bool) (*selection, error) {
	if len(operands) == 0 || !isURL(operands[0]) {
		return a.selectNames(f, operands)
	}
	want, what := 1, "one URL is wanted"
	if dest {
		want, what = 2, "a URL needs one DEST"
	}
	if len(operands) != want {
		return nil, usagef("%s", what)
	}
	return a.selectURL(f, operands)
}

// statePath returns the file of an account's state.
func (s *selection) statePath(account *config.Account) string {
	return filepath.Join(s.stateDir, boltstore.FileName(account.Name))
}

// openStore opens the state of an account, and creates it if it is not there.
func (s *selection) openStore(account *config.Account) (*boltstore.Store, error) {
	store, err := boltstore.Open(s.statePath(account), account.Name)
	if err != nil && !errors.Is(err, fetch.ErrLocked) {
		err = &stateError{err}
	}
	return store, err
}

// A stateError is a state that cannot be used.
type stateError struct{ err error }

func (e *stateError) Error() string        { return e.err.Error() }
func (e *stateError) Unwrap() error        { return e.err }
func (e *stateError) Is(target error) bool { return target == fetch.ErrStore }

// connector returns a function that connects to the server of an account. warn and tell print a line while the account
// is being fetched.
func (a *app) connector(s *selection, account *config.Account, warn, tell func(format string, args ...any)) *connect.Connector {
	c := &connect.Connector{Account: account, TokenFile: s.statePath(account) + ".token", Warn: warn, TLS: a.tls}
	if s.single {
		c.Password = a.password
	}
	if a.interactive() {
		c.Ask = a.ask
		c.Tell = tell
	}
	return c
}
