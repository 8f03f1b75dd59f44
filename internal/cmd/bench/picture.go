package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed picture.svg.tmpl
var pictureTemplate string

// Sizes in the picture, in pixels.
const (
	pictureWidth = 1000
	barsTop      = 68  // of the first bar
	barsLeft     = 330 // where the scale begins
	barsRight    = 730
	barStep      = 25
	curveLeft    = 70
	curveRight   = 770
	curveHeight  = 200
)

// reachOfBars is the most times better or worse than wanted that bars show. Longer ones end there.
const reachOfBars = 16

// place is a point, with the label that belongs to it.
type place struct {
	X, Y  float64
	Label string
}

// picture is what its template draws.
type picture struct {
	Width, Height float64
	Title         string
	Bars          *bars
	Curve         *lines
}

// bars show how many times better than wanted each number is, on a logarithmic scale.
type bars struct {
	Left, Middle, Right, Bottom float64
	Grid                        []place
	Rows                        []bar
}

type bar struct {
	X, Y, Width                   float64
	Label, Value, Wanted, Verdict string
}

// lines show a curve.
type lines struct {
	Title                    string
	Left, Right, Top, Bottom float64
	HeldFrom, HeldWidth      float64
	Bound, BoundY            float64
	BoundName                string
	Rows, Columns            []place
	Lines                    []line
}

type line struct {
	Class, Name string
	NameY       float64
	Points      []place
}

// draw makes the picture of a report.
func (r *report) draw() ([]byte, error) {
	p := picture{Width: pictureWidth, Height: 20, Title: "What was measured beside what is wanted, times better or worse"}
	if p.Bars = r.bars(); p.Bars != nil {
		p.Height = p.Bars.Bottom + 36
	}
	if p.Curve = r.curve.lines(p.Height + 56); p.Curve != nil {
		p.Height = p.Curve.Bottom + 40
	}
	var out bytes.Buffer
	t := template.New("picture").Funcs(template.FuncMap{
		"add": func(a float64, b any) float64 { return a + toFloat(b) },
		"sub": func(a float64, b any) float64 { return a - toFloat(b) },
		"xml": func(s string) (string, error) {
			var b strings.Builder
			err := xml.EscapeText(&b, []byte(s))
			return b.String(), err
		},
	})
	t, err := t.Parse(pictureTemplate)
	if err != nil {
		return nil, err
	}
	err = t.Execute(&out, p)
	return out.Bytes(), err
}

func toFloat(v any) float64 {
	if n, ok := v.(int); ok {
		return float64(n)
	}
	return v.(float64)
}

func (r *report) bars() *bars {
	b := &bars{Left: barsLeft, Middle: (barsLeft + barsRight) / 2, Right: barsRight}
	// x is where a number stands that is so many times better than wanted.
	x := func(reached float64) float64 {
		share := math.Log(reached) / math.Log(reachOfBars)
		return rounded(b.Middle + max(-1, min(1, share))*(b.Right-b.Left)/2)
	}
	y := float64(barsTop)
	for _, result := range r.results {
		if result.label == "" || result.wanted.unit == 0 || math.IsNaN(result.value) {
			continue
		}
		end := x(result.wanted.reached(result.value))
		b.Rows = append(b.Rows, bar{
			X: min(end, b.Middle), Y: y, Width: max(1, math.Abs(end-b.Middle)),
			Label: result.label, Value: result.wanted.unit.format(result.value), Wanted: result.wanted.String(),
			Verdict: result.wanted.verdict(result.value),
		})
		y += barStep
	}
	if len(b.Rows) == 0 {
		return nil
	}
	b.Bottom = y
	for _, n := range []float64{16, 4} {
		b.Grid = append(b.Grid, place{X: x(1 / n), Label: fmt.Sprintf("1/%.0f", n)}, place{X: x(n), Label: fmt.Sprintf("%.0f ×", n)})
	}
	return b
}

// lines returns nil if there is no curve.
func (c curve) lines(top float64) *lines {
	if len(c.points) == 0 {
		return nil
	}
	before, _, _ := c.summary()
	l := &lines{
		Title: fmt.Sprintf("A drain pass while a transaction keeps Postgres from cleaning up, %s upserts a second", grouped(c.rate)),
		Left:  curveLeft, Right: curveRight, Top: top, Bottom: top + curveHeight,
		BoundName: fmt.Sprintf("wanted %s", atMost(wantedOfPass*before, seconds)),
	}
	most := wantedOfPass * before
	for _, p := range c.points {
		most = max(most, p.pass, p.lag)
	}
	end := c.points[len(c.points)-1].at
	x := func(at time.Duration) float64 {
		return rounded(l.Left + (l.Right-l.Left)*at.Seconds()/end.Seconds())
	}
	step := niceStep(most / 4)
	y := func(v float64) float64 { return rounded(l.Bottom - (l.Bottom-l.Top)*v/(step*math.Ceil(most/step))) }
	for v := 0.0; v <= most+step*0.999; v += step {
		l.Rows = append(l.Rows, place{Y: y(v), Label: fmt.Sprintf("%.3g s", v)})
	}
	l.Columns = append(l.Columns, place{X: x(0), Label: "0 s"})
	for every, i := (len(c.points)+9)/10, 0; i < len(c.points); i++ {
		if (i+1)%every == 0 {
			l.Columns = append(l.Columns, place{X: x(c.points[i].at), Label: fmt.Sprintf("%.0f s", c.points[i].at.Seconds())})
		}
	}
	pass, lag := line{Class: "pass", Name: "a pass, median"}, line{Class: "lag", Name: "lag, largest"}
	for _, p := range c.points {
		pass.Points = append(pass.Points, place{X: x(p.at), Y: y(p.pass)})
		lag.Points = append(lag.Points, place{X: x(p.at), Y: y(p.lag)})
	}
	l.Lines = []line{pass, lag}
	l.HeldFrom, l.HeldWidth = x(c.from), x(c.till)-x(c.from)
	l.Bound = y(wantedOfPass * before)
	l.placeNames()
	return l
}

// placeNames puts the names where the lines end, and apart from each other.
func (l *lines) placeNames() {
	names := []*float64{&l.BoundY}
	l.BoundY = l.Bound
	for i := range l.Lines {
		last := l.Lines[i].Points
		l.Lines[i].NameY = last[len(last)-1].Y
		names = append(names, &l.Lines[i].NameY)
	}
	slices.SortFunc(names, func(a, b *float64) int { return cmp.Compare(*a, *b) })
	for i := len(names) - 2; i >= 0; i-- {
		*names[i] = min(*names[i], *names[i+1]-17)
	}
}

// niceStep is the number at or above v that is 1, 2 or 5 times a power of ten.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= v {
			return n * power
		}
	}
	return 10 * power
}

func rounded(v float64) float64 { return math.Round(10*v) / 10 }

// writePicture writes the picture into a file.
func (r *report) writePicture(path string) error {
	svg, err := r.draw()
	if err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	return os.WriteFile(path, svg, 0o644)
}
