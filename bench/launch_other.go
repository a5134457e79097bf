//go:build !unix

package main

import (
	"errors"
	"os"
	"os/exec"
)

func separate(*exec.Cmd, int, int)      {}
func peakMemory(*os.ProcessState) int64 { return 0 }
func nobody() (uid, gid int, err error) { return 0, 0, errors.ErrUnsupported }
