// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/resolve"
)

func TestCriticalServicesAreThoseOfTheHost(t *testing.T) {
	critical := []string{"kubelet.service", "init.scope", "/podruntime/kubelet"}

	for path, want := range map[string]string{
		"/system.slice/kubelet.service":                  "kubelet.service",
		"/system.slice/kubelet.service/x":                "kubelet.service",
		"/init.scope":                                    "init.scope",
		"/podruntime/kubelet":                            "/podruntime/kubelet",
		"/podruntime/etcd":                               "",
		"/system.slice/other.service":                    "",
		"/lxc.payload.web1/system.slice/kubelet.service": "",
		"/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/system.slice/kubelet.service": "",
		"/user.slice/user-1000.slice/user@1000.service/init.scope":                                              "",
		"": "",
	} {
		if got := criticalService(critical, resolve.ParsePath(path).Workload, path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
