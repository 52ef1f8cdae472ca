// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"fmt"
	"strings"
)

// Task is a process's name and id in a list: "java[4711]", with "?" for what is not
// known. A name that could be taken for the text around it is quoted.
func Task(comm string, pid int) string {
	id := "?"
	if pid > 0 {
		id = fmt.Sprint(pid)
	}

	if comm == "" {
		return "?[" + id + "]"
	}

	if strings.ContainsAny(comm, `[],"·`) || strings.TrimSpace(comm) != comm {
		comm = `"` + comm + `"`
	}

	return comm + "[" + id + "]"
}

// Process is a process's name and id in a sentence: "java[4711]", "java" or
// "process 4711".
func Process(comm string, pid int) string {
	switch {
	case comm == "":
		return fmt.Sprintf("process %d", pid)
	case pid <= 0:
		return ClipName(comm)
	}

	return fmt.Sprintf("%s[%d]", ClipName(comm), pid)
}
