// SPDX-License-Identifier: Apache-2.0

package main

// recordKilled: the guest compared each recording with what was printed. Here is
// left to see that it had something to compare.
func recordKilled(cc *caseCheck) {
	facts := cc.c.Facts
	if facts["recorder_kills"] < 4 {
		cc.problem("a recorder was killed only %d times", facts["recorder_kills"])
	}

	if facts["printed"] < facts["recorder_kills"]/2 || facts["recorded"] < facts["printed"] {
		cc.problem("%d incidents were printed and %d recorded: too few to tell", facts["printed"], facts["recorded"])
	}

	if facts["packed_segments"] == 0 {
		cc.problem("no segment was compressed: none was hit by a kill")
	}
}
