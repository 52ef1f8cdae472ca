// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	podLogs       = "/var/log/pods"       // <namespace>_<pod>_<uid>
	containerLogs = "/var/log/containers" // <pod>_<namespace>_<container>-<id>.log
	// maxLogs bounds how many names are read of a directory.
	maxLogs = 65536
	// logsEvery is the shortest time between two readings of the directories.
	logsEvery = time.Second
)

// LogDir reads the names of directories and links that the kubelet makes for logs.
// They outlive the container. Names of Kubernetes contain no underscores.
type LogDir struct {
	root Root

	mu         sync.Mutex
	pods       map[string]events.Workload // by UID
	containers map[string]events.Workload // by id
	read       time.Time
}

// NewLogDir returns the source of the log directories below root.
func NewLogDir(root Root) *LogDir { return &LogDir{root: root} }

// Lookup implements Source.
func (l *LogDir) Lookup(_ context.Context, ref resolve.Ref) (events.Workload, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	w, ok := l.find(ref)
	if !ok && time.Since(l.read) >= logsEvery {
		l.index()
		w, ok = l.find(ref)
	}

	if !ok {
		return events.Workload{}, ErrUnknown
	}
	w.Source = NameLogDir

	return w, nil
}

func (l *LogDir) find(ref resolve.Ref) (events.Workload, bool) {
	pod, okPod := l.pods[ref.PodUID]

	container, okContainer := l.containers[ref.ContainerID]
	switch {
	case okPod && okContainer && (pod.Pod != container.Pod || pod.Namespace != container.Namespace):
		return pod, true // a link can be stale; the UID is in the cgroup's path
	case okContainer:
		container.PodUID = ref.PodUID
		return container, true
	}

	return pod, okPod
}

func (l *LogDir) index() {
	l.read = time.Now()
	l.pods, l.containers = make(map[string]events.Workload), make(map[string]events.Workload)

	names, _ := l.root.List(podLogs, maxLogs) // a node without a kubelet has no such directory
	for _, name := range names {
		if parts := strings.Split(name, "_"); len(parts) == 3 && parts[2] != "" {
			l.pods[parts[2]] = events.Workload{Namespace: parts[0], Pod: parts[1], PodUID: parts[2]}
		}
	}

	names, _ = l.root.List(containerLogs, maxLogs)
	for _, name := range names {
		parts := strings.Split(strings.TrimSuffix(name, ".log"), "_")
		if len(parts) != 3 {
			continue
		}

		dash := strings.LastIndexByte(parts[2], '-')
		if dash <= 0 || !resolve.IsHex(parts[2][dash+1:]) {
			continue
		}
		id := parts[2][dash+1:]
		l.containers[id] = events.Workload{Namespace: parts[1], Pod: parts[0], Container: parts[2][:dash], ContainerID: id}
	}
}
