//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// killGroup makes the program the leader of a process group, all of which is killed when its context is done. An
// interrupt typed on the terminal does not reach the group, so the program can finish the message in hand.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
