// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/resolve/names"
)

// nameFlags choose the sources of pod and container names.
type nameFlags struct {
	off     bool
	options names.Options
}

func (f *nameFlags) add(flags *pflag.FlagSet) {
	o := &f.options
	flags.BoolVar(&f.off, "no-names", false, "do not resolve names of pods and containers, show only their IDs")
	flags.StringVar(&o.CRIEndpoint, "cri-endpoint", "",
		"socket of the container runtime, such as unix:///run/containerd/containerd.sock; "+
			"without it, the usual ones are tried")
	flags.StringVar(&o.HostRoot, "host-root", "/",
		"directory where the node's root file system is mounted, if oomtrace runs in a pod")

	k := &o.Kubelet
	flags.StringVar(&k.Endpoint, "kubelet-endpoint", "",
		"also query the kubelet for its pods at this URL, such as https://127.0.0.1:10250")
	flags.StringVar(&k.TokenFile, "kubelet-token-file", "", "file with the token for the kubelet")
	flags.StringVar(&k.CAFile, "kubelet-ca-file", "", "file with the CA certificate for verifying the kubelet")
	flags.BoolVar(&k.Insecure, "kubelet-insecure", false, "do not verify the kubelet's certificate")
	metavar(flags, "path", "cri-endpoint", "host-root", "kubelet-token-file", "kubelet-ca-file")
	metavar(flags, "url", "kubelet-endpoint")
}

// open starts the resolver; it returns nil if names are off.
func (f *nameFlags) open(warn func(string)) (*names.Resolver, error) {
	if f.off {
		return nil, nil
	}
	f.options.Warn = warn

	r, err := names.New(f.options)
	if err != nil {
		return nil, usageError{err}
	}

	return r, nil
}
