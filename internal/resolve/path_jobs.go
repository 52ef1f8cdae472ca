// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// The managers of jobs, as Job.Manager publishes them.
const (
	managerSlurm    = "slurm"
	managerHTCondor = "htcondor"
	managerPBS      = "pbs"
	managerTorque   = "torque"
	managerYARN     = "yarn"
	managerMesos    = "mesos"
	managerNomad    = "nomad"
	managerECS      = "ecs"
	managerGarden   = "garden"
	managerBuildKit = "buildkit"
)

// jobs recognizes the jobs of schedulers, and parts of them.
func (w *walk) jobs(name string) bool {
	return w.slurmJob(name) || w.ecsTask(name) || w.nomadTask(name) || w.batchJob(name) || w.buildStep(name)
}

func (w *walk) job(manager, kind, id, unit string) bool {
	return w.enter(level{kind: kindJob, name: unit, job: &events.Job{Manager: manager, Kind: kind, ID: id}})
}

// jobOf returns the job that the cgroup reached is, nil if it is none of that manager.
func (w *walk) jobOf(manager string) *events.Job {
	if !w.at(kindJob) || w.last().job.Manager != manager {
		return nil
	}

	return w.last().job
}

// slurmJob recognizes the jobs, steps and tasks of Slurm:
// /slurm[_node]/uid_N/job_N/step_X/task_N on cgroup v1 (cgroup_v1.c),
// [node_]slurmstepd.scope/job_N/step_X/{slurm,user}/task_N on cgroup v2 (cgroup_v2.c). The child
// "slurm" of a step has slurmstepd, not the job's processes.
func (w *walk) slurmJob(name string) bool {
	if name == "slurm" || strings.HasPrefix(name, "slurm_") || strings.HasSuffix(name, "slurmstepd.scope") {
		w.slurm, w.slurmUser = true, ""
		return false
	}

	if !w.slurm {
		return false
	}
	prefix, id, _ := strings.Cut(name, "_")

	switch job := w.jobOf(managerSlurm); {
	case id == "":
		return false
	case job == nil && prefix == "uid" && isNumber(id):
		w.slurmUser = id
	case job == nil && prefix == "job" && isWord(id):
		w.job(managerSlurm, "job", id, "")
		w.last().job.User = w.slurmUser

		return true
	case job != nil && prefix == "step" && job.Step == "":
		job.Step, w.last().inner = id, "user"
		return true
	case job != nil && prefix == "task" && job.Step != "" && job.Task == "":
		job.Task = id
		return true
	}

	return false
}

// ecsTask recognizes the tasks of Amazon ECS, and the containers of Fargate, which have ids
// of their own kind: /ecs/<task>/<task>-<number>.
func (w *walk) ecsTask(name string) bool {
	if task := w.jobOf(managerECS); task != nil {
		number, ok := strings.CutPrefix(name, task.ID+"-")
		return ok && isNumber(number) && w.container(nil, name, false)
	}

	if w.parent == "ecs" && isTaskID(name) {
		return w.job(managerECS, "task", name, "")
	}

	if id, ok := cutBoth(name, "ecstasks-", ".slice"); ok && isTaskID(id) {
		return w.job(managerECS, "task", id, name)
	}

	return false
}

func isTaskID(s string) bool { return len(s) == 32 && IsHex(s) || isUUID(s, "-_") }

// nomadTask recognizes the allocations and tasks of Nomad: /nomad/<allocation>[.<task>] on cgroup
// v1, and on cgroup v2 nomad.slice[/share.slice|/reserve.slice]/<allocation>.<task>.scope.
func (w *walk) nomadTask(name string) bool {
	if !isNomad(w.parent) && !isNomad(w.above) || len(name) < 36 || !isUUID(name[:36], "-") {
		return false
	}
	unit := ""

	task, isUnit := strings.CutSuffix(name[36:], ".scope")
	if isUnit {
		unit = name
	}

	if task == "" {
		return w.job(managerNomad, "allocation", name[:36], unit)
	}

	task, ok := strings.CutPrefix(task, ".")
	if !ok || task == "" {
		return false
	}

	w.job(managerNomad, "task", name[:36], unit)
	w.last().job.Task = task

	return true
}

func isNomad(name string) bool { return name == "nomad" || name == "nomad.slice" }

// batchJob recognizes what other schedulers run.
func (w *walk) batchJob(name string) bool {
	switch {
	case (w.parent == "jobid" || w.parent == "jobs") && strings.HasPrefix(w.above, "pbs"):
		return w.job(managerPBS, "job", name, "")
	case w.parent == "torque":
		return w.job(managerTorque, "job", name, "")
	case w.parent == "mesos" && isUUID(name, "-"):
		return w.job(managerMesos, "container", name, "")
	case w.parent == "garden" && name != "good" && name != "bad",
		w.above == "garden" && (w.parent == "good" || w.parent == "bad"):
		return w.job(managerGarden, "container", name, "")
	case isYARNContainer(name):
		return w.job(managerYARN, "container", name, "")
	}

	slot, ok := condorSlot(name)

	return ok && w.job(managerHTCondor, "slot", slot, "")
}

// isYARNContainer reports whether a name is container_[e<epoch>_]<cluster>_<application>_
// <attempt>_<number> (ContainerId.java).
func isYARNContainer(name string) bool {
	rest, ok := strings.CutPrefix(name, "container_")
	if !ok {
		return false
	}

	if epoch, after, _ := strings.Cut(rest, "_"); strings.HasPrefix(epoch, "e") && isNumber(epoch[1:]) {
		rest = after
	}

	groups := 0

	for group := range strings.SplitSeq(rest, "_") {
		if !isNumber(group) {
			return false
		}

		groups++
	}

	return groups == 4
}

// condorSlot parses the cgroup of a slot of HTCondor, which is named by its execute directory
// and slot: condor_var_lib_condor_execute_slot1_3@host, condor_slot1_3.
func condorSlot(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "condor_")
	if !ok {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "@")

	at := strings.LastIndex(rest, "slot")
	if at < 0 || at > 0 && rest[at-1] != '_' {
		return "", false
	}
	number, part, parted := strings.Cut(rest[at+len("slot"):], "_")

	return rest[at:], isNumber(number) && (!parted || isNumber(part))
}

// buildStepIDLen is the length of BuildKit's ids (identity.NewID): 25 letters and digits, where
// a container's id has 64.
const buildStepIDLen = 25

// buildStep recognizes a step of a build by BuildKit: docker-<id>.scope, slice:docker:<id>,
// /docker/buildkit/<id>.
func (w *walk) buildStep(name string) bool {
	if len(name) < buildStepIDLen {
		return false
	}

	if _, prefix, id, ok := cutColons(name); ok {
		return isBuilder(prefix) && isBuildStepID(id) && w.job(managerBuildKit, "build_step", id, "")
	}

	if scope, ok := strings.CutSuffix(name, ".scope"); ok {
		prefix, id, _ := strings.Cut(scope, "-")
		return isBuilder(prefix) && isBuildStepID(id) && w.job(managerBuildKit, "build_step", id, name)
	}

	return isBuilder(w.parent) && isBuildStepID(name) && w.job(managerBuildKit, "build_step", name, "")
}

func isBuilder(prefix string) bool { return prefix == "docker" || prefix == "buildkit" }

func isBuildStepID(s string) bool {
	if len(s) != buildStepIDLen {
		return false
	}

	for _, c := range []byte(s) {
		if !isAlphanumeric(c) || c >= 'A' && c <= 'Z' {
			return false
		}
	}

	return true
}

// isWord reports whether s has nothing but letters and digits, and one at least.
func isWord(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) {
			return false
		}
	}

	return s != ""
}
