package pop3

import "github.com/seed-5b1d5243/pop3/internal/dotstuff"

// A dotReader reads a multi-line response without its dot-stuffing. It may only be used while the response's lease is active.
type dotReader struct {
	conn *conn
	dots dotstuff.Unstuffer
	end  bool // the terminator has been read

	octets int64
}

// next returns the next text, at least one byte unless the end has been reached. It is valid until the next call.
func (r *dotReader) next() (text []byte, err error) {
	text, r.end, err = r.conn.text(&r.dots)
	r.octets += int64(len(text))
	return text, err
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
