// Package demo shows podtap working: on two nodes made of network namespaces it
// adds a pod with a tap and one without through libcni, as a container runtime
// does, sends packets between them, compares what the pod sent and received with
// the copies that a collector got, and checks that DEL leaves nothing. Whatever
// it prints, it has measured.
package demo

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/tap"
)

// Options of the demo.
type Options struct {
	BinDir string // has the plugins podtap, bridge and host-local
	Color  bool   // the writer is a terminal that shows colours

	// sabotage, in tests, does something to the tapped pod before the traffic.
	sabotage func(web *lab.Space)
}

// Run runs the demo in the lab, which the program has entered and prepared. Its
// error says what was not as it should be.
func Run(w io.Writer, o Options) error {
	begin := time.Now()
	if !lab.Inside() {
		return errors.New("the demo runs in the lab's namespaces only; enter them first")
	}
	if err := FindPlugins(o.BinDir); err != nil {
		return err
	}
	d := &demo{options: o, screen: &screen{w: w, color: o.Color}}
	d.t = &session{log: func(line string) { d.screen.note("%s", line) }}
	if err := d.t.run(d.play); err != nil {
		return err
	}
	want, identical := total(d.rows)
	seconds := time.Since(begin).Seconds()
	if len(d.problems) > 0 {
		fmt.Fprintf(w, "\n%s\n", d.screen.style(red, fmt.Sprintf("WRONG: %d of %d packets copied, %d problems (%.1f s)", identical, want, len(d.problems), seconds)))
		return errors.New("not everything was as it should be:\n  " + strings.Join(d.problems, "\n  "))
	}
	fmt.Fprintf(w, "\n%s (%.1f s)\n", d.screen.style(green, fmt.Sprintf("all counts right: %d of %d packets copied, nothing left", identical, want)), seconds)
	return nil
}

// demo is one run.
type demo struct {
	options  Options
	screen   *screen
	t        *session
	cluster  *cluster
	web      *pod // has a tap
	client   *pod // has none
	before   map[*lab.Space][]string
	rows     []row
	problems []string
}

func (d *demo) problem(what string) { d.problems = append(d.problems, what) }

// play is the demo's story.
func (d *demo) play() {
	d.build()
	d.configure()
	collector := listen(d.t, d.cluster.collector)
	d.add()
	if d.options.sabotage != nil {
		d.options.sabotage(d.web.Space)
	}
	frames := d.exchange(collector)
	arrivals := d.show(collector)
	d.count(frames, arrivals)
	d.check()
	d.delete()
}

func (d *demo) build() {
	d.screen.step("Two nodes and a collector, as network namespaces of this process")
	c := newCluster(d.t, d.options.BinDir)
	d.cluster = c
	d.screen.block(fmt.Sprintf(drawing, c.node1.IPv4(), c.node2.IPv4(), c.collector.IPv4(), vni))
}

// configure shows the two texts that make a tap, and makes the pods' namespaces.
func (d *demo) configure() {
	address := d.cluster.collector.IPv4()
	d.screen.step("The administrator chains podtap behind the nodes' bridge plugin")
	d.screen.block(podtapEntry(address))
	d.screen.step("A pod's author asks for copies, with one annotation")
	text := annotation(address)
	d.screen.line("pod web     %s: '%s'", cniconf.AnnotationKey, text)
	d.screen.line("pod client  no annotation")
	d.web = d.cluster.node1.newPod(d.t, "web", tapAnnotation(text))
	d.client = d.cluster.node2.newPod(d.t, "client", map[string]string{})
	d.before = map[*lab.Space][]string{}
	for _, s := range d.spaces() {
		d.before[s] = inventory(d.t, s)
	}
}

// spaces are the namespaces that CNI works on.
func (d *demo) spaces() []*lab.Space {
	return []*lab.Space{d.cluster.node1.Space, d.cluster.node2.Space, d.web.Space, d.client.Space}
}

func (d *demo) add() {
	d.screen.step("The nodes' runtimes add both pods, through libcni")
	for _, p := range []*pod{d.web, d.client} {
		p.add(d.t)
		d.screen.line("ADD %-6s on %s  %-13s %-13s %4d ms", p.Name, p.node.Name, p.ip[0], p.ip[1], p.setup.Milliseconds())
	}
	inPod, onNode := ours(d.t, d.web.Space), ours(d.t, d.cluster.node1.Space)
	d.screen.line("podtap's devices: %s in web; %s on node1", strings.Join(inPod, ", "), strings.Join(onNode, ", "))
	if len(inPod) == 0 || len(onNode) == 0 {
		d.problem("ADD succeeded, but podtap made no devices for the tapped pod")
	}
	if found := d.tracesOn(d.client); len(found) > 0 {
		d.problem("podtap touched a pod without taps: " + strings.Join(found, ", "))
	} else {
		d.screen.line("podtap's devices: none in client, none on node2; no hook or filter on client's eth0")
	}
}

// tracesOn is what podtap left at a pod: devices, or hooks on the pod's interface.
func (d *demo) tracesOn(p *pod) []string {
	found := append(ours(d.t, p.Space), ours(d.t, p.node.Space)...)
	for _, item := range inventory(d.t, p.Space) {
		if strings.HasPrefix(item, "filter ") || strings.HasPrefix(item, "qdisc clsact ") {
			found = append(found, item)
		}
	}
	return found
}

// exchange makes the traffic and returns what a packet socket saw of it on the
// tapped pod's interface.
func (d *demo) exchange(collector *collector) []lab.Frame {
	d.screen.step("The pods talk")
	atPod := d.web.Capture("eth0")
	d.traffic(collector.settle)
	frames := atPod.Settle(2*pings + 2*datagrams)
	atPod.Stop()
	return frames
}

// show prints the first copies that arrived, and sums up the rest.
func (d *demo) show(collector *collector) []arrival {
	const most = 12
	d.screen.step(fmt.Sprintf("What arrives at the collector, %s port %d", d.cluster.collector.IPv4(), tap.DefaultPort))
	arrivals, strange := collector.received()
	mac := d.mac()
	rest := map[kind]int{}
	for i, a := range arrivals {
		p := decode(a.frame, mac)
		if a.vni != vni {
			d.problem(fmt.Sprintf("a copy has VNI %d, not %d: %s", a.vni, vni, p.text))
		}
		if i >= most {
			rest[p.kind]++
			continue
		}
		d.screen.line("%s  vni %d  %s", a.at.Format("15:04:05.000"), a.vni, p.text)
	}
	if strange > 0 {
		d.problem(fmt.Sprintf("%d datagrams at the collector are not VXLAN", strange))
	}
	if len(arrivals) > most {
		d.screen.note("… and %d more: %d ICMP, %d UDP, %d ARP and ND, %d IGMP and MLD, %d other", len(arrivals)-most,
			rest[kindICMP], rest[kindUDP], rest[kindNeighbours], rest[kindMulticast], rest[kindOther])
	}
	return arrivals
}

func (d *demo) mac() net.HardwareAddr { return d.web.Link("eth0").Attrs().HardwareAddr }

// count compares the packets on the pod's interface with the copies.
func (d *demo) count(frames []lab.Frame, arrivals []arrival) {
	d.screen.step("The packets at web's eth0, and their copies at the collector")
	mac := d.mac()
	var atPod, copies []packet
	for _, f := range frames {
		atPod = append(atPod, decode(f.Data, mac))
	}
	for _, a := range arrivals {
		copies = append(copies, decode(a.frame, mac))
	}
	d.rows = compare(expected(), atPod, copies)
	const columns = "%-9s  %-15s  %8v %8v %8v %9v   %s"
	d.screen.line(columns, "", "", "expected", "at eth0", "copied", "identical", "")
	unseen := 0
	for _, r := range d.rows {
		var want any = "any"
		verdict := d.screen.style(faint, "extra")
		if r.judged {
			want, verdict = r.want, d.screen.verdict(r.wrong() == "")
		} else {
			unseen += r.copied - r.identical
		}
		d.screen.line(columns, r.kind, r.direction()+" by web", want, r.atPod, r.copied, r.identical, verdict)
		if wrong := r.wrong(); wrong != "" {
			d.problem(wrong)
		}
	}
	d.screen.note("identical: every byte from the Ethernet header on, but for UDP checksums, left to network cards")
	d.screen.note("extra: what a network says by itself; %d not seen at eth0, where we look from step 5 on", unseen)
}

// check asks the plugins whether all is as ADD made it.
func (d *demo) check() {
	d.screen.step("The runtimes check the pods, and delete them")
	for _, p := range []*pod{d.web, d.client} {
		if err := p.node.runtime.Check(p.node.conflist, p.sandbox); err != nil {
			d.problem(fmt.Sprintf("CHECK of the pod %s: %v", p.Name, err))
			d.screen.line("CHECK %-6s  %s", p.Name, d.screen.style(red, "objects; the last lines say what to"))
			continue
		}
		d.screen.line("CHECK %-6s  nothing to object to", p.Name)
	}
}

// delete deletes the pods and looks for what is left of them.
func (d *demo) delete() {
	for _, p := range []*pod{d.web, d.client} {
		begin := time.Now()
		if err := p.node.runtime.Del(p.node.conflist, p.sandbox); err != nil {
			d.t.Fatalf("DEL of the pod %s: %v", p.Name, err)
		}
		d.screen.line("DEL   %-6s  %d ms", p.Name, time.Since(begin).Milliseconds())
	}
	var left []string
	for _, s := range d.spaces() {
		for _, item := range difference(d.before[s], inventory(d.t, s)) {
			left = append(left, s.Name+": "+item)
		}
		for _, device := range ours(d.t, s) {
			left = append(left, s.Name+": podtap's device "+device)
		}
	}
	for _, path := range lab.Locks(d.t) {
		left = append(left, "lock "+path)
	}
	if len(left) > 0 {
		d.problem("after DEL: " + strings.Join(left, ", "))
		d.screen.block(strings.Join(left, "\n"))
		return
	}
	d.screen.line("devices, qdiscs and filters of nodes and pods are as before ADD (%s, the bridge", bridge)
	d.screen.line("plugin's own, stays); no relay, no lock file")
}
