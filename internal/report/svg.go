// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The size and margins of a panel, in units of its view box.
const (
	svgWide, svgHalf  = 1100.0, 540.0
	svgLeft, svgRight = 70.0, 14.0
	svgTop, svgBottom = 12.0, 22.0
)

// picture is a panel as SVG. It has only numbers and labels of the panel, which the template
// escapes.
type picture struct {
	Width, Height, Bottom, Left, Right, Kill float64
	Marker                                   string
	Stroke                                   float64 // width of a bar
	Grid, Times                              []mark
	Shapes                                   []shape
	Limits                                   []mark
	Parts                                    []rect
}

// mark is a line across the picture at a value of an axis, with a label.
type mark struct {
	At     float64
	Label  string
	Colour string
}

// shape is an area, a line, or a row of bars: a path of one class.
type shape struct{ D, Class string }

// rect is a part of a charge.
type rect struct {
	X, Y, W, H float64
	Colour     string
}

// round leaves one decimal.
func round(v float64) float64 { return math.Round(v*10) / 10 }

// drawing converts values to positions in a panel's picture, in whole units, which are shorter.
type drawing struct {
	c     *charts
	p     *panel
	width float64
}

func (d drawing) x(v float64) float64 {
	return math.Round(svgLeft + (v-d.c.Begin)/(d.c.End-d.c.Begin)*(d.width-svgLeft-svgRight))
}

func (d drawing) y(v float64) float64 {
	h := float64(d.p.Height)
	return math.Round(h - svgBottom - min(v/d.p.Max, 1)*(h-svgTop-svgBottom))
}

// pen writes a path. Its points are relative to the one before, which is shorter.
type pen struct {
	strings.Builder
	x, y float64
}

// to draws a line to a point, or begins with it.
func (p *pen) to(x, y float64) {
	switch dx, dy := x-p.x, y-p.y; {
	case p.Len() == 0:
		fmt.Fprintf(p, "M%g %g", x, y)
	case dy == 0:
		fmt.Fprintf(p, "h%g", dx)
	case dx == 0:
		fmt.Fprintf(p, "v%g", dy)
	case dy < 0:
		fmt.Fprintf(p, "l%g%g", dx, dy)
	default:
		fmt.Fprintf(p, "l%g %g", dx, dy)
	}

	p.x, p.y = x, y
}

// figure is a panel with its picture. The first alone has one: the file has hundreds of panels, and
// without JavaScript the captions of the others have their highest values.
type figure struct {
	panel
	SVG *picture
}

// Figures are the panels with their pictures.
func (c *charts) Figures() []figure {
	var all []figure
	for i := range c.Panels {
		all = append(all, figure{panel: c.Panels[i]})
	}

	first := c.draw(&c.Panels[0])
	all[0].SVG = &first

	return all
}

func (c *charts) draw(p *panel) picture {
	d := drawing{c, p, svgHalf}
	if p.Wide {
		d.width = svgWide
	}

	s := picture{
		Width: d.width, Height: float64(p.Height), Bottom: float64(p.Height) - svgBottom, Left: svgLeft, Right: d.width - svgRight,
		Kill: d.x(0), Marker: c.Marker, Stroke: max(1, round((d.x(1)-d.x(0))*0.7)),
	}
	for _, t := range p.Ticks {
		s.Grid = append(s.Grid, mark{At: d.y(t.At), Label: t.Label})
	}

	for i, at := range c.Times[:len(c.Times)-1] {
		if p.Wide || (len(c.Times)-i)%2 == 1 { // counted from the kill
			s.Times = append(s.Times, mark{At: d.x(at), Label: fmt.Sprintf("−%.3g s", -at)})
		}
	}

	below := make([]float64, len(c.X))

	for _, series := range p.Series {
		switch series.Kind {
		case kindLimit:
			s.Limits = append(s.Limits, mark{d.y(series.Level), "", series.Colour})
		case kindBars:
			s.Shapes = append(s.Shapes, shape{d.bars(series.Y, below), "bars " + series.Colour})
		case kindArea:
			s.Shapes = append(s.Shapes, shape{d.area(series.Y, below), "area " + series.Colour})
		default:
			s.Shapes = append(s.Shapes, shape{d.line(series.Y), "line " + series.Colour})
		}
	}

	from, to := 0.0, 0.0
	x := d.x(c.End * 0.25)

	for _, part := range p.Parts {
		from, to = to, to+part.Value
		s.Parts = append(s.Parts, rect{x, d.y(to), d.x(c.End*0.95) - x, d.y(from) - d.y(to), part.Colour})
	}

	return s
}

// bars are strokes in the middle of their seconds, on top of those before.
func (d drawing) bars(y []value, below []float64) string {
	var p pen

	for i, v := range y {
		if v == nil || *v <= 0 {
			continue
		}

		from, to := d.y(below[i]), d.y(below[i]+*v)
		below[i] += *v
		fmt.Fprintf(&p, "M%g %gv%g", d.x(d.c.X[i]-0.5), from, min(to-from, -1))
	}

	return p.String()
}

func (d drawing) line(y []value) string {
	var p pen

	for i, v := range y {
		if v != nil {
			p.to(d.x(d.c.X[i]), d.y(*v))
		}
	}

	return p.String()
}

// area is what is between the values and those below them.
func (d drawing) area(y []value, below []float64) string {
	var (
		p      pen
		bottom [][2]float64
	)

	flat := true

	for i, v := range y {
		if v == nil {
			continue
		}

		x := d.x(d.c.X[i])
		flat = flat && below[i] == 0
		bottom = append(bottom, [2]float64{x, d.y(below[i])})
		below[i] += *v
		p.to(x, d.y(below[i]))
	}

	if len(bottom) == 0 {
		return ""
	}

	slices.Reverse(bottom)

	if flat { // its ends are enough
		bottom = [][2]float64{bottom[0], bottom[len(bottom)-1]}
	}

	for _, at := range bottom {
		p.to(at[0], at[1])
	}

	return p.String() + "Z"
}
