// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// write writes files below a new root.
func write(t *testing.T, files map[string]string) Root {
	t.Helper()

	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	return Root(root)
}

func TestDockerIsFoundWhereItIsConfigured(t *testing.T) {
	const container = `{"Name":"/shop-web-1","State":{"OOMKilled":true,"ExitCode":137},"Config":{"Image":"shop/web:2","Labels":{` +
		`"com.docker.compose.service":"web","com.amazonaws.ecs.task-arn":"arn:aws:ecs:eu-central-1:1:task/shop/488fc5b8"}}}`

	for name, files := range map[string]map[string]string{
		"the usual directory": {"var/lib/docker/containers/" + dockerID: ""},
		"data-root":           {"data/docker/containers/" + dockerID: "", "etc/docker/daemon.json": `{"data-root": "/data/docker"}`},
		"graph":               {"data/docker/containers/" + dockerID: "", "etc/docker/daemon.json": `{"graph": "/data/docker"}`},
		"of the snap": {"data/docker/containers/" + dockerID: "",
			"var/snap/docker/current/config/daemon.json": `{"data-root": "/data/docker"}`},
		"remapped users": {"var/lib/docker/165536.165536/containers/" + dockerID: "",
			"etc/docker/daemon.json": `{"userns-remap": "default"}`},
		"remapped users elsewhere": {"data/docker/1000.1000/containers/" + dockerID: "",
			"etc/docker/daemon.json": `{"userns-remap": "web", "data-root": "/data/docker"}`},
	} {
		t.Run(name, func(t *testing.T) {
			tree := map[string]string{}

			for file, text := range files {
				if text == "" {
					file, text = file+"/config.v2.json", container
				}
				tree[file] = text
			}
			d := NewDisk(write(t, tree), runtimes.Known())

			w, err := d.Lookup(context.Background(), resolve.Ref{ContainerID: dockerID, Runtime: "docker"})
			if err != nil || w.Container != "shop-web-1" || w.Image != "shop/web:2" || w.Labels["com.docker.compose.service"] != "web" ||
				w.Labels["com.amazonaws.ecs.task-arn"] == "" {
				t.Errorf("got %+v, %v, want shop-web-1 with its labels", w, err)
			}

			if x, ok := d.Exit(dockerID); !ok || x.Reason != ReasonOOMKilled {
				t.Errorf("got %+v, %v, want OOMKilled", x, ok)
			}
		})
	}
}

// TestHostileDaemonFiles: what is no configuration names no directory, and none outside of the root.
func TestHostileDaemonFiles(t *testing.T) {
	outside := write(t, map[string]string{dockerID + "/config.v2.json": `{"Name":"/x"}`})

	for _, config := range []string{
		`{"data-root": "data/docker"}`, `{"data-root": "` + string(outside) + `/.."}`, `{"data-root": 7}`, `[`, `{"userns-remap": "x"}`, "",
		`{"data-root": "/../../../../../../../../../..` + filepath.Dir(string(outside)) + `"}`,
	} {
		root := write(t, map[string]string{"etc/docker/daemon.json": config})

		w, err := NewDisk(root, runtimes.Known()).Lookup(context.Background(), resolve.Ref{ContainerID: dockerID, Runtime: "docker"})
		if err == nil {
			t.Errorf("%s: got %+v, want nothing", config, w)
		}
	}
}
