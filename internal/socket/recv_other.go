//go:build !unix || aix

package socket

import "net"

// A rawConn is not used on this system: connections are used through their methods.
type rawConn struct{}

func newRawConn(net.Conn) *rawConn { return nil }

func (*rawConn) read([]byte, bool) (int, error) { panic("unreachable") }
func (*rawConn) pending() bool                  { panic("unreachable") }
func (*rawConn) write([]byte) (int, error)      { panic("unreachable") }
