// Command crisb drives a CRI runtime's pod sandboxes without a kubelet: the least that
// makes containerd run a CNI chain.
//
//	crisb version
//	crisb run NAME NAMESPACE [ANNOTATION=VALUE]...   prints the sandbox's id and addresses
//	crisb rm ID                                      stop and remove
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("crisb: ")
	endpoint := flag.String("e", "unix:///run/containerd/containerd.sock", "CRI endpoint")
	cgroup := flag.String("cgroup-parent", os.Getenv("CGROUP_PARENT"), "parent of the sandbox's cgroup")
	timeout := flag.Duration("timeout", time.Minute, "give up after")
	flag.Parse()
	conn, err := grpc.NewClient(*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := call(ctx, cri.NewRuntimeServiceClient(conn), *cgroup, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func call(ctx context.Context, c cri.RuntimeServiceClient, cgroup string, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "version":
		v, err := c.Version(ctx, &cri.VersionRequest{})
		if err == nil {
			fmt.Println(v.RuntimeName, v.RuntimeVersion)
		}
		return err
	case len(args) >= 3 && args[0] == "run":
		return run(ctx, c, cgroup, args[1], args[2], args[3:])
	case len(args) == 2 && args[0] == "rm":
		if _, err := c.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: args[1]}); err != nil {
			return err
		}
		_, err := c.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: args[1]})
		return err
	}
	return errors.New("usage: crisb version | run NAME NAMESPACE [ANNOTATION=VALUE]... | rm ID")
}

func run(ctx context.Context, c cri.RuntimeServiceClient, cgroup, name, namespace string, pairs []string) error {
	annotations := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok {
			return fmt.Errorf("%q is not ANNOTATION=VALUE", p)
		}
		annotations[k] = v
	}
	s, err := c.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{
		Metadata:    &cri.PodSandboxMetadata{Name: name, Namespace: namespace, Uid: "uid-" + name},
		Hostname:    name,
		Annotations: annotations,
		// A kubelet's labels; runtimes make CNI_ARGS of the metadata, tools look at these.
		Labels:       map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace},
		LogDirectory: "/var/log/pods/" + namespace + "_" + name,
		Linux:        &cri.LinuxPodSandboxConfig{CgroupParent: cgroup},
	}})
	if err != nil {
		return err
	}
	st, err := c.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: s.PodSandboxId})
	if err != nil {
		return err
	}
	out := []string{s.PodSandboxId, st.GetStatus().GetNetwork().GetIp()}
	for _, ip := range st.GetStatus().GetNetwork().GetAdditionalIps() {
		out = append(out, ip.GetIp())
	}
	fmt.Println(strings.Join(out, " "))
	return nil
}
