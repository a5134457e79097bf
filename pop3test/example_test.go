package pop3test_test

import (
	"fmt"
	"log"
	"net/textproto"

	"github.com/seed-5b1d5243/pop3/pop3test"
)

func Example() {
	srv := pop3test.NewServer(pop3test.Messages(
		"Subject: one\r\n\r\nThis is the first.\r\n",
		"Subject: two\r\n\r\n.. - .-- ---\r\n",
	))
	defer srv.Close()

	conn, err := textproto.Dial("tcp", srv.Addr)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	conn.ReadLine() // greeting
	for _, command := range []string{"USER user", "PASS secret", "DELE 1", "RETR 2", "QUIT"} {
		conn.PrintfLine("%s", command)
		status, err := conn.ReadLine()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status)
		if command == "RETR 2" {
			lines, err := conn.ReadDotLines()
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(lines[2])
		}
	}
	fmt.Println(len(srv.Deleted()), "deleted,", len(srv.Remaining()), "left")

	// Output:
	// +OK send PASS
	// +OK logged in
	// +OK message deleted
	// +OK message follows
	// .. - .-- ---
	// +OK bye
	// 1 deleted, 1 left
}

func ExampleServer_Refuse() {
	srv := pop3test.NewUnstartedServer(nil)
	srv.Refuse = func(verb string, n int) string {
		if verb == "PASS" && n == 1 {
			return "[IN-USE] try again"
		}
		return ""
	}
	srv.Start()
	defer srv.Close()

	conn, err := textproto.Dial("tcp", srv.Addr)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	conn.ReadLine() // greeting
	for _, command := range []string{"USER user", "PASS secret", "USER user", "PASS secret"} {
		conn.PrintfLine("%s", command)
		status, err := conn.ReadLine()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status)
	}

	// Output:
	// +OK send PASS
	// -ERR [IN-USE] try again
	// +OK send PASS
	// +OK logged in
}
