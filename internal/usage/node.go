// SPDX-License-Identifier: Apache-2.0

package usage

// node reads the memory of the machine. What cannot be read is not known.
func (s *Sampler) node() Node {
	var n Node

	if text, err := s.meminfo.read(s.opts.Root, "proc/meminfo", s.buf, true); err == nil {
		n.TotalBytes, n.AvailableBytes = kilobytes(text, "MemTotal:"), kilobytes(text, "MemAvailable:")
		n.SwapTotalBytes, n.SwapFreeBytes = kilobytes(text, "SwapTotal:"), kilobytes(text, "SwapFree:")
	}

	if text, err := s.pressure.read(s.opts.Root, "proc/pressure/memory", s.buf, true); err == nil {
		n.PSISome = pressureAvg10(text)
	}

	return n
}

func kilobytes(text []byte, name string) Value[uint64] {
	n := key(text, name)
	n.V *= 1024

	return n
}
