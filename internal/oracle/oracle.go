// Package oracle contains slow and simple references that the tests of several packages compare with.
package oracle

import "strings"

// Unstuff removes the dot-stuffing of RFC 1939, section 3, byte by byte. It returns the text of the response, the
// number of bytes used, and whether the terminator was among them.
func Unstuff(wire string) (text string, used int, end bool) {
	var b strings.Builder
	for i := 0; i < len(wire); i++ {
		if i == 0 || strings.HasSuffix(wire[:i], "\r\n") {
			if strings.HasPrefix(wire[i:], ".\r\n") {
				return b.String(), i + 3, true
			}
			if strings.HasPrefix(wire[i:], "..") {
				i++
			}
		}
		b.WriteByte(wire[i])
	}
	return b.String(), len(wire), false
}

// Stuff is the inverse of Unstuff. It adds a CRLF to text that does not end in one, as servers do.
func Stuff(text string) string {
	if text != "" && !strings.HasSuffix(text, "\r\n") {
		text += "\r\n"
	}
	return strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:] + ".\r\n"
}

// Lengths returns the lengths of chunks that are encoded in fuzzed bytes. There is at least one, and all are positive.
func Lengths(pieces []byte) []int {
	n := []int{1 << 20}
	for i, p := range pieces {
		if i == 0 {
			n = n[:0]
		}
		n = append(n, int(p)+1)
	}
	return n
}
