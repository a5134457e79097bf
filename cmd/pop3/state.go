package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/seed-5b1d5243/pop3/cmd/pop3/internal/config"
	"github.com/seed-5b1d5243/pop3/fetch"
	"github.com/seed-5b1d5243/pop3/fetch/boltstore"
)

var (
	aboutStateShow = []string{
		"Show prints how many messages are remembered in which state, and those that were refused, with the reason.",
	}
	aboutStateForget = []string{
		"Forget removes messages from the state: those with the UNIQUE-IDs, those that were refused (-refused), or all (-all). " +
			"The next fetch fetches them if they are still on the server. Fetch and watch must not be running for the account.",
	}
	aboutStateMark = []string{
		"Mark logs in and takes the messages on the server for fetched: those with the UNIQUE-IDs, or all. The next fetch does not fetch them. " +
			"Nothing proves later which messages these were, so they are deleted from the server only with -delete-unproven.",
	}
	aboutStateRebuild = []string{
		"Rebuild logs in, looks in the Maildir or folder of .eml files for messages that fetch has delivered there, and takes them for fetched. " +
			"It finds files by the digest of the unique-id in their names, whether they are read or not. It helps after the state was lost. " +
			"Messages that were moved to other folders or deleted are fetched again.",
	}
	aboutStateExport = []string{
		"Export prints the state as text: a line for each message, sorted by unique-id.",
	}
	aboutStateImport = []string{
		"Import reads a text of export from FILE, or from standard input if FILE is -. With -from it reads the state of another program: mpop " +
			"(~/.mpop_uidls/...), getmail (oldmail-...), or fetchmail (~/.fetchids). What these have fetched is then not fetched again. Messages that " +
			"they have left on the server are deleted only with -delete-unproven.",
	}
)

// stateFlags are the flags of the verbs that need no server.
type stateFlags struct{ accountFlags }

// account returns the account of an operand.
func (f *stateFlags) account(a *app, operands []string) (*selection, *config.Account, error) {
	s, err := a.selectAny(&f.accountFlags, operands[:1], false)
	if err != nil {
		return nil, nil, err
	}
	if len(s.accounts) != 1 {
		return nil, nil, usagef("%d accounts match; one is wanted", len(s.accounts))
	}
	return s, s.accounts[0], nil
}

// open opens the state of the account of an operand. It must exist unless create is set.
func (f *stateFlags) open(a *app, operands []string, create bool) (*boltstore.Store, *config.Account, error) {
	s, account, err := f.account(a, operands)
	if err != nil {
		return nil, nil, err
	}
	if !create && !exists(s.statePath(account)) {
		return nil, nil, usagef("%s: nothing is remembered: there is no %s", account.Name, s.statePath(account))
	}
	store, err := s.openStore(account)
	return store, account, err
}

func defineStateShow(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &stateFlags{}
	f.define(flags)
	return func(ctx context.Context) error {
		store, account, err := f.open(a, flags.Args(), false)
		if err != nil {
			return err
		}
		defer store.Close()
		counts := make(map[fetch.State]int)
		gone := 0
		var oldest, newest time.Time
		var refused []fetch.Record
		for r, err := range store.Load(ctx) {
			if err != nil {
				return &stateError{err}
			}
			counts[r.State]++
			if !r.Gone.IsZero() {
				gone++
			}
			if oldest.IsZero() || r.Time.Before(oldest) {
				oldest = r.Time
			}
			if r.Time.After(newest) {
				newest = r.Time
			}
			if r.State == fetch.Refused {
				refused = append(refused, r)
			}
		}
		w := bufio.NewWriter(a.stdout)
		defer w.Flush()
		fmt.Fprintf(w, "account  %s\nfile     %s\ndone     %d\n", clean(account.Name), clean(store.Path()), counts[fetch.Done])
		for _, s := range []fetch.State{fetch.Refused, fetch.Intent} {
			if counts[s] > 0 {
				fmt.Fprintf(w, "%-8s %d\n", s, counts[s])
			}
		}
		if gone > 0 {
			fmt.Fprintf(w, "gone     %d of these are no longer on the server\n", gone)
		}
		if !oldest.IsZero() {
			fmt.Fprintf(w, "first    %s\nlast     %s\n", oldest.Format(time.DateTime), newest.Format(time.DateTime))
		}
		for _, r := range refused {
			fmt.Fprintf(w, "refused  %s: %s\n", clean(r.Key.UID), clean(r.Reason))
		}
		return nil
	}
}

func defineStateForget(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &stateFlags{}
	f.define(flags)
	all := flags.Bool("all", false, "forget all messages")
	refused := flags.Bool("refused", false, "forget the messages that were refused")
	return func(ctx context.Context) error {
		uids := flags.Args()[1:]
		if modes := countTrue(*all, *refused, len(uids) > 0); modes != 1 {
			return usagef("give unique-ids, or -refused, or -all")
		}
		store, _, err := f.open(a, flags.Args(), false)
		if err != nil {
			return err
		}
		defer store.Close()
		var keys []fetch.Key
		found := make(map[string]bool)
		for r, err := range store.Load(ctx) {
			if err != nil {
				return &stateError{err}
			}
			if *all || *refused && r.State == fetch.Refused || slices.Contains(uids, r.Key.UID) {
				if r.State == fetch.Intent {
					return fmt.Errorf("%w: a run was interrupted: let fetch settle its messages first", fetch.ErrStore)
				}
				keys = append(keys, r.Key)
				found[r.Key.UID] = true
			}
		}
		for _, uid := range uids {
			if !found[uid] {
				return usagef("no message with the unique-id %q is remembered; nothing was forgotten", uid)
			}
		}
		if err := store.Delete(ctx, keys...); err != nil {
			return &stateError{err}
		}
		fmt.Fprintf(a.stdout, "%s forgotten\n", count(len(keys), "message"))
		return nil
	}
}

func countTrue(values ...bool) (n int) {
	for _, v := range values {
		if v {
			n++
		}
	}
	return n
}

func defineStateMark(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &listFlags{}
	f.define(flags)
	return func(ctx context.Context) error {
		uids := flags.Args()[1:]
		found := make(map[string]bool)
		n, err := f.take(ctx, a, flags.Args()[:1], func(_ *config.Account, m fetch.Message) bool {
			found[m.Key.UID] = true
			return len(uids) == 0 || slices.Contains(uids, m.Key.UID)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s marked as fetched\n", count(n, "message"))
		for _, uid := range uids {
			if !found[uid] {
				return usagef("no message on the server has the unique-id %q", uid)
			}
		}
		return nil
	}
}

// take logs in and records the new messages for which wanted reports true as done. It returns how many these are.
func (f *listFlags) take(ctx context.Context, a *app, operands []string, wanted func(*config.Account, fetch.Message) bool) (int, error) {
	m, err := a.open(ctx, f, operands)
	if err != nil {
		return 0, err
	}
	defer m.client.Close()
	store, err := m.openStore(m.account)
	if err != nil {
		return 0, err
	}
	defer store.Close()
	fetcher := &fetch.Fetcher{Account: m.account.Name, Store: store}
	steps, err := fetcher.Plan(ctx, m.client)
	if err != nil {
		return 0, err
	}
	var records []fetch.Record
	now := time.Now()
	for _, s := range steps {
		if s.Action != fetch.ActionKnown && wanted(m.account, s.Message) {
			records = append(records, fetch.Record{Key: s.Message.Key, State: fetch.Done, Size: s.Message.Size, Time: now})
		}
	}
	if err := store.Put(ctx, records...); err != nil {
		return 0, &stateError{err}
	}
	m.client.Quit(ctx) // nothing is to be committed
	return len(records), nil
}

func defineStateRebuild(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &listFlags{}
	f.define(flags)
	return func(ctx context.Context) error {
		operands := flags.Args()
		var dest *config.Dest
		if isURL(operands[0]) != (len(operands) == 2) {
			return usagef("a URL needs a DEST, and an account has one already")
		}
		if len(operands) == 2 {
			d, err := config.ParseDest(operands[1])
			if err != nil {
				return &usageError{err: err}
			}
			dest = &d
		}
		var digests map[string]bool
		var scanErr error
		n, err := f.take(ctx, a, operands[:1], func(account *config.Account, m fetch.Message) bool {
			if digests == nil && scanErr == nil {
				if dest == nil {
					dest = &account.Dest
				}
				digests, scanErr = deliveredDigests(*dest)
			}
			return scanErr == nil && digests[m.Key.Digest(account.Name)]
		})
		if err == nil {
			err = scanErr
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s found and taken for fetched\n", count(n, "message"))
		return nil
	}
}

// fileDigest finds the digest of a unique-id in the name of a file that fetch has delivered.
var fileDigest = regexp.MustCompile(`^\d+\.R[0-9a-f]{16}A[0-9a-f]{8}U([0-9a-f]{32})\.|^\d{8}T\d{6}Z\.([0-9a-f]{32})\b`)

// deliveredDigests returns the digests of the messages that a folder has.
func deliveredDigests(d config.Dest) (map[string]bool, error) {
	var folders []string
	switch d.Kind {
	case config.Maildir:
		folders = []string{filepath.Join(d.Path, "new"), filepath.Join(d.Path, "cur")}
	case config.EML:
		folders = []string{d.Path}
	default:
		return nil, usagef("only a Maildir or a folder of .eml files shows what was delivered to it")
	}
	digests := make(map[string]bool)
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", fetch.ErrSink, err)
		}
		for _, e := range entries {
			if m := fileDigest.FindStringSubmatch(e.Name()); m != nil {
				digests[m[1]+m[2]] = true
			}
		}
	}
	return digests, nil
}

func defineStateExport(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &stateFlags{}
	f.define(flags)
	return func(ctx context.Context) error {
		store, _, err := f.open(a, flags.Args(), false)
		if err != nil {
			return err
		}
		defer store.Close()
		if err := store.Export(ctx, a.stdout); err != nil {
			return &stateError{err}
		}
		return nil
	}
}

// foreign are the readers of the states of other programs.
var foreign = map[string]func(io.Reader) iter.Seq2[boltstore.ForeignEntry, error]{
	"mpop": boltstore.ReadMpop, "getmail": boltstore.ReadGetmail, "fetchmail": boltstore.ReadFetchmail,
}

func defineStateImport(a *app, flags *flag.FlagSet) func(context.Context) error {
	f := &stateFlags{}
	f.define(flags)
	var read func(io.Reader) iter.Seq2[boltstore.ForeignEntry, error]
	flags.Func("from", "FILE is the state of `PROGRAM`: mpop, getmail, or fetchmail", func(s string) error {
		if read = foreign[s]; read == nil {
			return errors.New("mpop, getmail, or fetchmail is wanted")
		}
		return nil
	})
	return func(ctx context.Context) error {
		in := a.stdin
		if name := flags.Arg(1); name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return &usageError{err: err}
			}
			defer file.Close()
			in = file
		}
		store, account, err := f.open(a, flags.Args(), true)
		if err != nil {
			return err
		}
		defer store.Close()
		var n int
		if read == nil {
			n, err = store.Import(ctx, in)
		} else {
			n, err = store.ImportForeign(ctx, read(in), func(e boltstore.ForeignEntry) bool { return isOf(e, account) }, time.Now())
		}
		if err != nil {
			return &stateError{err}
		}
		fmt.Fprintf(a.stdout, "%s imported\n", count(n, "message"))
		if n == 0 && read != nil {
			return usagef("%s has nothing new of %s", flags.Arg(1), account.Mailbox)
		}
		return nil
	}
}

// isOf reports whether an entry belongs to the mailbox of an account. Some files do not name their mailbox.
func isOf(e boltstore.ForeignEntry, account *config.Account) bool {
	return (e.User == "" || e.User == account.User) && (e.Host == "" || strings.EqualFold(e.Host, account.Host))
}
