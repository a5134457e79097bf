//go:build !unix

package daemon

import "os/exec"

// The servers run on Unix only; elsewhere none is found, and the tests skip before they get here.

func ownGroup(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) { cmd.Process.Kill() }
