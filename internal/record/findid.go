// SPDX-License-Identifier: Apache-2.0

package record

import "github.com/oomtrace/oomtrace/internal/events"

// FindID returns the id of the incident that s.ID means, among those in the time of s; empty if
// there is none. It reads the recording to its end. The error is an *events.AmbiguousIDError
// where several match.
func FindID(path string, s Selection) (string, error) {
	r, err := Open(path)
	if err != nil {
		return "", err
	}
	defer r.Close()

	finder := events.NewIDFinder(s.ID)

	s.ID = ""
	r.Select(s)

	for line, err := range r.Lines() {
		if err != nil {
			return "", err
		}

		if line.Kind == events.KindIncident {
			finder.Add(line.ID)
		}
	}

	return finder.ID()
}
