// SPDX-License-Identifier: Apache-2.0

// Package must stops what a guest does at the first error, without a test to fail.
package must

import (
	"fmt"
	"runtime/debug"
)

// failure is what OK panics with.
type failure struct{ error }

// OK panics if there is an error in what was done. [Failed] recovers from it.
func OK(what string, err error) {
	if err != nil {
		panic(failure{fmt.Errorf("%s: %w", what, err)})
	}
}

// Failed returns the error of OK from what recover returned, or nil. Any other panic is
// returned with its stack, so that it stops no more than an error of OK does.
func Failed(recovered any) error {
	switch f := recovered.(type) {
	case nil:
		return nil
	case failure:
		return f.error
	default:
		return fmt.Errorf("panic: %v\n%s", recovered, debug.Stack())
	}
}
