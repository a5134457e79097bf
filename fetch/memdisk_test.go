package fetch

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	errKilled = errors.New("killed")
	errFull   = errors.New("no space left on device")
)

// A memDisk is a disk in memory that can stop or fail at any step, and lose power.
type memDisk struct {
	mu    sync.Mutex
	names map[string]*memInode
	base  map[string]*memInode // the names before log
	log   []*memOp             // changes of names
	step  int                  // steps so far: each changes the disk or syncs it

	killAt int  // the step that is not taken, nor any after it
	failAt int  // the first step that fails
	half   bool // a Write at killAt or failAt writes half
	dead   bool

	failures int // the number of steps that fail
}

type memInode struct {
	dir    bool
	data   []byte
	synced []byte
	mtime  time.Time
}

// A memOp is an atomic change of names. It is durable after one of its folders is synced.
type memOp struct {
	dirs    []string
	apply   func(names map[string]*memInode)
	durable bool
}

func newMemDisk(dirs ...string) *memDisk {
	d := &memDisk{names: map[string]*memInode{}}
	for _, dir := range dirs {
		d.names[dir] = &memInode{dir: true}
	}
	d.base = maps.Clone(d.names)
	return d
}

// next takes a step, or returns an error.
func (d *memDisk) next() error {
	if d.dead {
		return errKilled
	}
	d.step++
	switch {
	case d.step == d.killAt:
		d.dead = true
		return errKilled
	case d.step >= d.failAt && d.step < d.failAt+d.failures:
		return errFull
	}
	return nil
}

func (d *memDisk) change(apply func(names map[string]*memInode), paths ...string) {
	op := &memOp{apply: apply}
	for _, p := range paths {
		op.dirs = append(op.dirs, filepath.Dir(p))
	}
	d.log = append(d.log, op)
	apply(d.names)
}

// revive continues after a kill.
func (d *memDisk) revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead, d.killAt, d.failures = false, 0, 0
}

// powerCut continues after a power failure. Without a sync, changes of names are lost from a random one on, and the data of a file
// are as before, complete, partly zero, or truncated.
func (d *memDisk) powerCut(rng *rand.Rand) {
	d.revive()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = d.base
	from := rng.IntN(len(d.log) + 1)
	for i, op := range d.log {
		if i < from || op.durable {
			op.apply(d.names)
		}
	}
	d.log, d.base = nil, maps.Clone(d.names)
	for _, inode := range d.names {
		switch n := len(inode.data); rng.IntN(4) {
		case 0:
			inode.data = slices.Clone(inode.synced)
		case 1: // complete
		case 2: // a part is zero
			for i := range inode.data {
				if i >= len(inode.synced) && i/16%2 == rng.IntN(2) {
					inode.data[i] = 0
				}
			}
		case 3: // the end is missing
			if n > len(inode.synced) {
				inode.data = inode.data[:len(inode.synced)+rng.IntN(n-len(inode.synced))]
			}
		}
		inode.synced = slices.Clone(inode.data)
	}
}

func (d *memDisk) open(name string, flag int) (diskFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, errKilled
	}
	inode := d.names[name]
	switch {
	case inode != nil && inode.dir:
		return nil, errors.New("is a directory")
	case inode != nil && flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case inode == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case inode == nil:
		if dir := d.names[filepath.Dir(name)]; dir == nil || !dir.dir {
			return nil, fs.ErrNotExist
		}
		if err := d.next(); err != nil {
			return nil, err
		}
		inode = &memInode{mtime: time.Now()}
		d.change(func(names map[string]*memInode) { names[name] = inode }, name)
	case flag&os.O_TRUNC != 0:
		if err := d.next(); err != nil {
			return nil, err
		}
		inode.data = nil
	}
	return &memFile{disk: d, inode: inode, name: name}, nil
}

func (d *memDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.next(); err != nil {
		return err
	}
	inode := d.names[from]
	if inode == nil || d.names[filepath.Dir(to)] == nil {
		return fs.ErrNotExist
	}
	d.change(func(names map[string]*memInode) {
		delete(names, from)
		names[to] = inode
	}, from, to)
	return nil
}

func (d *memDisk) link(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.next(); err != nil {
		return err
	}
	inode := d.names[from]
	if inode == nil {
		return fs.ErrNotExist
	}
	if d.names[to] != nil {
		return fs.ErrExist
	}
	d.change(func(names map[string]*memInode) { names[to] = inode }, to)
	return nil
}

func (d *memDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.next(); err != nil {
		return err
	}
	if d.names[name] == nil {
		return fs.ErrNotExist
	}
	d.change(func(names map[string]*memInode) { delete(names, name) }, name)
	return nil
}

func (d *memDisk) mkdir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.next(); err != nil {
		return err
	}
	if d.names[name] != nil {
		return fs.ErrExist
	}
	inode := &memInode{dir: true}
	d.change(func(names map[string]*memInode) { names[name] = inode }, name)
	return nil
}

func (d *memDisk) stat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, errKilled
	}
	if inode := d.names[name]; inode != nil {
		return memInfo{filepath.Base(name), inode, int64(len(inode.data))}, nil
	}
	return nil, fs.ErrNotExist
}

func (d *memDisk) sameFile(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

func (d *memDisk) readDir(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, errKilled
	}
	var names []string
	for name := range d.names {
		if filepath.Dir(name) == dir && name != dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *memDisk) syncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.next(); err != nil {
		return err
	}
	for _, op := range d.log {
		op.durable = op.durable || slices.Contains(op.dirs, dir)
	}
	return nil
}

func (d *memDisk) openDir(name string) (diskDir, error) { return memDir{d, name}, nil }

// A memDir syncs a folder by its name.
type memDir struct {
	disk interface{ syncDir(name string) error }
	name string
}

func (d memDir) Sync() error  { return d.disk.syncDir(d.name) }
func (d memDir) Close() error { return nil }

// files returns the regular files, with their names and contents.
func (d *memDisk) files() map[string]string {
	files := map[string]string{}
	for name, inode := range d.names {
		if !inode.dir {
			files[name] = string(inode.data)
		}
	}
	return files
}

type memFile struct {
	disk   *memDisk
	inode  *memInode
	name   string
	offset int64
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.offset)
	f.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.dead {
		return 0, errKilled
	}
	n := 0
	if off < int64(len(f.inode.data)) {
		n = copy(p, f.inode.data[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	wasDead := f.disk.dead
	err := f.disk.next()
	if err != nil {
		if wasDead || !f.disk.half {
			return 0, err
		}
		p = p[:len(p)/2]
	}
	end := f.offset + int64(len(p))
	if n := end - int64(len(f.inode.data)); n > 0 {
		f.inode.data = append(f.inode.data, make([]byte, n)...)
	}
	copy(f.inode.data[f.offset:], p)
	f.offset = end
	f.inode.mtime = time.Now()
	return len(p), err
}

func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.ErrUnsupported
	}
	f.offset = offset
	return offset, nil
}

func (f *memFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.next(); err != nil {
		return err
	}
	f.inode.data = f.inode.data[:size]
	return nil
}

func (f *memFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.next(); err != nil {
		return err
	}
	f.inode.synced = slices.Clone(f.inode.data)
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.dead {
		return nil, errKilled
	}
	return memInfo{filepath.Base(f.name), f.inode, int64(len(f.inode.data))}, nil
}

func (f *memFile) Close() error { return nil }

type memInfo struct {
	name  string
	inode *memInode
	size  int64
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.inode.mtime }
func (i memInfo) IsDir() bool        { return i.inode.dir }
func (i memInfo) Sys() any           { return i.inode }
func (i memInfo) Mode() fs.FileMode {
	if i.inode.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

func TestMemDiskLosesWhatIsNotSynced(t *testing.T) {
	lostName, lostData := 0, 0
	for seed := range uint64(50) {
		d := newMemDisk("/", "/a")
		f, _ := d.open("/a/synced", os.O_CREATE|os.O_WRONLY)
		io.WriteString(f, "data")
		f.Sync()
		d.syncDir("/a")
		f, _ = d.open("/a/lost", os.O_CREATE|os.O_WRONLY)
		io.WriteString(f, strings.Repeat("data", 10))
		d.powerCut(rand.New(rand.NewPCG(seed, 0)))
		files := d.files()
		if files["/a/synced"] != "data" {
			t.Fatalf("seed %d: synced data are lost: %q", seed, files)
		}
		if data, ok := files["/a/lost"]; !ok {
			lostName++
		} else if data != strings.Repeat("data", 10) {
			lostData++
		}
	}
	if lostName == 0 || lostData == 0 {
		t.Errorf("lost %d names and %d contents of 50", lostName, lostData)
	}
}
