package dotstuff

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestUnstuffStaysInside has nothing that can be read or written before and after the data.
func TestUnstuffStaysInside(t *testing.T) {
	page := os.Getpagesize()
	pages, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip("no pages of our own:", err)
	}
	defer syscall.Munmap(pages)
	room := pages[page : 2*page]
	if err := syscall.Mprotect(room, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"x", "..\r\n", "\n.", "....\r\n.\r", strings.Repeat("x", 70) + "\r\n.."} {
		wire := strings.Repeat(unit, page/len(unit)+1)
		for length := range 300 {
			for _, b := range [][]byte{room[:length], room[page-length:]} {
				copy(b, wire)
				new(Unstuffer).Next(b)
			}
		}
	}
}
