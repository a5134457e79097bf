//go:build race && unix && !aix

package socket

import "syscall"

// The race detector takes a Read or Write of package syscall, and no other call, for a synchronization of the two ends
// of a socket within one program. These have no other effect.

func raceAcquire(fd uintptr) { syscall.Read(int(fd), nil) }
func raceRelease(fd uintptr) { syscall.Write(int(fd), nil) }
