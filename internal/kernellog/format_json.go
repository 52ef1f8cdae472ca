// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// jsonLine has the keys of the journal (systemd.journal-fields) and of docker's json-file.
type jsonLine struct {
	Message    json.RawMessage `json:"MESSAGE"`
	Realtime   string          `json:"__REALTIME_TIMESTAMP"`
	Source     string          `json:"_SOURCE_REALTIME_TIMESTAMP"`
	Monotonic  string          `json:"_SOURCE_MONOTONIC_TIMESTAMP"`
	BootID     string          `json:"_BOOT_ID"`
	Hostname   string          `json:"_HOSTNAME"`
	Transport  string          `json:"_TRANSPORT"`
	Identifier string          `json:"SYSLOG_IDENTIFIER"`
	Comm       string          `json:"_COMM"`
	PID        string          `json:"_PID"`

	Log  *string `json:"log"`
	Time string  `json:"time"`
}

// json reads a line of journalctl -o json, or of docker's json-file driver.
func (d *decoder) json(r *record, text string) (rest string, kind int, ok bool) {
	var j jsonLine
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return "", 0, false
	}

	if j.Log != nil {
		if t, ok := d.isoTime(j.Time); ok {
			r.wall = t
		}
		line, whole := strings.CutSuffix(*j.Log, "\n")
		r.torn = r.torn || !whole

		return strings.TrimSuffix(line, "\r"), isContainer, true
	}

	message, ok := journalMessage(j.Message)
	if !ok {
		return "", 0, false
	}

	if us, err := strconv.ParseInt(j.Realtime, 10, 64); err == nil && us > 0 && us < 1<<53 {
		r.wall = time.UnixMicro(us).UTC()
	}
	// The time that the program itself sent is closer to the event.
	if us, err := strconv.ParseInt(j.Source, 10, 64); err == nil && us > 0 && us < 1<<53 {
		r.wall = time.UnixMicro(us).UTC()
	}

	if us, err := strconv.ParseUint(j.Monotonic, 10, 64); err == nil && us < 1<<53 {
		r.uptimeNS, r.uptime = us*1000, true
	}

	r.host, r.boot = j.Hostname, bootID(j.BootID)
	if j.Transport != "kernel" && j.Identifier != "kernel" {
		r.program = j.Identifier
		if r.program == "" {
			r.program = j.Comm
		}

		if r.program == "" {
			r.program = "?"
		}
		r.pid, _ = strconv.Atoi(j.PID)
	}
	r.torn = false // the object is complete, so the message is

	return message, isSyslog | isUptime, true
}

// journalMessage decodes a message, which is a string, or a list of bytes if it is not text.
func journalMessage(raw json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, len(raw) > 0
	}

	var numbers []int
	if json.Unmarshal(raw, &numbers) != nil {
		return "", false
	}

	message := make([]byte, len(numbers))
	for i, n := range numbers {
		message[i] = byte(n)
	}

	return string(message), true
}

// bootID formats a boot id of 32 digits like /proc/sys/kernel/random/boot_id.
func bootID(s string) string {
	if len(s) != 32 {
		return s
	}

	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
