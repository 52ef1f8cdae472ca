// SPDX-License-Identifier: Apache-2.0

// Package runtimes is the one table of container runtimes: how their cgroups are
// named, where they listen, what they keep on disk, and which processes and
// systemd units are theirs.
//
// The table stands in a package of its own, which imports nothing, because
// packages that must not import each other read it: resolve parses cgroup paths
// by it, resolve/source finds sockets and files, sigkill recognizes senders of
// SIGKILL, and alert knows which services a node depends on. A new runtime is a
// new row; TestARowIsEnough fails where one of these readers does not follow.
package runtimes

// Names of runtimes, as Workload.Runtime publishes them.
const (
	Containerd = "containerd"
	CRIO       = "cri-o"
	Docker     = "docker"
	Podman     = "podman"
)

// Runtime is a row of the table. A field that stays empty has its reason in Lacks.
type Runtime struct {
	// Name is the one spelling of the runtime, which is published. Rows of
	// distributions that bundle a runtime have the name of the bundled one.
	Name string
	// Distribution is the product that bundles the runtime and moves its files;
	// empty for the runtime itself.
	Distribution string

	// CgroupPrefixes precede the id in the name of a container's cgroup, with a
	// dash between: cri-containerd-<id>.scope.
	CgroupPrefixes []string
	// CgroupParents are names of directories in which a cgroup that is named by a
	// bare id is this runtime's container: /docker/<id>.
	CgroupParents []string
	// PodParents and PodPrefixes are the same for pods that are not the kubelet's;
	// a prefix may stand anywhere in the name.
	PodParents, PodPrefixes []string
	// InnerCgroup is the child of a container's cgroup that holds its processes,
	// and is the container as well.
	InnerCgroup string

	// Sockets are paths of the CRI.
	Sockets []string
	// Format is the format of the files below StateDirs.
	Format Format
	// StateDirs are the directories in which a container has its files.
	StateDirs []string
	// Bundle is set for FormatBundle.
	Bundle *Bundle

	// Daemons are the runtime's own processes. A name that ends in * is a prefix,
	// here and in what follows.
	Daemons []string
	// Shims are the parents of container processes; what a shim starts acts for
	// the runtime.
	Shims []string
	// Clients are commands with which people stop containers.
	Clients []string
	// Units are the systemd units whose stalls the whole node feels.
	Units []string

	// Lacks gives the reason for each field that is empty, by the field's name.
	Lacks map[string]string
}

// Format is how a runtime keeps the names of a container on disk.
type Format string

const (
	FormatBundle       Format = "oci_bundle"    // an OCI config.json with annotations
	FormatDockerConfig Format = "docker_config" // config.v2.json of dockerd
	FormatPodmanIndex  Format = "podman_index"  // containers.json of containers/storage
)

// ID stands for the container's id in Bundle.Files.
const ID = "{id}"

// Bundle describes OCI bundles: where config.json is, and in which annotations the
// names are. Of several keys the first that is set counts.
type Bundle struct {
	// Files are paths below a state directory, with ID for the container's id.
	Files []string
	// Required is an annotation that all containers of this runtime have. It keeps
	// runtimes apart that share a directory; empty: any bundle is this runtime's.
	Required string

	Namespace, Pod, PodUID, Container, Image, Restarts []string

	// Labels is the annotation of a sandbox that holds the pod's labels as JSON,
	// and Sandbox that of a container that holds its sandbox's id. KindKey is the
	// annotation that is KindSandbox for sandboxes.
	Labels, Sandbox, KindKey, KindSandbox string
}

// Table is a list of runtimes. Its order is the order in which sources are asked.
type Table []Runtime

// oci are the low-level runtimes (the OCI's runtime-spec), which any row may run.
// They have no cgroups, sockets or files of their own.
var oci = []string{"runc", "crun", "youki", "runsc", "kata-runtime"}

// Labels and annotations of the kubelet (pkg/kubelet/types/labels.go), which all
// runtimes keep.
const (
	LabelNamespace = "io.kubernetes.pod.namespace"
	LabelPod       = "io.kubernetes.pod.name"
	LabelPodUID    = "io.kubernetes.pod.uid"
	LabelContainer = "io.kubernetes.container.name"
	LabelRestarts  = "io.kubernetes.container.restartCount"
)

// Known returns the runtimes that oomtrace knows. The caller owns the table.
func Known() Table {
	// containerd keeps a bundle per task; it is there before the container's cgroup
	// is made, and removed with it. The namespace of dockerd, moby, has no names.
	containerdBundle := &Bundle{
		Files: []string{
			"io.containerd.runtime.v2.task/k8s.io/" + ID + "/config.json",
			"io.containerd.runtime.v2.task/default/" + ID + "/config.json",
		},
		Namespace: []string{"io.kubernetes.cri.sandbox-namespace"},
		Pod:       []string{"io.kubernetes.cri.sandbox-name"},
		PodUID:    []string{"io.kubernetes.cri.sandbox-uid"},
		Container: []string{"io.kubernetes.cri.container-name", "nerdctl/name"},
		Image:     []string{"io.kubernetes.cri.image-name"},
	}
	// Of what runs, and what stays over a boot.
	storage := []string{"/run/containers/storage", "/var/lib/containers/storage"}

	const (
		noPods    = "only podman has pods that are not the kubelet's"
		noInner   = "only crun below CRI-O and podman makes a child cgroup"
		noParent  = "names of its cgroups have a prefix"
		noBundle  = "its format is not FormatBundle"
		asBundled = "as the runtime that is bundled"
		noDistro  = "the runtime itself"
	)

	return Table{
		{
			Name:           Containerd,
			CgroupPrefixes: []string{"cri-containerd", "nerdctl"},
			Sockets:        []string{"/run/containerd/containerd.sock"},
			Format:         FormatBundle,
			StateDirs:      []string{"/run/containerd", "/run/docker/containerd/daemon"},
			Bundle:         containerdBundle,
			Daemons:        []string{"containerd"},
			Shims:          []string{"containerd-shim*"},
			Clients:        []string{"nerdctl"},
			Units:          []string{"containerd.service"},
			Lacks: map[string]string{
				"Distribution": noDistro, "CgroupParents": noParent, "PodParents": noPods, "PodPrefixes": noPods, "InnerCgroup": noInner,
			},
		},
		{
			Name:           CRIO,
			CgroupPrefixes: []string{"crio"},
			InnerCgroup:    "container",
			Sockets:        []string{"/run/crio/crio.sock"},
			Format:         FormatBundle,
			StateDirs:      storage,
			// internal/factory/container and pkg/annotations of CRI-O 1.3x.
			Bundle: &Bundle{
				Files:     []string{"overlay-containers/" + ID + "/userdata/config.json"},
				Required:  "io.kubernetes.cri-o.ContainerType",
				Namespace: []string{LabelNamespace, "io.kubernetes.cri-o.Namespace"},
				Pod:       []string{LabelPod, "io.kubernetes.cri-o.KubeName"},
				PodUID:    []string{LabelPodUID},
				Container: []string{LabelContainer},
				Image:     []string{"io.kubernetes.cri-o.ImageName"},
				Restarts:  []string{LabelRestarts},
				Labels:    "io.kubernetes.cri-o.Labels",
				Sandbox:   "io.kubernetes.cri-o.SandboxID",
				KindKey:   "io.kubernetes.cri-o.ContainerType", KindSandbox: "sandbox",
			},
			Daemons: []string{"crio"},
			Shims:   []string{"conmon", "conmonrs"},
			Units:   []string{"crio.service"},
			Lacks: map[string]string{
				"Distribution": noDistro, "CgroupParents": noParent, "PodParents": noPods, "PodPrefixes": noPods,
				"Clients": "crictl asks the daemon, which then is the sender",
			},
		},
		{
			Name:           Docker,
			CgroupPrefixes: []string{"docker"},
			CgroupParents:  []string{"docker"},
			Sockets:        []string{"/run/cri-dockerd.sock"},
			Format:         FormatDockerConfig,
			StateDirs:      []string{"/var/lib/docker/containers"},
			Daemons:        []string{"dockerd", "cri-dockerd"},
			Clients:        []string{"docker"},
			Units:          []string{"docker.service"},
			Lacks: map[string]string{
				"Distribution": noDistro, "PodParents": noPods, "PodPrefixes": noPods, "InnerCgroup": noInner, "Bundle": noBundle,
				"Shims": "those of containerd, which it runs",
			},
		},
		{
			Name: Podman,
			// libpod-payload is of podman --cgroups=split, as units made by quadlet have it.
			CgroupPrefixes: []string{"libpod", "libpod-payload"},
			PodParents:     []string{"libpod_parent"},
			PodPrefixes:    []string{"libpod_pod_"},
			InnerCgroup:    "container",
			Format:         FormatPodmanIndex,
			StateDirs:      storage,
			Shims:          []string{"conmon", "conmonrs"},
			Clients:        []string{"podman"},
			Lacks: map[string]string{
				"Distribution": noDistro, "CgroupParents": noParent, "Bundle": noBundle, "Sockets": "podman does not serve the CRI",
				"Daemons": "podman has no daemon", "Units": "podman has no daemon",
			},
		},
		{
			Name:         Containerd,
			Distribution: "k3s", // and RKE2, which puts its files at the same places
			Sockets:      []string{"/run/k3s/containerd/containerd.sock"},
			Format:       FormatBundle,
			StateDirs:    []string{"/run/k3s/containerd"},
			Bundle:       containerdBundle,
			Daemons:      []string{"k3s", "k3s-server", "k3s-agent", "rke2"},
			Units:        []string{"k3s.service", "k3s-agent.service", "rke2-agent.service", "rke2-server.service"},
			Lacks: map[string]string{
				"CgroupPrefixes": asBundled, "CgroupParents": asBundled, "PodParents": noPods, "PodPrefixes": noPods,
				"InnerCgroup": noInner, "Shims": asBundled, "Clients": asBundled,
			},
		},
		{
			Name:         Containerd,
			Distribution: "k0s",
			Sockets:      []string{"/run/k0s/containerd.sock"},
			Format:       FormatBundle,
			StateDirs:    []string{"/run/k0s/containerd"},
			Bundle:       containerdBundle,
			// k0s install makes them; a controller runs a kubelet with --enable-worker.
			Units: []string{"k0sworker.service", "k0scontroller.service"},
			Lacks: map[string]string{
				"CgroupPrefixes": asBundled, "CgroupParents": asBundled, "PodParents": noPods, "PodPrefixes": noPods,
				"InnerCgroup": noInner, "Daemons": asBundled, "Shims": asBundled, "Clients": asBundled,
			},
		},
		{
			Name:         Containerd,
			Distribution: "microk8s",
			Sockets:      []string{"/var/snap/microk8s/common/run/containerd.sock"},
			Format:       FormatBundle,
			StateDirs:    []string{"/var/snap/microk8s/common/run/containerd"},
			Bundle:       containerdBundle,
			// snap/snapcraft.yaml; kubelite has had the kubelet since 1.21.
			Units: []string{
				"snap.microk8s.daemon-kubelite.service", "snap.microk8s.daemon-kubelet.service", "snap.microk8s.daemon-containerd.service",
				"snap.microk8s.daemon-k8s-dqlite.service",
			},
			Lacks: map[string]string{
				"CgroupPrefixes": asBundled, "CgroupParents": asBundled, "PodParents": noPods, "PodPrefixes": noPods,
				"InnerCgroup": noInner, "Daemons": asBundled, "Shims": asBundled, "Clients": asBundled,
			},
		},
	}
}

// ByCgroupPrefix returns the row whose containers' cgroups have that prefix, nil
// for an unknown prefix.
func (t Table) ByCgroupPrefix(prefix string) *Runtime {
	return t.find(func(r *Runtime) []string { return r.CgroupPrefixes }, prefix)
}

// ByCgroupParent returns the row whose containers stand in a directory of that
// name, nil for any other directory.
func (t Table) ByCgroupParent(name string) *Runtime {
	return t.find(func(r *Runtime) []string { return r.CgroupParents }, name)
}

// ByPodParent returns the row whose pods stand in a directory of that name, nil for
// any other directory.
func (t Table) ByPodParent(name string) *Runtime {
	return t.find(func(r *Runtime) []string { return r.PodParents }, name)
}

func (t Table) find(field func(*Runtime) []string, value string) *Runtime {
	for i := range t {
		for _, v := range field(&t[i]) {
			if v == value {
				return &t[i]
			}
		}
	}

	return nil
}

// Sockets lists the sockets of the CRI of all rows.
func (t Table) Sockets() []string {
	return t.collect(func(r *Runtime) []string { return r.Sockets })
}

// Binaries lists the names of all processes that act for a runtime: daemons,
// shims, clients, and the low-level runtimes that they run.
func (t Table) Binaries() []string {
	rows := t.collect(func(r *Runtime) []string {
		return append(append(append([]string(nil), r.Daemons...), r.Shims...), r.Clients...)
	})

	return append(rows, oci...)
}

// Shims lists the names of the parents of container processes.
func (t Table) Shims() []string {
	return t.collect(func(r *Runtime) []string { return r.Shims })
}

// Clients lists the commands with which people stop containers.
func (t Table) Clients() []string {
	return t.collect(func(r *Runtime) []string { return r.Clients })
}

// Units lists the systemd units of the daemons of all rows.
func (t Table) Units() []string {
	return t.collect(func(r *Runtime) []string { return r.Units })
}

func (t Table) collect(field func(*Runtime) []string) []string {
	var all []string
	for i := range t {
		all = append(all, field(&t[i])...)
	}

	return all
}
