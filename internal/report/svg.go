// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
)

// The size and margins of a panel, in units of its view box.
const (
	svgWide, svgHalf  = 1100.0, 540.0
	svgLeft, svgRight = 70.0, 14.0
	svgTop, svgBottom = 16.0, 22.0
)

// drawing converts values to positions in a panel's picture.
type drawing struct {
	p     *Panel
	width float64
}

// SVG is the picture of a panel: grid, areas, lines, bars, limits and the kill. It has only
// numbers and labels of the panel, which the template escapes.
type SVG struct {
	Width, Height, Bottom, Left, Right, Kill float64
	Marker                                   string
	Grid                                     []Mark
	Times                                    []Mark
	Areas, Lines                             []Path
	Bars                                     []Bar
	Limits                                   []Mark
}

// Mark is a line across the picture at a value of an axis, with a label.
type Mark struct {
	At     float64
	Label  string
	Colour int
}

// Path is a polygon or a polyline.
type Path struct {
	D      string
	Colour int
}

// Bar is a rectangle.
type Bar struct {
	X, Y, W, H float64
	Colour     int
}

func round(v float64) float64 { return float64(int(v*10+0.5)) / 10 }

func (d drawing) x(v float64) float64 {
	return svgLeft + (v-d.p.Begin)/(-d.p.Begin+1)*(d.width-svgLeft-svgRight)
}

func (d drawing) y(v float64) float64 {
	h := float64(d.p.Height)
	return h - svgBottom - v/d.p.Max*(h-svgTop-svgBottom)
}

// SVG draws the panel.
func (p *Panel) SVG() SVG {
	d := drawing{p, svgHalf}
	if p.Wide {
		d.width = svgWide
	}

	s := SVG{
		Width: d.width, Height: float64(p.Height), Bottom: float64(p.Height) - svgBottom, Left: svgLeft, Right: d.width - svgRight,
		Kill: round(d.x(0)), Marker: p.Marker,
	}
	for _, t := range p.Ticks {
		s.Grid = append(s.Grid, Mark{At: round(d.y(t.At)), Label: t.Label})
	}

	for i, at := range p.Times[:len(p.Times)-1] {
		if p.Wide || i%2 == 0 {
			s.Times = append(s.Times, Mark{At: round(d.x(at)), Label: fmt.Sprintf("−%.3g s", -at)})
		}
	}
	width := round((d.x(1) - d.x(0)) * 0.7)

	for _, series := range p.Series {
		switch series.Kind {
		case "limit":
			s.Limits = append(s.Limits, Mark{round(d.y(series.Level)), series.Label + " " + series.Text, series.Colour})
		case "bars":
			for i, y := range series.Y {
				if y != nil && *y > 0 {
					top := min(d.y(*y), s.Bottom-1)
					s.Bars = append(s.Bars, Bar{round(d.x(*p.X[i]) - width/2), round(top), width, round(s.Bottom - top), series.Colour})
				}
			}
		default:
			line, area := d.trace(p, series)

			s.Lines = append(s.Lines, Path{line, series.Colour})
			if series.Kind == "area" {
				s.Areas = append(s.Areas, Path{area, series.Colour})
			}
		}
	}

	return s
}

// trace returns a line through the known values, and the area below it.
func (d drawing) trace(p *Panel, s Series) (line, area string) {
	var b strings.Builder
	var first, last float64

	for i, y := range s.Y {
		if y == nil {
			continue
		}
		last = round(d.x(*p.X[i]))

		command := "L"
		if b.Len() == 0 {
			command, first = "M", last
		}

		fmt.Fprintf(&b, "%s%g %g", command, last, round(d.y(*y)))
	}

	line = b.String()
	if line == "" {
		return "", ""
	}
	bottom := round(d.y(0))

	return line, fmt.Sprintf("%sL%g %gL%g %gZ", line, last, bottom, first, bottom)
}
