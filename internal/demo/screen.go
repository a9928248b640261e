package demo

import (
	"fmt"
	"io"
	"strings"
)

// screen writes the demo's steps.
type screen struct {
	w     io.Writer
	color bool
	steps int
}

// Styles are the parameters of ECMA-48's SGR.
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
)

func (s *screen) style(style, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// step begins the next numbered step.
func (s *screen) step(title string) {
	s.steps++
	fmt.Fprintf(s.w, "\n%s\n", s.style(bold, fmt.Sprintf("%d. %s", s.steps, title)))
}

func (s *screen) line(format string, args ...any) {
	fmt.Fprintf(s.w, "   %s\n", strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (s *screen) note(format string, args ...any) {
	s.line("%s", s.style(faint, fmt.Sprintf(format, args...)))
}

// block writes a text of several lines as it is.
func (s *screen) block(text string) {
	for _, l := range strings.Split(strings.Trim(text, "\n"), "\n") {
		s.line("%s", l)
	}
}

// verdict is a word in green or red.
func (s *screen) verdict(right bool) string {
	if right {
		return s.style(green, "right")
	}
	return s.style(red, "WRONG")
}

// drawing of the underlay; the addresses are padded to the boxes' width.
const drawing = `
 node1 %-22s node2 %-19s collector %s
+-------------------------+  +----------------------+  +----------------------+
| pod web                 |  | pod client           |  |                      |
|   eth0 --copy--> mirror |  |   eth0               |  |                      |
|    |               |    |  |    |                 |  |                      |
|   cni0           relay  |  |   cni0               |  |    UDP port 4789     |
+----+---------------+----+  +----+-----------------+  +----------^-----------+
     |               |            |                               |
     +--- packets ---|------------+                               |
                     +------- copies, in VXLAN with VNI %-3d ------+`
