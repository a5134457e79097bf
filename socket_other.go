//go:build !unix

package pop3

import "errors"

const canReadNow = false

var errNothingYet = errors.New("pop3: nothing has arrived")

func readNow(uintptr, []byte) (int, error) { return 0, errNothingYet }
