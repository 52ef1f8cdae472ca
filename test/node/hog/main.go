// SPDX-License-Identifier: Apache-2.0

// Command hog runs in the containers of the tests, as PID 1:
//
//	hog                   wait for SIGTERM: the pause of a sandbox, too
//	hog eat MIB           take that much memory, and keep it
//	hog signalled MIB     the same, from SIGUSR1 on
//	hog crowd MIB         the same, beside two children that wait
//	hog child MIB CODE    have a child do it; exit with CODE once it is dead,
//	                      or stay, if CODE is negative
//	hog deaf              wait, and ignore SIGTERM
//	hog family MS         have two children that wait; exit after so long
package main

import (
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	args := append(os.Args[1:], "", "", "")
	number := func(i int) int {
		n, _ := strconv.Atoi(args[i])
		return n
	}

	switch args[0] {
	case "eat":
		eat(number(1))
	case "signalled":
		wait(syscall.SIGUSR1)
		eat(number(1))
	case "child":
		child := start("eat", args[1])
		_ = child.Wait()

		if code := number(2); code >= 0 {
			time.Sleep(300 * time.Millisecond)
			os.Exit(code)
		}

		wait(syscall.SIGTERM)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		wait(syscall.SIGUSR1)
	case "crowd":
		start("deaf")
		start("deaf")
		eat(number(1))
	case "family":
		start("deaf")
		start("deaf")
		time.Sleep(time.Duration(number(1)) * time.Millisecond)
	default:
		wait(syscall.SIGTERM)
	}
}

func eat(mib int) {
	var kept [][]byte

	for range mib {
		page := make([]byte, 1<<20)
		for i := 0; i < len(page); i += 4096 {
			page[i] = 1
		}
		kept = append(kept, page)
	}

	wait(syscall.SIGTERM)
	_ = kept[0][0]
}

func start(args ...string) *exec.Cmd {
	cmd := exec.Command("/hog", args...)
	if err := cmd.Start(); err != nil {
		os.Exit(99)
	}

	return cmd
}

func wait(s os.Signal) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, s)
	<-c
}
