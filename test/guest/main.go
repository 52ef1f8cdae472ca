// SPDX-License-Identifier: Apache-2.0

// Command guest runs in the machines of the tests, started by their init: it runs the
// cases that the kernel's command line requests, and sends the result over the console.
//
//	guest                    all of that
//	guest target MIB [HOW]   be a process that is to be killed
//	guest list               print the kernels and cases of test/vm, the killers of test/node
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/oomtrace/oomtrace/internal/testenv/deaths"
	"github.com/oomtrace/oomtrace/test/internal/must"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
	"github.com/oomtrace/oomtrace/test/node"
	"github.com/oomtrace/oomtrace/test/vm"
)

func main() {
	deaths.FromEnvironment()

	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "target":
			node.RunTarget(os.Args[2:])
		case "list":
			list()
		}

		return
	}

	fmt.Println(qemu.MarkStart)

	run := vm.RunGuest

	if _, ok := qemu.BootOption("lab.killers"); ok {
		run = node.RunKillers
	} else if _, ok := qemu.BootOption("lab.pods"); ok {
		run = node.RunPods
	}

	if err := guarded(run); err != nil {
		fmt.Println("guest:", err)

		if err := qemu.SendError(os.Stdout, err); err != nil {
			fmt.Println("guest:", err)
		}

		os.Exit(1)
	}
}

// guarded returns a panic of run, such as that of must.OK, as its error: otherwise the
// host would take it for a crash of the emulator.
func guarded(run func() error) (err error) {
	defer func() { err = errors.Join(err, must.Failed(recover())) }()

	return run()
}

func list() {
	for _, k := range vm.Kernels {
		fmt.Println("kernel", k.ID())
	}

	for i := range vm.Cases {
		fmt.Println("case", vm.Cases[i].Name)
	}

	for i := range node.Killers {
		fmt.Println("killer", node.Killers[i].Name)
	}
}
