package main_test

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// table writes rows in Markdown.
func table(rows []*row) string {
	var b strings.Builder
	b.WriteString("| Over | Call | calls/s | p50 | p99 | CPU of the server | of a null's CPU | of a null's calls/s |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.wire, r.name,
			count(r.median(sample.rate)), micros(r.median(func(s sample) float64 { return float64(s.p50) })),
			micros(r.median(func(s sample) float64 { return float64(s.p99) })), micros(r.median(func(s sample) float64 { return float64(s.cpu) })),
			r.ratio(func(s sample) float64 { return float64(s.cpu) }), r.ratio(sample.rate))
	}
	return b.String()
}

// ratio is the median of a figure over that of the null next to it.
func (r *row) ratio(figure func(sample) float64) string {
	if len(r.samples) == 0 || r.samples[0].null == nil {
		return ""
	}
	return digits(r.median(func(s sample) float64 { return figure(s) / figure(*s.null) }))
}

// digits is a ratio with the digits that matter.
func digits(n float64) string {
	switch {
	case n >= 10:
		return count(math.Round(n))
	case n >= 0.095:
		return fmt.Sprintf("%.2f", n)
	default:
		return fmt.Sprintf("%.2g", n)
	}
}

// count is a number with a comma at the thousands.
func count(n float64) string {
	if n < 10 && n != math.Trunc(n) {
		return fmt.Sprintf("%.1f", n)
	}
	text := fmt.Sprintf("%.0f", n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// micros is a time in nanoseconds with two or three digits that matter.
func micros(ns float64) string {
	switch d := time.Duration(ns); {
	case ns == 0:
		return "0"
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.2f µs", ns/1e3)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", ns/1e3)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", ns/1e6)
	default:
		return fmt.Sprintf("%.0f ms", ns/1e6)
	}
}
