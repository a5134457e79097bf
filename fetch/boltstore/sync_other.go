//go:build !unix

package boltstore

// syncDir does nothing: a folder cannot be synced here.
func syncDir(string) error { return nil }
