//go:build !unix

package daemon

import "os/exec"

// The servers run on Unix only. On other systems none is found, so the tests are skipped before these functions are
// called.

func ownGroup(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) { cmd.Process.Kill() }
