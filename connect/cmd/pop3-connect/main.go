// Command pop3-connect is Benthos with the inputs pop3 and pop3_fleet, and the components that need no other service: files, HTTP,
// sockets, the standard output, and all processors.
//
//	pop3-connect create pop3//stdout >pop3.yaml
//	pop3-connect lint pop3.yaml
//	pop3-connect run pop3.yaml
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"

	_ "github.com/seed-5b1d5243/pop3/connect"
)

func main() { service.RunCLI(context.Background()) }
