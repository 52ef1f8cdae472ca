// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestRowName(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	uid := "6ba0af16-1c3e-4a00-8000-000000000001"

	for _, test := range []struct {
		level events.Level
		w     *events.Workload
		path  string
		want  string
	}{
		{
			events.LevelContainer, &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: uid, Container: "app", ContainerID: id},
			"/x", "shop/cart-0/app",
		},
		{events.LevelContainer, &events.Workload{PodUID: uid, ContainerID: id}, "/x", "6ba0af16…/01234567…"},
		{events.LevelContainer, &events.Workload{Namespace: "shop", Pod: "cart-0", ContainerID: id}, "/x", "shop/cart-0/01234567…"},
		{events.LevelContainer, &events.Workload{ContainerID: id}, "/docker/" + id, "container 01234567…"},
		{events.LevelPod, &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: uid}, "/x", "shop/cart-0"},
		{events.LevelPod, &events.Workload{PodUID: uid}, "/x", "pod 6ba0af16…"},
		{events.LevelService, &events.Workload{Unit: "web.service"}, "/system.slice/web.service", "web.service"},
		{events.LevelCgroup, &events.Workload{Unit: "web.service"}, "/system.slice/web.service/sub", "/system.slice/web.service/sub"},
		{events.LevelSlice, nil, "/system.slice", "/system.slice"},
		{events.LevelCgroup, nil, "/a\x1b[31m", `/a\x1b[31m`},
		{"", nil, "", "unknown path"},
	} {
		if got := RowName(test.level, test.w, test.path); got != test.want {
			t.Errorf("%s of %+v: got %q, want %q", test.level, test.w, got, test.want)
		}
	}
}
