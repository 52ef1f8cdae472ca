// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/spf13/cobra"

// Groups of the commands in the help, in this order.
var groups = []struct {
	id, title string
	commands  []string
}{
	{"now", "What is happening now", []string{"trace", "top", "record", "reclaim", "inspect"}},
	{"then", "What has happened", []string{"list", "show", "report", "replay"}},
	{"other", "Other", []string{"completion", "demo", "doctor", "help", "man", "version"}},
}

// group puts the commands into groups.
func group(root *cobra.Command) {
	root.InitDefaultCompletionCmd()

	of := make(map[string]string)

	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})

		for _, name := range g.commands {
			of[name] = g.id
		}
	}

	for _, cmd := range root.Commands() {
		cmd.GroupID = of[cmd.Name()]
	}
}
