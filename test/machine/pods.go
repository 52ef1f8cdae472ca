// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/oomtrace/oomtrace/test/lab"
)

// pods has test/cri play in the machine, and prints what that says.
func pods(ctx context.Context, o options) error {
	disk, err := o.pack(map[string]string{
		"guest": "./test/machine/guest", "oomtrace": "./cmd/oomtrace", "cri": "./test/cri", "hog": "./test/cri/hog",
	})
	if err != nil {
		return err
	}

	var result lab.Pods
	if err := o.result(ctx, disk, "lab.pods="+o.pods, &result); err != nil {
		return err
	}

	if o.keep {
		if err := os.WriteFile(o.file("trace.jsonl"), []byte(result.Trace), 0o644); err != nil {
			return err
		}
	}

	fmt.Printf("Linux %s\n%s", result.Kernel, result.Output)

	if !result.Passed {
		return errors.New("the pods' test failed")
	}

	return nil
}
