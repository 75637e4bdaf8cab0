package main_test

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// curve is how a figure grows.
type curve struct {
	file, title string // of docs/performance
	x, y        string // what the axes say
	lines       []line
}

// line is one of a curve's lines.
type line struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// at is the value at x, NaN for none.
func (l line) at(x float64) float64 {
	for _, p := range l.points {
		if p.x == x {
			return p.y
		}
	}
	return math.NaN()
}

// xs are the values of x of all lines, in order.
func (c curve) xs() []float64 {
	var xs []float64
	for _, l := range c.lines {
		for _, p := range l.points {
			xs = append(xs, p.x)
		}
	}
	slices.Sort(xs)
	return slices.Compact(xs)
}

// table writes the curve's points in Markdown.
func (c curve) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", c.x)
	for _, l := range c.lines {
		fmt.Fprintf(&b, " %s |", l.name)
	}
	b.WriteString("\n|--:|" + strings.Repeat("--:|", len(c.lines)) + "\n")
	for _, x := range c.xs() {
		fmt.Fprintf(&b, "| %s |", count(x))
		for _, l := range c.lines {
			if y := l.at(x); math.IsNaN(y) {
				b.WriteString(" |")
			} else {
				fmt.Fprintf(&b, " %s |", micros(y*1e3))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// The plot's size and margins, in pixels; the right one has the lines' names.
const (
	plotWidth, plotHeight                = 720, 340
	plotLeft, plotRight, plotTop, bottom = 64, 210, 44, 48
)

// plotStyle reads on a light and on a dark page.
const plotStyle = `
  text { font: 13px ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 15px; fill: #1f2328 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .l0 { stroke: #1f5fbf; fill: #1f5fbf } .l1 { stroke: #b35900; fill: #b35900 } .l2 { stroke: #1a7f37; fill: #1a7f37 } .l3 { stroke: #8250df; fill: #8250df }
  path { fill: none !important; stroke-width: 2 }
  text.l0, text.l1, text.l2, text.l3 { stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .title { fill: #f0f6fc } .grid { stroke: #3d444d }
    .l0 { stroke: #6cb0ff; fill: #6cb0ff } .l1 { stroke: #f0a657; fill: #f0a657 } .l2 { stroke: #56d364; fill: #56d364 } .l3 { stroke: #c5a5ff; fill: #c5a5ff }
  }
`

// plot draws the curve, x by its logarithm and y from zero.
func (c curve) plot() string {
	xs := c.xs()
	first, last, most := math.Log10(xs[0]), math.Log10(xs[len(xs)-1]), 0.0
	for _, l := range c.lines {
		for _, p := range l.points {
			most = max(most, p.y)
		}
	}
	step := tick(most)
	top := math.Ceil(most/step) * step
	px := func(x float64) float64 {
		return plotLeft + (math.Log10(x)-first)/max(last-first, 1e-9)*(plotWidth-plotLeft-plotRight)
	}
	py := func(y float64) float64 { return plotHeight - bottom - y/top*(plotHeight-plotTop-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"t\">\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, "<title id=\"t\">%s: %s by %s</title>\n<style>%s</style>\n", html.EscapeString(c.title), html.EscapeString(c.y), html.EscapeString(c.x), plotStyle)
	fmt.Fprintf(&b, "<text class=\"title\" x=\"%d\" y=\"20\">%s</text>\n", 12, html.EscapeString(c.title+": "+c.y))
	for y := 0.0; y <= top+step/2; y += step {
		fmt.Fprintf(&b, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			plotLeft, plotWidth-plotRight, py(y), py(y), plotLeft-8, py(y)+4, html.EscapeString(micros(y*1e3)))
	}
	for x := math.Ceil(first); x <= last+1e-9; x++ {
		at := px(math.Pow(10, x))
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", at, plotHeight-bottom+20, count(math.Pow(10, x)))
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", (plotLeft+plotWidth-plotRight)/2, plotHeight-6, html.EscapeString(c.x))
	named := math.Inf(1)
	order := slices.SortedFunc(slices.Values(numbered(c.lines)), func(a, b numberedLine) int { return int(a.end() - b.end()) })
	for _, l := range order {
		var path strings.Builder
		for i, p := range l.points {
			fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], px(p.x), py(p.y))
			fmt.Fprintf(&b, "<circle class=\"l%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", l.number, px(p.x), py(p.y))
		}
		named = min(py(l.end())+4, named-18) // names do not overlap
		fmt.Fprintf(&b, "<path class=\"l%d\" d=\"%s\"/>\n<text class=\"l%d\" x=\"%d\" y=\"%.1f\">%s</text>\n",
			l.number, path.String(), l.number, plotWidth-plotRight+12, named, html.EscapeString(l.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

type numberedLine struct {
	line
	number int
}

func (l line) end() float64 { return l.points[len(l.points)-1].y }

func numbered(lines []line) []numberedLine {
	list := make([]numberedLine, len(lines))
	for i, l := range lines {
		list[i] = numberedLine{l, i}
	}
	return list
}

// tick is a round distance of at most five lines up to most.
func tick(most float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(max(most, 1e-3))))
	for _, times := range []float64{0.2, 0.5, 1, 2} {
		if most/(unit*times) <= 5 {
			return unit * times
		}
	}
	return unit * 5
}
