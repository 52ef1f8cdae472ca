// SPDX-License-Identifier: Apache-2.0

// Package resolve goes from a cgroup's id to a named workload, in three steps:
//
//	Tree        id → path, also of cgroups that were removed: a container's cgroup is
//	            removed some 30 ms after its process is killed
//	ParsePath   path → Place: the level in the node's tree, pod UID, container id,
//	            QoS, unit
//	Resolver    pod UID and container id → names, from the sources in package source
//
// NamedTree joins them, and Placer the last two. Tree and ParsePath work without any source, and ParsePath
// alone reads paths in logs. Package exitstatus asks the same runtimes how a container
// ended.
package resolve
