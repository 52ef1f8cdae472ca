// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the BPF programs: their C source, the compiled objects, and Go
// types of the records that the programs send. `make generate` makes the objects and
// types again; they are committed, so that building oomtrace needs only Go.
package bpf

// BPF2GO_CC and the directory of asm/types.h come from the Makefile.
//go:generate go run ./wiregen anchors
//go:generate go tool bpf2go -tags linux -no-global-types -target amd64,arm64 Oomtrace oomtrace.bpf.c
//go:generate go tool bpf2go -tags linux -no-global-types -target amd64,arm64 Stalls stalls.bpf.c
//go:generate go run ./wiregen types
