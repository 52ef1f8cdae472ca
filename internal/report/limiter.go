// SPDX-License-Identifier: Apache-2.0

package report

import "github.com/oomtrace/oomtrace/internal/events"

func limiterCgroup(inc *events.Incident) *events.Cgroup {
	if inc.Limiter == nil {
		return nil
	}

	return inc.Limiter.Cgroup
}

func limiterWorkload(inc *events.Incident) *events.Workload {
	if inc.Limiter == nil {
		return nil
	}

	return inc.Limiter.Workload
}
