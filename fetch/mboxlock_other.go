//go:build !unix

package fetch

import "os"

const haveFcntl = false

func fcntlLock(*os.File) error { return nil }

func processAlive(int) bool { return true }

func noLinks(error) bool { return true }
