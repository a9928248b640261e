// Package drivers tests podtap behind the CNI drivers of the two container runtimes,
// go-cni of containerd and ocicni of CRI-O, in network namespaces. Each driver calls
// the chain in its own way: they hand annotations over, keep configurations and read
// results differently. Here a process on a node of the lab stands for the runtime,
// with its real driver and bridge, host-local and podtap as it would run them.
package drivers
