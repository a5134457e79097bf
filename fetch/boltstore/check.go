package boltstore

import (
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// bbolt follows the page numbers in a damaged file without end if they lead in a circle. checkRoot and checkTree find that, and
// pages beyond the end of the file, before bbolt follows them. They need to know the layout of a branch page alone: a header of
// 16 bytes, and elements of 16 bytes with the number of a page in the last eight, in the byte order of the machine.
const (
	pageHeaderSize    = 16
	branchElementSize = 16
	branchElementPage = 8
)

// checkRoot checks the page that has the names of the buckets. Two buckets always fit on one.
func checkRoot(tx *bbolt.Tx) error {
	root := uint64(tx.Cursor().Bucket().Root())
	if typ, err := pageType(tx, root); err != nil || typ != "leaf" {
		return fmt.Errorf("%w: page %d is invalid", ErrDamaged, root)
	}
	return nil
}

// checkTree checks the pages of the records.
func checkTree(tx *bbolt.Tx, file io.ReaderAt) error {
	b := tx.Bucket(recordsBucket)
	if b == nil {
		return fmt.Errorf("%w: a part is missing", ErrDamaged)
	}
	root := uint64(b.Root())
	if root == 0 {
		return nil // the bucket is part of another page
	}
	size := tx.DB().Info().PageSize
	seen := map[uint64]bool{root: true}
	buf := make([]byte, size)
	for queue := []uint64{root}; len(queue) > 0; {
		id := queue[0]
		queue = queue[1:]
		typ, err := pageType(tx, id)
		if err != nil {
			return err
		}
		if typ == "leaf" {
			continue
		}
		if typ != "branch" {
			return fmt.Errorf("%w: page %d is a %s page", ErrDamaged, id, typ)
		}
		children, err := branchChildren(tx, file, id, buf)
		if err != nil {
			return err
		}
		for _, child := range children {
			if seen[child] {
				return fmt.Errorf("%w: page %d is used twice", ErrDamaged, child)
			}
			seen[child] = true
			queue = append(queue, child)
		}
	}
	return nil
}

func pageType(tx *bbolt.Tx, id uint64) (string, error) {
	if id < 2 || id > uint64(tx.Size())/uint64(tx.DB().Info().PageSize) {
		return "", fmt.Errorf("%w: it has no page %d", ErrDamaged, id)
	}
	p, err := tx.Page(int(id))
	if err != nil {
		return "", err
	}
	if p == nil {
		return "", fmt.Errorf("%w: it has no page %d", ErrDamaged, id)
	}
	return p.Type, nil
}

// branchChildren returns the pages that a branch page refers to.
func branchChildren(tx *bbolt.Tx, file io.ReaderAt, id uint64, buf []byte) ([]uint64, error) {
	p, err := tx.Page(int(id))
	if err != nil {
		return nil, err
	}
	need := pageHeaderSize + p.Count*branchElementSize
	if p.Count == 0 || need > len(buf)*(p.OverflowCount+1) {
		return nil, fmt.Errorf("%w: page %d is malformed", ErrDamaged, id)
	}
	if need > len(buf) {
		buf = make([]byte, need)
	}
	if _, err := file.ReadAt(buf[:need], int64(id)*int64(tx.DB().Info().PageSize)); err != nil {
		return nil, fmt.Errorf("%w: page %d: %v", ErrDamaged, id, err)
	}
	children := make([]uint64, p.Count)
	for i := range children {
		children[i] = binary.NativeEndian.Uint64(buf[pageHeaderSize+i*branchElementSize+branchElementPage:])
	}
	return children, nil
}
