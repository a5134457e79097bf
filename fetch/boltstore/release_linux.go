package boltstore

import (
	"syscall"
	"unsafe"

	"go.etcd.io/bbolt"
)

// releasePages removes the pages of the file from the memory of the process. The memory map of bbolt would otherwise keep all that
// were ever read. They remain in the cache of the system. tx is a read transaction.
func releasePages(tx *bbolt.Tx) {
	k, _ := tx.Cursor().First() // the name of a bucket, in the map
	if len(k) == 0 {
		return
	}
	p := unsafe.Pointer(unsafe.SliceData(k))
	offset := uintptr(p) - tx.DB().Info().Data
	if offset >= uintptr(tx.Size()) {
		return
	}
	// An error means that the memory is not released.
	_ = syscall.Madvise(unsafe.Slice((*byte)(unsafe.Add(p, -int(offset))), tx.Size()), syscall.MADV_DONTNEED)
}
