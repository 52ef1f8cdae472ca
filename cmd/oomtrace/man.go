// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// verbatim makes the indented lines of a text, as of tables, blocks of Markdown, which cobra takes
// the text for. It would join their lines.
func verbatim(text string) string {
	var b strings.Builder
	inside := false

	for line := range strings.Lines(text) {
		indented := strings.HasPrefix(line, "  ")

		if indented != inside {
			b.WriteString("\n")
		}

		if indented {
			b.WriteString("    ")
		}

		b.WriteString(line)

		inside = indented
	}

	return b.String()
}

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write a man page for each command",
		Example: `  sudo oomtrace man /usr/local/share/man/man1
  man oomtrace-report`,
		Long: `man writes a man page for each command into DIR, which is created if it does not
exist. The pages have the text of --help.`,
		Args: oneArg("the directory to write into"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("create the directory of the man pages: %w", err)
			}

			cmd.Root().DisableAutoGenTag = true // it would add the date a second time

			for _, page := range append(cmd.Root().Commands(), cmd.Root()) {
				page.Long = verbatim(page.Long)
			}

			header := &doc.GenManHeader{Section: "1", Source: "oomtrace " + versionText(), Manual: "oomtrace"}

			if err := doc.GenManTree(cmd.Root(), header, args[0]); err != nil {
				return fmt.Errorf("write the man pages: %w", err)
			}

			return nil
		},
	}
}
