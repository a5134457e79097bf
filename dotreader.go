package pop3

import "github.com/seed-5b1d5243/pop3/internal/dotstuff"

// A dotReader reads a multi-line response without its dot-stuffing. It may only be used while the response's lease is
// active.
type dotReader struct {
	conn *conn
	dots dotstuff.Unstuffer
	end  bool // the terminator has been read

	octets int64
}

// next waits for text and returns it: at least one byte, unless the end has been reached. It is valid until the next
// call.
func (r *dotReader) next() ([]byte, error) {
	c := r.conn
	for {
		n, used, end := r.dots.Next(c.buf[c.r:c.w])
		text := c.buf[c.r : c.r+n]
		c.used(used)
		r.octets += int64(n)
		r.end = end
		if n > 0 || end {
			return text, nil
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// drain reads and discards the rest of the response.
func (r *dotReader) drain() error {
	for !r.end {
		if _, err := r.next(); err != nil {
			return err
		}
	}
	return nil
}
