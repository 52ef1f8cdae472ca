// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	podLogs       = "/var/log/pods"       // <namespace>_<pod>_<uid>
	containerLogs = "/var/log/containers" // <pod>_<namespace>_<container>-<id>.log
	// maxLogs bounds the names that are read of a directory.
	maxLogs = 65536
	// logsEvery is how often the directories are read at most.
	logsEvery = time.Second
)

// logDir reads names of directories and links that the kubelet makes for logs.
// They outlive the container. Neither names of Kubernetes hold underscores.
type logDir struct {
	root hostRoot

	mu         sync.Mutex
	pods       map[string]events.Workload // by UID
	containers map[string]events.Workload // by id
	read       time.Time
}

func newLogDir(root hostRoot) *logDir { return &logDir{root: root} }

func (l *logDir) lookup(_ context.Context, ref Ref) (events.Workload, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	w, ok := l.find(ref)
	if !ok && time.Since(l.read) >= logsEvery {
		l.index()
		w, ok = l.find(ref)
	}

	if !ok {
		return events.Workload{}, errUnknown
	}
	w.Source = SourceLogDir

	return w, nil
}

func (l *logDir) find(ref Ref) (events.Workload, bool) {
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

func (l *logDir) index() {
	l.read = time.Now()
	l.pods, l.containers = make(map[string]events.Workload), make(map[string]events.Workload)

	names, _ := l.root.list(podLogs, maxLogs) // on a node without a kubelet there is none
	for _, name := range names {
		if parts := strings.Split(name, "_"); len(parts) == 3 && parts[2] != "" {
			l.pods[parts[2]] = events.Workload{Namespace: parts[0], Pod: parts[1], PodUID: parts[2]}
		}
	}

	names, _ = l.root.list(containerLogs, maxLogs)
	for _, name := range names {
		parts := strings.Split(strings.TrimSuffix(name, ".log"), "_")
		if len(parts) != 3 {
			continue
		}

		dash := strings.LastIndexByte(parts[2], '-')
		if dash <= 0 || !isHex(parts[2][dash+1:]) {
			continue
		}
		id := parts[2][dash+1:]
		l.containers[id] = events.Workload{Namespace: parts[1], Pod: parts[0], Container: parts[2][:dash], ContainerID: id}
	}
}
