# SPDX-License-Identifier: Apache-2.0
# Prints the lines that have more than 140 columns, a tab being four, and fails if there
# are any. In tests of Go, text in quotes does not count: lines of logs, JSON and reports
# are easier to read whole. Needs LC_ALL=C, in which each awk takes a byte for a character.

# unquoted returns a line without the text in its quotes. What is open is kept in quote: a
# raw string may go on in the next line.
function unquoted(line,  i, c, rest) {
	for (i = 1; i <= length(line); i++) {
		c = substr(line, i, 1)
		if (quote == "" && substr(line, i, 2) == "//")
			return rest substr(line, i)
		if (quote == "" || c == quote)
			rest = rest c
		if (quote == "" && c ~ /["'`]/)
			quote = c
		else if (c == quote)
			quote = ""
		else if (c == "\\" && quote != "" && quote != "`")
			i++
	}
	if (quote != "`")
		quote = ""
	return rest
}

FNR == 1 { quote = "" }
{
	line = FILENAME ~ /_test\.go$/ ? unquoted($0) : $0
	gsub(/\t/, "    ", line)
	gsub(/[\200-\277]/, "", line) # the bytes of a character but the first
	if (length(line) > 140) {
		print FILENAME ":" FNR ": " length(line) " columns"
		found = 1
	}
}
END { exit found }
