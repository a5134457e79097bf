package fetch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3"
	"github.com/seed-5b1d5243/pop3/pop3test"
)

// dialer returns a Dial for a server.
func dialer(srv *pop3test.Server) func(ctx context.Context) (*pop3.Client, error) {
	return func(ctx context.Context) (*pop3.Client, error) {
		c, err := pop3.NewClient(ctx, srv.Pipe(), &pop3.Options{AllowInsecureLogin: true})
		if err != nil {
			return nil, err
		}
		if err := c.Login(ctx, "user", "secret"); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
}

func texts(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n.dot\r\n", i+1, i+1)
	}
	return list
}

func readDir(t *testing.T, dir string) (got []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	slices.Sort(got)
	return got
}

func TestSmoke(t *testing.T) {
	want := texts(200)
	srv := pop3test.NewUnstartedServer(pop3test.Messages(want...))
	srv.STLS = false
	defer srv.Close()
	dir := t.TempDir() + "/m"
	store := &MemoryStore{}
	f := &Fetcher{Account: "a", Dial: dialer(srv), Store: store, Sink: &Maildir{Dir: dir}}
	report, err := f.Run(t.Context())
	t.Logf("%+v %v", report, err)
	report, err = f.Run(t.Context())
	t.Logf("%+v %v", report, err)
	got := readDir(t, dir+"/new")
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "\r\n", "\n")
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d", len(got))
	}
	f.Policy.Delete = true
	report, err = f.Run(t.Context())
	t.Logf("%+v %v", report, err)
	report, err = f.Run(t.Context())
	t.Logf("%+v %v %v", report, err, len(srv.Remaining()))
	t.Log(srv.Commands()[:10])
}
