// SPDX-License-Identifier: Apache-2.0

// Package kubelet shows a shortage of memory as the kubelet sees it: the thresholds at
// which it evicts, how far the node is from them by the kubelet's own arithmetic,
// which is not MemAvailable, and what the kubelet logged.
//
// On a node without a kubelet Find returns nil, and what is made of it does nothing.
package kubelet
