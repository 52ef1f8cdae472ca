// SPDX-License-Identifier: Apache-2.0

// Package resolve goes from a cgroup's id to a named workload, in three steps:
//
//	Tree        id → path, also of cgroups that were removed: a container's cgroup is
//	            removed some 30 ms after its process is killed
//	ParsePath   path → Place: the level in the node's tree, pod UID, container id,
//	            QoS, unit
//	Names       pod UID and container id → names; package names has the resolver, and
//	            package source what it asks
//
// NamedTree joins them, and Placer the last two. This package itself reads the tree of
// cgroups and paths alone, so that a correlator or a reader of logs that uses it needs no
// client of a container runtime. Package exitstatus asks the same runtimes how a container
// ended.
package resolve
