// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/resolve"
)

// nameFlags say where names of pods and containers come from.
type nameFlags struct {
	off     bool
	options resolve.Options
}

func (f *nameFlags) add(flags *pflag.FlagSet) {
	o := &f.options
	flags.BoolVar(&f.off, "no-names", false, "do not look up names of pods and containers: ids only")
	flags.StringVar(&o.CRIEndpoint, "cri-endpoint", "", "`socket` of the container runtime, such as unix:///run/containerd/containerd.sock; default: those of the usual places")
	flags.StringVar(&o.HostRoot, "host-root", "/", "`directory` where the node's root is seen, from inside of a pod")
	k := &o.Kubelet
	flags.StringVar(&k.Endpoint, "kubelet-endpoint", "", "also ask the kubelet at this `url`, such as https://127.0.0.1:10250, for its pods")
	flags.StringVar(&k.TokenFile, "kubelet-token-file", "", "`file` with the token for the kubelet")
	flags.StringVar(&k.CAFile, "kubelet-ca-file", "", "`file` with the authority that signed the kubelet's certificate")
	flags.BoolVar(&k.Insecure, "kubelet-insecure", false, "take any certificate of the kubelet's")
}

// open starts the look-ups; nil if they are off.
func (f *nameFlags) open(warn func(string)) (*resolve.Resolver, error) {
	if f.off {
		return nil, nil
	}
	f.options.Warn = warn

	r, err := resolve.New(f.options)
	if err != nil {
		return nil, usageError{err}
	}

	return r, nil
}
