package bench

import (
	"fmt"
	"slices"
	"strings"
)

// table is the results as text. Ratios are to the unsealed gateway (the floor), the sealed one, and no relay at all.
func (f *field) table(results map[load][]*run) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-20s %-17s %11s %9s %9s %8s %8s %8s\n", "load", "way", "requests/s", "p50 ms", "p99 ms", "x floor", "x sealed", "x direct")
	for _, l := range loads {
		runs := results[l]
		for i, r := range runs {
			if r.err != nil {
				fmt.Fprintf(&out, "%-20s %-17s %11s\n", l, f.paths[i].name, "fails")
				continue
			}
			slices.Sort(r.times)
			fmt.Fprintf(&out, "%-20s %-17s %11.1f %9.2f %9.2f %8s %8s %8s\n", l, f.paths[i].name, r.rate(), ms(r.at(0.5)), ms(r.at(0.99)),
				ratio(r, runs[atFloor]), ratio(r, runs[atSealed]), ratio(r, runs[atDirect]))
		}
	}
	return out.String()
}

func ratio(r, to *run) string {
	if to.err != nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.rate()/to.rate())
}

// The plot's measures in pixels.
const (
	barHeight, barGap, groupGap = 14, 2, 16
	labelWidth, barWidth        = 150, 420
	plotTop                     = 44
)

var colors = []string{"#9aa5b1", "#7b8794", "#f0a35e", "#c9772b", "#2f7ed8"}

// plot draws requests per second as a share of the direct way's, as SVG.
func (f *field) plot(results map[load][]*run) string {
	var out strings.Builder
	group := len(f.paths)*(barHeight+barGap) + groupGap
	height := plotTop + len(loads)*group
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11" fill="#3e4c59">`+"\n", labelWidth+barWidth+150, height)
	out.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	for i, p := range f.paths {
		fmt.Fprintf(&out, `<rect x="%d" y="10" width="12" height="12" fill="%s"/><text x="%d" y="20">%s</text>`+"\n", 16+i*136, colors[i], 32+i*136, p.name)
	}
	fmt.Fprintf(&out, `<text x="%d" y="36" font-size="10">requests per second; the bar's length is the share of direct</text>`+"\n", labelWidth)
	y := plotTop
	for _, l := range loads {
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-8, y+group/2-groupGap/2, l)
		for i, r := range results[l] {
			width, text := 0.0, "cannot carry it"
			if r.err == nil {
				width = min(1, r.rate()/results[l][atDirect].rate()) * barWidth
				text = fmt.Sprintf("%.*f", decimals(r.rate()), r.rate())
			}
			fmt.Fprintf(&out, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%s</text>`+"\n",
				labelWidth, y, width, barHeight, colors[i], labelWidth+width+4, y+barHeight-3, text)
			y += barHeight + barGap
		}
		y += groupGap
	}
	out.WriteString("</svg>\n")
	return out.String()
}

func decimals(v float64) int {
	if v < 100 {
		return 1
	}
	return 0
}
