//go:build !linux

package boltstore

import "go.etcd.io/bbolt"

// releasePages has an effect on Linux only.
func releasePages(*bbolt.Tx) {}
