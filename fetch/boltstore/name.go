package boltstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxName limits the length of a file name. Most file systems permit 255 bytes.
const maxName = 200

// FileName returns the name of the state file of an account, without a folder. Different accounts have different names, also if the
// file system ignores case. Bytes other than lower-case letters, digits, and a few others are written as % and two hexadecimal
// digits; the end of a long name is replaced by a digest.
func FileName(account string) string {
	var b strings.Builder
	for i := range len(account) {
		c := account[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '@', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteString(string([]byte{'%', hexDigits[c>>4], hexDigits[c&15]}))
		}
	}
	name := b.String()
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(account))
		name = name[:maxName-33] + "~" + hex.EncodeToString(sum[:16])
	}
	return name + ".state"
}
