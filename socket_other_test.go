//go:build !unix || aix

package pop3

import (
	"net"
	"testing"
	"time"
)

// awaitData waits until data has probably arrived at a TCP connection.
func awaitData(*testing.T, net.Conn) { time.Sleep(50 * time.Millisecond) }
