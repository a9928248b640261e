package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/bench/report"
)

const (
	// warmUp is how many rounds do not count: they bring the programs into memory.
	warmUp = 3
	// rest comes before each case, so that what one leaves for the kernel to do
	// later is not done in the next one's time.
	rest = 20 * time.Millisecond
)

// bench is the cases and what was measured of them.
type bench struct {
	caller *caller
	starts []*trial
	cases  []*trial
	times  report.Times
}

// run does the rounds, each with every case once, in an order of its own.
func (b *bench) run(rounds int, seed uint64) error {
	all := append(append([]*trial(nil), b.starts...), b.cases...)
	order := rand.New(rand.NewPCG(seed, 0))
	for round := 1 - warmUp; round <= rounds; round++ {
		order.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, k := range all {
			time.Sleep(rest)
			if err := b.turn(k, round > 0); err != nil {
				return err
			}
		}
		if round > 0 && (round%10 == 0 || round == rounds) {
			progress("%d of %d rounds", round, rounds)
		}
	}
	return nil
}

// turn is that of one case in a round.
func (b *bench) turn(k *trial, counts bool) error {
	for _, verb := range k.verbs() {
		took, err := b.caller.call(k, verb)
		if err != nil {
			return err
		}
		if counts {
			series := report.Series{Case: k.Name, Verb: verb}
			b.times[series] = append(b.times[series], float64(took)/float64(time.Millisecond))
		}
	}
	return k.clear()
}

func (k *trial) verbs() []string {
	if k.at == nil {
		return []string{"VERSION"}
	}
	return []string{"ADD", "CHECK", "DEL"}
}

// clear removes the qdiscs that bandwidth's DEL leaves at the pod's port. They
// go with the port where the pod goes, but here it stays for the next ADD.
func (k *trial) clear() error {
	if k.plugin != bandwidth {
		return nil
	}
	handle, port := k.at.node.Netlink, k.at.node.Link(k.at.port)
	qdiscs, err := handle.QdiscList(port)
	if err != nil {
		return fmt.Errorf("list the qdiscs of %s: %w", k.at.port, err)
	}
	for _, q := range qdiscs {
		switch q.(type) {
		case *netlink.Tbf, *netlink.Ingress:
			if err := handle.QdiscDel(q); err != nil {
				return fmt.Errorf("delete the %s qdisc of %s: %w", q.Type(), k.at.port, err)
			}
		}
	}
	return nil
}
