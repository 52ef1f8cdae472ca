// SPDX-License-Identifier: Apache-2.0

package events

//go:generate go run ./schemagen -src . -o ../../docs/events.schema.json -reference ../../docs/events.md
