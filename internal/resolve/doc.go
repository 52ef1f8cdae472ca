// SPDX-License-Identifier: Apache-2.0

// Package resolve tells what a cgroup is: its path, the level at which it
// stands in the node's tree, and the workload that its path names.
//
// Two parts do not know each other's work. ParsePath reads a path and nothing
// else. Tree remembers which cgroup has which path, also after the cgroup is
// gone: a container's cgroup is removed some 30 ms after its process is killed.
//
// Whatever knows more than a path does (the runtimes, the kubelet's
// directories) starts from the ids of a Place and names itself in
// Workload.Source.
package resolve
