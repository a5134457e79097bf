//go:build !unix

package main

func statusSignal() (wake <-chan struct{}, stop func()) { return nil, func() {} }
