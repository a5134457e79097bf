package servers

import (
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-5b1d5243/pop3/internal/daemon"
	"github.com/seed-5b1d5243/pop3/internal/mailstore"
)

// Users of the machine have these numbers from firstUID+1 on, and mail's group.
const (
	firstUID = 20000
	mailGID  = 8
)

// layer returns the directory in which install.sh has installed the server name, or "" for the machine itself. If the
// server is missing, or nothing can be mounted, the test is skipped.
func layer(t testing.TB, name, program string) string {
	t.Helper()
	missing := name + " is not installed: interop/install.sh " + name
	if os.Getuid() != 0 {
		daemon.Skip(t, name, name+" runs as root only")
	}
	if os.Getenv("POP3_INTEROP_SYSTEM") != "" {
		if _, err := os.Stat(program); err != nil {
			daemon.Skip(t, name, missing)
		}
		return ""
	}
	dir := os.Getenv("POP3_INTEROP_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "pop3-interop")
	}
	dir = filepath.Join(dir, name)
	if _, err := os.Stat(filepath.Join(dir, "installed")); err != nil {
		daemon.Skip(t, name, missing)
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		daemon.Skip(t, name, "no right to mount the layer of "+name+": "+string(out))
	}
	return dir
}

// recipe describes how to start a server in its layer and to deliver mail to it.
type recipe struct {
	program string // a file that exists if it is installed
	deliver deliverer
}

//go:embed *.sh server.py
var files embed.FS

func startLayered(t testing.TB, name string) *Server {
	t.Helper()
	r, ok := recipes[name]
	if !ok {
		t.Fatalf("no server is called %q", name)
	}
	layer := layer(t, name, r.program)
	dir := daemon.Dir(t)
	authority := daemon.NewAuthority(t, dir)
	port, tlsPort := daemon.Port(t), daemon.Port(t)
	s := &Server{
		Name: name, Addr: daemon.Addr(port), TLSAddr: daemon.Addr(tlsPort),
		Traits: traits[name], tls: authority.TLSConfig,
	}
	s.deliver = func(user string, count int, message mailstore.Message) {
		if err := r.deliver(dir, user, count, message); err != nil {
			t.Fatal(err)
		}
	}
	// All scripts are copied; that of the server calls the others.
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"LAYER=" + layer, "DIR=" + dir, "SELF=" + self,
		"POP3_PORT=" + strconv.Itoa(port), "POP3S_PORT=" + strconv.Itoa(tlsPort),
		"USERS=" + strconv.Itoa(Users), "FIRST_UID=" + strconv.Itoa(firstUID),
	}
	if layer != "" {
		// The process namespace ends with its first process, and everything in it.
		args = append(args, strings.Fields("unshare --mount --pid --fork --kill-child --mount-proc")...)
	}
	args = append(args, "sh", "-c", `. "$DIR/layer.sh"; . "$DIR/$0.sh"`, name)
	daemon.Start(t, dir, []string{s.Addr, s.TLSAddr}, "env", args...)
	return s
}

func userUID(user string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(user, "u"))
	return firstUID + n
}
