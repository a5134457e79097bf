package servers

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// Servers without a daemon use their standard input and output. The test binary serves them: started with
// POP3_INTEROP_SERVE=PROGRAM inside the layer, it runs that program for every connection to $POP3_PORT and, after
// removing TLS, to $POP3S_PORT.
func init() {
	if program := os.Getenv("POP3_INTEROP_SERVE"); program != "" {
		os.Unsetenv("POP3_INTEROP_SERVE")
		log.Fatal(serve(program))
	}
}

func serve(program string) error {
	dir := os.Getenv("DIR")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("POP3_PORT")))
	if err != nil {
		return err
	}
	secure, err := tls.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("POP3S_PORT")),
		&tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return err
	}
	go func() {
		log.Fatal(accept(secure, func(conn net.Conn) { relay(conn, plain.Addr().String()) }))
	}()
	return accept(plain, func(conn net.Conn) {
		socket, err := conn.(*net.TCPConn).File()
		if err != nil {
			log.Print(err)
			return
		}
		defer socket.Close()
		// This copy would keep the connection open after the program has closed it.
		conn.Close()
		cmd := exec.Command(program)
		cmd.Stdin, cmd.Stdout = socket, socket
		if err := cmd.Run(); err != nil {
			log.Print(err)
		}
	})
}

func accept(l net.Listener, handle func(net.Conn)) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go handle(conn)
	}
}

// relay connects a TLS client to the server without TLS.
func relay(client net.Conn, addr string) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		log.Print(err)
		return
	}
	defer server.Close()
	go func() {
		io.Copy(server, client)
		server.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, server)
}
