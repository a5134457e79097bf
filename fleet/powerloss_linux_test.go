package fleet

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A disk is a file system in a file, which is mounted.
type disk struct {
	t          *testing.T
	image, dir string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it takes the right to mount")
	}
	root := t.TempDir()
	d := &disk{t: t, image: filepath.Join(root, "image"), dir: filepath.Join(root, "disk")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	size := int64(64 << 20)
	if *chaosFor > 0 {
		size = 256 << 20
	}
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", d.image}, {"mount", "-o", "loop", d.image, d.dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system can be mounted here: %v: %s", err, out)
		}
	}
	t.Cleanup(func() { syscall.Unmount(d.dir, syscall.MNT_DETACH) })
	return d
}

// cut cuts the power of an engine: what the kernel has not yet written to the disk is lost.
func (d *disk) cut(engine *process) {
	d.t.Helper()
	engine.cmd.Process.Signal(syscall.SIGSTOP)
	disk := d.read()
	engine.kill()
	d.unmount()
	if err := os.WriteFile(d.image, disk, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		d.t.Fatalf("mount: %v: %s", err, out)
	}
}

// read returns the content of the disk, when it does not change while it is read.
func (d *disk) read() []byte {
	d.t.Helper()
	var last []byte
	for range 20 {
		disk, err := os.ReadFile(d.image)
		if err != nil {
			d.t.Fatal(err)
		}
		if bytes.Equal(disk, last) {
			return disk
		}
		last = disk
	}
	d.t.Fatal("the disk does not come to rest")
	return nil
}

func (d *disk) unmount() {
	d.t.Helper()
	var err error
	for range 100 {
		if err = syscall.Unmount(d.dir, 0); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.t.Fatal(err)
}

// TestPowerLoss cuts the power of the engine while workers fetch mail. Nothing that the engine has confirmed may be lost.
func TestPowerLoss(t *testing.T) {
	d := newDisk(t)
	t.Parallel()
	tr := newTrial(t, 40, "FLEET_DIR="+d.dir, "FLEET_SYNC=1")
	cuts, n := 0, 0
	for begin := time.Now(); cuts < 2 || time.Since(begin) < *chaosFor; cuts++ {
		for end := time.Now().Add(time.Second + rand.N(2*time.Second)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			for range 3 {
				n++
				tr.mail(n)
			}
		}
		d.cut(tr.engine)
		tr.engine = spawn(t, "engine", tr.engineEnv...)
	}
	tr.drained()
	t.Logf("power cut %d times", cuts)
	tr.check()
	tr.checkSessions()
}
