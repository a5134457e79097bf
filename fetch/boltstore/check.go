package boltstore

import (
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// bbolt trusts the pages of a file. If they refer to each other in a circle, or claim to be larger than the file, it does not end.
// checkPages, checkRoot, and checkTree find that first. They need to know the layout of a branch page alone: a header of 16 bytes,
// and elements of 16 bytes with the number of a page in the last eight, in the byte order of the machine.
const (
	pageHeaderSize    = 16
	branchElementSize = 16
	branchElementPage = 8
)

// releaseInterval is the number of pages that are read before they are released.
const releaseInterval = 1024

// checkPages checks the kind and the extent of all pages.
func checkPages(tx *bbolt.Tx) error {
	defer releasePages(tx)
	count := int(tx.Size() / int64(tx.DB().Info().PageSize))
	for id := 2; id < count; {
		p, err := tx.Page(id)
		if err != nil {
			return err
		}
		switch p.Type {
		case "free":
			id++
		case "leaf", "branch", "freelist":
			if p.OverflowCount >= count-id {
				return fmt.Errorf("%w: page %d is too long", ErrDamaged, id)
			}
			id += 1 + p.OverflowCount
		default:
			return fmt.Errorf("%w: page %d is invalid", ErrDamaged, id)
		}
		if id%releaseInterval == 0 {
			releasePages(tx)
		}
	}
	return nil
}

// checkRoot checks the page that has the names of the buckets. Three buckets always fit on one.
func checkRoot(tx *bbolt.Tx) error {
	root := uint64(tx.Cursor().Bucket().Root())
	if typ, err := pageType(tx, root); err != nil || typ != "leaf" {
		return fmt.Errorf("%w: page %d is invalid", ErrDamaged, root)
	}
	return nil
}

// checkTree checks the pages of a bucket.
func checkTree(tx *bbolt.Tx, bucket []byte, file io.ReaderAt) error {
	b := tx.Bucket(bucket)
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
	defer releasePages(tx)
	queue := []uint64{root}
	for n := 0; n < len(queue); n++ {
		id := queue[n]
		if n%releaseInterval == 0 {
			releasePages(tx)
		}
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
