//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// statusSignal returns a channel that has a value after each SIGUSR1.
func statusSignal() (wake <-chan struct{}, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	woken := make(chan struct{})
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			select {
			case <-done:
				return
			case woken <- struct{}{}:
			}
		}
	}()
	return woken, func() {
		signal.Stop(signals)
		close(done)
	}
}
