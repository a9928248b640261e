// Podtap is the CNI plugin: chained behind a pod's network plugin, or alone in a
// Multus attachment, it makes the taps that the pod's annotations and the network
// configuration ask for at ADD, and takes them down at DEL. This package has the
// verbs; what they want is read by pkg/cniconf, and made true by pkg/mirror.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	release "github.com/podtap/podtap/internal/version"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/mirror"
)

// about is what the plugin says of itself where nobody calls it as one.
func about() string {
	return "CNI plugin podtap " + release.String() + ": copies a pod's packets to a device of the node or to a collector; see https://github.com/podtap/podtap"
}

func main() {
	// A runtime that ended meanwhile reads neither result nor log. Writing to it
	// has to fail, not to kill us: ADD then undoes what it made.
	signal.Ignore(syscall.SIGPIPE)
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: anyNamespace(cmdAdd), Del: anyNamespace(cmdDel), Check: cmdCheck, GC: cmdGC, Status: cmdStatus,
	}, version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"), about())
}

// anyNamespace keeps skel from looking whether CNI_NETNS is the node's own network
// namespace. It would look when all is done, and every pod without taps would wait
// for it; podtap looks when it opens the pod's namespace, and before it does anything.
func anyNamespace(verb func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		args.NetnsOverride = "1"
		return verb(args)
	}
}

func owner(network string, args *skel.CmdArgs) mirror.Owner {
	return mirror.Owner{Source: mirror.SourceCNI, Network: network, ContainerID: args.ContainerID, IfName: args.IfName}
}

// cmdDel takes down what ADD made, by whatever version. It fails only on a
// configuration that cannot be decoded: an error at DEL would keep the plugins
// before this one from freeing the pod's address. What could not be removed is
// logged, and goes with the namespace or with the next DEL or GC.
func cmdDel(args *skel.CmdArgs) error {
	network, err := cniconf.ParseName(args.StdinData)
	if err != nil {
		return cniconf.Error(types.ErrDecodingFailure, err)
	}
	if err := remove(owner(network, args), args.Netns); err != nil {
		newLogger(cniconf.Log{}, network, args).Error("not everything of the pod's taps could be removed", "error", err)
	}
	return nil
}

func remove(o mirror.Owner, netns string) error {
	unlock, err := mirror.LockPod(o.ContainerID)
	if err != nil {
		return err
	}
	defer unlock()
	node, err := mirror.OpenNode()
	if err != nil {
		return err
	}
	defer node.Close()
	if netns == "" {
		return node.Remove(o)
	}
	pod, err := node.OpenPod(netns)
	if mirror.IsGone(err) {
		return node.Remove(o)
	}
	if err != nil {
		return errors.Join(err, node.Remove(o))
	}
	defer pod.Close()
	return pod.Remove(o)
}

// cmdGC removes what came from CNI under this network's name and is no longer valid.
func cmdGC(args *skel.CmdArgs) error {
	network, attachments, err := cniconf.ParseGC(args.StdinData)
	if err != nil {
		return cniconf.Error(types.ErrDecodingFailure, err)
	}
	var valid []mirror.Owner
	for _, a := range attachments {
		valid = append(valid, mirror.Owner{Source: mirror.SourceCNI, Network: network, ContainerID: a.ContainerID, IfName: a.IfName})
	}
	node, err := mirror.OpenNode()
	if err != nil {
		return cniconf.Error(types.ErrIOFailure, err)
	}
	defer node.Close()
	if err := node.RemoveStale(network, valid); err != nil {
		return cniconf.Error(types.ErrIOFailure, fmt.Errorf("collect stale taps: %w", err))
	}
	return nil
}

// cmdStatus fails only where taps cannot work on this kernel: a failing STATUS
// makes the whole node not ready.
func cmdStatus(*skel.CmdArgs) error {
	if err := mirror.Probe(); err != nil {
		return cniconf.Error(cniconf.CodeUnavailable, fmt.Errorf("taps cannot work on this node: %w", err))
	}
	return nil
}

// exists says whether there is something at a path.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
