// SPDX-License-Identifier: Apache-2.0

// Package kubelet tells the kubelet's side of a shortage of memory: at which
// thresholds it evicts, how far the node is from them by the kubelet's own
// arithmetic, which is not MemAvailable, and what it wrote to its log.
//
// Without a kubelet on the node there is nothing to tell: Find gives nil, and
// what is made of nil stays silent.
package kubelet
