package fetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// planName is the file in the staging folder that has the plan. It is overwritten, and never removed.
const planName = "plan"

// A plan is the list of data that are appended to an mbox, from offset on: pad LF, and the staged messages. It is durable before the first byte is
// appended. A message is removed from the staging folder after all are durable in the mbox.
type plan struct {
	offset int64
	pad    int64
	parts  []planPart
}

type planPart struct {
	name string
	size int64
}

// start returns the offset of a part, the padding included, or of the end of the plan.
func (p *plan) start(part int) int64 {
	n := p.offset
	if part > 0 {
		n += p.pad
	}
	for _, q := range p.parts[:part] {
		n += q.size
	}
	return n
}

func (p *plan) end() int64 { return p.start(len(p.parts)) }

const (
	planHead = "pop3 mbox plan 1"
	planEnd  = "end "
)

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d %d %d\n", planHead, p.offset, p.pad, len(p.parts))
	for _, part := range p.parts {
		fmt.Fprintf(&b, "%d %s\n", part.size, part.name)
	}
	fmt.Fprintf(&b, "%s%08x\n", planEnd, crc32.ChecksumIEEE([]byte(b.String())))
	return b.String()
}

// writePlan replaces the plan, durably. The last one must have come to its end.
func (s *staging) writePlan(p *plan) error {
	f, err := s.disk.open(s.path(planName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, p.String())
	return errors.Join(err, f.Sync(), f.Close())
}

// readPlan returns an empty plan if there is none. If the plan is incomplete, its writing was interrupted, and nothing of it was
// appended: that is an empty plan too.
func (s *staging) readPlan() (*plan, error) {
	f, err := s.disk.open(s.path(planName), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return &plan{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if p := parsePlan(string(text)); p != nil {
		return p, nil
	}
	return &plan{}, nil
}

// parsePlan returns nil if the text is not a complete plan.
func parsePlan(text string) *plan {
	p, count := &plan{}, 0
	rest, ok := strings.CutPrefix(text, planHead+"\n")
	line, rest, _ := strings.Cut(rest, "\n")
	if _, err := fmt.Sscanf(line, "%d %d %d", &p.offset, &p.pad, &count); !ok || err != nil {
		return nil
	}
	for range count {
		line, rest, ok = strings.Cut(rest, "\n")
		size, name, _ := strings.Cut(line, " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if !ok || err != nil || filepath.Base(name) != name {
			return nil
		}
		p.parts = append(p.parts, planPart{name, n})
	}
	if p.String() != text {
		return nil
	}
	return p
}

// Recover implements Sink.
func (m *Mbox) Recover(ctx context.Context, r Recovery) ([]Outcome, error) {
	if m.disk == nil {
		m.disk = osDisk{}
	}
	if m.staging != nil {
		m.staging.close()
	}
	m.stuck, m.buf = false, bufio.NewWriterSize(nil, 64<<10)
	if err := m.openStaging(r); err != nil {
		return nil, err
	}
	if err := prepareDot(m.disk, m.staging.path(lockName)); err != nil {
		return nil, err
	}
	// settle syncs the name of the plan.
	f, err := m.disk.open(m.staging.path(planName), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	f.Close()
	lock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.unlock()
	if err := m.settle(ctx, lock.file, r.Intents); err != nil {
		return nil, err
	}
	if err := m.staging.clean(lockName, planName); err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(r.Intents))
	for i := range outcomes {
		outcomes[i] = OutcomeDelivered
	}
	return outcomes, nil
}

func (m *Mbox) openStaging(r Recovery) error {
	m.path = absolute(m.Path)
	if path, err := filepath.EvalSymlinks(m.path); err == nil {
		m.path = path
	}
	dir := m.StagingDir
	if dir == "" {
		dir = filepath.Dir(m.path)
	}
	dir = filepath.Join(dir, stagingName(filepath.Base(m.path)+".", r.Account))
	s, err := openStaging(m.disk, dir, len(r.Intents))
	if err == nil {
		m.staging = s
	}
	return err
}

// checkMbox keeps messages from being appended to a file that is no mbox.
func checkMbox(f diskFile, path string) error {
	head := make([]byte, len(fromPrefix))
	switch n, err := f.ReadAt(head, 0); {
	case err == io.EOF && n == 0, err == nil && bytes.Equal(head, fromPrefix):
		return nil
	case err == nil || err == io.EOF:
		return fmt.Errorf("%s is not an mbox: it does not begin with %q", path, fromPrefix)
	default:
		return err
	}
}

// settle completes an interrupted run: each message of the intents that is still staged, and not yet in the file, is
// appended. A message that is no longer staged was delivered.
func (m *Mbox) settle(ctx context.Context, f diskFile, intents []Record) error {
	delivered, err := m.comparePlan(ctx, f, m.staging)
	if err != nil {
		return err
	}
	if err := m.repairOthers(ctx, f); err != nil {
		return err
	}
	if err := checkMbox(f, m.path); err != nil {
		return err
	}
	// Before the plan is replaced, the messages in the file must be durable there, and no longer staged.
	if err := m.sync(f); err != nil {
		return err
	}
	for name := range delivered {
		if err := m.disk.remove(m.staging.path(name)); err != nil {
			return err
		}
	}
	if err := m.disk.syncDir(m.staging.dir); err != nil {
		return err
	}
	var names []string
	for _, r := range intents {
		if err := checkName(r); err != nil {
			return err
		}
		staged, err := m.staging.has(r.Name)
		if err != nil {
			return err
		}
		if staged {
			names = append(names, r.Name)
		}
	}
	if len(names) > 0 {
		if err := m.append(f, names); err != nil {
			return err
		}
		m.log(ctx, "appended messages of an interrupted run", "messages", len(names))
	}
	return nil
}

// repairOthers removes incomplete messages of other accounts from the end of the file, before anything is appended to it. The next
// runs of these accounts append them again.
func (m *Mbox) repairOthers(ctx context.Context, f diskFile) error {
	root := filepath.Dir(m.staging.dir)
	names, err := m.disk.readDir(root)
	if err != nil {
		return err
	}
	prefix := stagingPrefix(filepath.Base(m.path) + ".")
	for _, name := range names {
		other := &staging{disk: m.disk, dir: filepath.Join(root, name)}
		if !strings.HasPrefix(name, prefix) || other.dir == m.staging.dir {
			continue
		}
		if _, err := m.comparePlan(ctx, f, other); err != nil {
			return err
		}
	}
	return nil
}

// comparePlan compares the file with the plan of a staging folder, and returns which of the messages that are still staged are in
// the file. If the batch is incomplete, and nothing follows it, it is removed from the end of the file.
func (m *Mbox) comparePlan(ctx context.Context, f diskFile, s *staging) (delivered map[string]bool, err error) {
	p, err := s.readPlan()
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	delivered = make(map[string]bool)
	complete := true
	for i, part := range p.parts {
		staged, err := s.has(part.name)
		if err != nil {
			return nil, err
		}
		if !staged {
			continue // it was removed because it is in the file
		}
		same := false
		if p.start(i+1) <= size {
			if same, err = s.compareParts(f, p, i, i+1, size, false); err != nil {
				return nil, err
			}
		}
		if same {
			delivered[part.name] = true
		} else {
			complete = false
		}
	}
	if complete || size == p.offset {
		return delivered, nil
	}
	ours := false
	if size > p.offset && size <= p.end() {
		if ours, err = s.compareParts(f, p, 0, len(p.parts), size, true); err != nil {
			return nil, err
		}
	}
	if !ours {
		m.log(ctx, "another program has changed the file after an interrupted run: messages may be in it twice", "offset", p.offset)
		return delivered, nil
	}
	m.log(ctx, "removed the messages of an interrupted run from the end", "offset", p.offset, "bytes", size-p.offset)
	return nil, errors.Join(f.Truncate(p.offset), f.Sync())
}

// writeParts writes the parts [from, to) of a plan.
func (s *staging) writeParts(w io.Writer, p *plan, from, to int) error {
	if from == 0 {
		if _, err := w.Write([]byte("\n\n")[:p.pad]); err != nil {
			return err
		}
	}
	for _, part := range p.parts[from:to] {
		staged, err := s.disk.open(s.path(part.name), os.O_RDONLY)
		if err != nil {
			return err
		}
		n, err := io.Copy(w, staged)
		staged.Close()
		if err == nil && n != part.size {
			err = fmt.Errorf("%s has %d bytes instead of %d", s.path(part.name), n, part.size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compareParts reports whether the file has the parts [from, to) of the plan at their offsets, up to its size. If zeros is
// set, zero bytes in the file match everything: a file system may write the length of a file before its data.
func (s *staging) compareParts(f diskFile, p *plan, from, to int, size int64, zeros bool) (bool, error) {
	start := p.start(from)
	c := &comparer{r: bufio.NewReader(io.NewSectionReader(f, start, size-start)), zeros: zeros}
	err := s.writeParts(c, p, from, to)
	if errors.Is(err, errDiffers) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

var errDiffers = errors.New("differs")

// A comparer compares the data written to it with those of r, up to the end of r.
type comparer struct {
	r     *bufio.Reader
	zeros bool
}

func (c *comparer) Write(p []byte) (int, error) {
	for i := range p {
		b, err := c.r.ReadByte()
		if err == io.EOF {
			break
		}
		if err != nil {
			return i, err
		}
		if b != p[i] && !(c.zeros && b == 0) {
			return i, errDiffers
		}
	}
	return len(p), nil
}
