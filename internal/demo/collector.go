package demo

import (
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// arrival is a copy as the collector received it.
type arrival struct {
	at    time.Time
	vni   uint32
	frame []byte
}

// collector receives copies on VXLAN's UDP port, without a VXLAN device: any
// program can.
type collector struct {
	mu       sync.Mutex
	arrivals []arrival
	strange  int // datagrams that are not VXLAN
}

func listen(t lab.T, host *lab.Host) *collector {
	c := &collector{}
	conn := host.UDP(net.JoinHostPort(host.IPv4(), strconv.Itoa(tap.DefaultPort)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return // closed
			}
			c.receive(time.Now(), b[:n])
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return c
}

func (c *collector) receive(at time.Time, datagram []byte) {
	p := gopacket.NewPacket(datagram, layers.LayerTypeVXLAN, gopacket.Default)
	vxlan, ok := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok || !vxlan.ValidIDFlag {
		c.strange++
		return
	}
	c.arrivals = append(c.arrivals, arrival{at, vxlan.VNI, vxlan.LayerPayload()})
}

// received is what has arrived so far.
func (c *collector) received() (arrivals []arrival, strange int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]arrival(nil), c.arrivals...), c.strange
}

// settle waits for a number of copies, for as long as patience at most, and then
// until nothing has come for a while.
func (c *collector) settle(count int) {
	const quiet, patience = 100 * time.Millisecond, 3 * time.Second
	seen, changed := -1, time.Now()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		arrivals, _ := c.received()
		if len(arrivals) != seen {
			seen, changed = len(arrivals), time.Now()
		}
		if seen >= count && time.Since(changed) > quiet {
			return
		}
	}
}
