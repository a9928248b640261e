#!/usr/bin/env bash
# A real Kubernetes on one Linux machine, for end-to-end tests. README.md has the
# picture; the subjects are in the files that are sourced below.
set -euo pipefail

usage() {
	cat <<'U'
cluster.sh - a real Kubernetes on this machine, built from Go modules and Debian
packages: etcd, API server, controller manager and scheduler on the host, and nodes
n1, n2, ... with containerd, kubelet and kube-proxy in namespaces of their own.
Needs root, Go and apt-get; takes nothing from an image registry.

  cluster.sh build [multus] [helm]  build everything; the first time takes about 10 min
                                    (multus: its thin plugin also, and its installer: $W/bin/multus,
                                    passthru-cni, thin_entrypoint; helm: $W/bin/helm)
  cluster.sh up [N]                 build if need be; start nodes n1..nN (default 1)
  cluster.sh status                 what runs, and the nodes as Kubernetes sees them
  cluster.sh down [-v]              stop everything; the nodes' disks and etcd go
                                    (-v: certificates and logs also; the builds stay)

  cluster.sh kubectl ARGUMENTS...   kubectl, as the cluster's administrator
  cluster.sh kubeconfig             path of the administrator's kubeconfig
  cluster.sh load IMAGE.tar...      import image archives into every running node
  cluster.sh sh NODE COMMAND...     run a command inside a node
  cluster.sh logs [NAME]            path of a log; without NAME those that there are

  cluster.sh restart NODE DAEMON    end containerd, kubelet or kube-proxy with SIGTERM
  cluster.sh kill NODE DAEMON       ... with SIGKILL; both come back within a second
  cluster.sh crash NODE             power cut: processes, network and memory of the node
                                    are gone, its disks stay; `up N` boots it again

A pod, and its traffic:

  cluster.sh up 2
  cluster.sh kubectl run web --image=lab.local/netutil:1 --image-pull-policy=Never -- serve :7000
  cluster.sh kubectl wait --for=condition=Ready pod/web
  cluster.sh kubectl exec web -- netutil tcp -bytes 1000000 127.0.0.1:7000

Without Kubernetes, containerd alone, up in two seconds:

  KUBE=0 cluster.sh up 1
  cluster.sh sh n1 crisb run web default podtap.io/taps='{veth: {}}'

Environment, for `up`; the other verbs remember what it was:

  W             where builds and state live        (~/.cache/podtap-cluster)
  KUBE          0: no Kubernetes, containerd only   (1)
  KUBEPROXY     0: no Service addresses             (1)
  CTRD          containerd 2.2, 1.7, or deb, Debian's own   (2.2)
  POD_MTU       the pods' MTU; the nodes' is 1500   (1500)
  CNI_CHAIN     '{...},{...}': plugins at the end of the nodes' CNI chain   (none)
  KUBELET_FLAGS more flags for the kubelets         (none)
  NAME          prefix of links, network namespaces and cgroups   (lab)
  NET NET6      the nodes' network /24, /64         (198.18.0  fd00:198:18)
  PODNET PODNET6    the pods', /24 and /64 of it for each node    (198.19  fd00:198:19)
  SVCNET SVCNET6    the Services'                   (198.18.96.0/20  fd00:198:20::/112)
  ETCDPORT      on 127.0.0.1, with the next one     (32379)
U
}

# `env -i cluster.sh` leaves no HOME, and a fresh root's PATH often lacks these.
export HOME=${HOME:-/root}
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SRC=$HERE/src
W=${W:-${XDG_CACHE_HOME:-$HOME/.cache}/podtap-cluster}
R=$W/run # everything that is not a build
export KUBECONFIG=$R/admin.kubeconfig

log() { echo "$(date +%T) $*" >&2; }
die() {
	log "cluster.sh: $*"
	exit 1
}

. "$HERE/settings.sh"
. "$HERE/build.sh"
. "$HERE/process.sh"
. "$HERE/pki.sh"
. "$HERE/control-plane.sh"
. "$HERE/network.sh"
. "$HERE/node-files.sh"
. "$HERE/node.sh"
. "$HERE/verbs.sh"

verb=${1:-}
[ $# = 0 ] || shift
case $verb in
'' | help | -h | --help)
	usage
	exit 0
	;;
up | build | down | crash) need_root; lock ;;
sh | load | restart | kill | __node) need_root ;;
esac
settings "$verb"
case $verb in
build) build "$@" ;;
up) up "$@" ;;
down) down "$@" ;;
status) status ;;
kubectl)
	[ -x "$W/bin/kubectl" ] || die "nothing is built yet: cluster.sh up"
	exec "$W/bin/kubectl" "$@" ;;
kubeconfig) echo "$KUBECONFIG" ;;
load) load "$@" ;;
sh) in_node "$@" ;;
logs) logs "$@" ;;
restart) signal TERM "$@" ;;
kill) signal KILL "$@" ;;
crash) crash "$@" ;;
__node) node_main "$@" ;;
*) die "no verb \"$verb\"; --help lists them" ;;
esac
