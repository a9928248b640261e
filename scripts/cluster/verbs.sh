# shellcheck shell=bash
# The verbs that are more than a line.

# up [N]
up() {
	local n=${1:-1} i booting=()
	[[ $n =~ ^[1-9][0-9]?$ ]] || die "up takes a number of nodes from 1 to 99, not \"$n\""
	build
	name_is_free
	remember_machine
	settings_save
	host_net
	if [ "$KUBE" = 1 ]; then
		log "control plane"
		pki "$n"
		control_plane
		node_objects "$n"
	fi
	log "nodes"
	for i in $(seq "$n"); do
		! alive "n$i" || continue
		booting+=("n$i")
		[ "$KUBE" = 0 ] || node_booting "n$i"
		node_up "$i"
	done
	pod_routes "$n"
	for i in "${booting[@]}"; do until_ok 60 "containerd on $i" test -e "$R/$i/ready"; done
	if [ "$KUBE" = 0 ]; then
		log "up, containerd only"
		return
	fi
	# shellcheck disable=SC2046 # node names are words
	"$W/bin/kubectl" wait --for=condition=Ready --timeout=120s $(seq -f 'node/n%g' "$n") >/dev/null ||
		die "not all nodes are ready; see: cluster.sh logs"
	[ "$KUBEPROXY" = 0 ] || for i in $(running_nodes); do
		until_ok 30 "kube-proxy on $i" service_answers "$i"
	done
	until_ok 60 "the default service account" "$W/bin/kubectl" -n default get serviceaccount default
	log "up: export KUBECONFIG=$KUBECONFIG"
}

# service_answers NODE: the API server does, on its Service's address
service_answers() {
	nsenter --net="/run/netns/$NAME-$1" timeout 1 bash -c "echo >/dev/tcp/${SVCNET%.*}.1/443"
}

# remember_machine: what `down` has to put back
remember_machine() {
	local s p d
	mkdir -p "$R"
	[ ! -e "$R/sysctls" ] || return 0
	# Mount points for what the nodes have of their own, parents first.
	: >"$R/made"
	for d in "${NODE_DIRS[@]}"; do
		p=
		for s in ${d//\// }; do
			p=$p/$s
			[ -d "$p" ] || { mkdir "$p" && echo "$p" >>"$R/made"; }
		done
	done
	# Without this file, as in some images, containerd starts no pod.
	[ -e /etc/hosts ] || { : >/etc/hosts && echo /etc/hosts >>"$R/made"; }
	# `ip netns add` makes the directory a mount of its own.
	mountpoint -q /run/netns || echo netns >>"$R/made"
	# The kubelet sets these for the whole machine.
	for s in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do
		p=/proc/sys/${s//.//}
		[ ! -e "$p" ] || echo "$p $(<"$p")"
	done >"$R/sysctls"
}

restore_machine() {
	local p v
	[ ! -f "$R/sysctls" ] || while read -r p v; do echo "$v" >"$p" || true; done <"$R/sysctls"
	[ ! -f "$R/controllers" ] || while read -r p v; do echo "$v" >"$p" 2>/dev/null || true; done <"$R/controllers"
	[ ! -f "$R/made" ] || for p in $(tac "$R/made"); do
		if [ -f "$p" ]; then
			[ -s "$p" ] || rm "$p"
		elif [ "$p" != netns ]; then
			rmdir "$p" 2>/dev/null || true
		elif mountpoint -q /run/netns && [ -z "$(ls /run/netns)" ]; then # others may use it by now
			umount -l /run/netns
			rmdir /run/netns || true
		fi
	done
	rm -f "$R/sysctls" "$R/controllers" "$R/made"
}

# down [-v]
down() {
	local n
	[ -d "$R" ] || return 0
	# Nodes first: a kubelet without an API server would only fill its log.
	for n in $(node_names) kube-scheduler kube-controller-manager kube-apiserver etcd; do stop "$n"; done
	if [ -f "$R/settings" ]; then # else it is not up, and what has these names is another's
		for n in $(node_names); do node_net_down "$n"; done
		host_net_down
		cgroups_down "$NAME"
	fi
	restore_machine
	if [ "${1:-}" = -v ]; then
		rm -rf "$R"
	else
		rm -rf "$R/etcd" "$R/pids" "$R"/n[0-9]*/ "$R/settings"
	fi
	log "down"
}

status() {
	local n
	for n in $(cd "$R/pids" 2>/dev/null && ls); do
		if alive "$n"; then echo "$n runs, pid $(pid_of "$n")"; else echo "$n is DEAD"; fi
	done
	! alive kube-apiserver || "$W/bin/kubectl" get nodes -o wide || true
}

# load IMAGE.tar...: through stdin, for a node's /run and /var/log hide the host's
load() {
	local n f pids=() failed=0
	[ $# -ge 1 ] || die "load IMAGE.tar..."
	[ -n "$(running_nodes)" ] || die "no node runs"
	for f; do [ -r "$f" ] || die "cannot read $f"; done
	for n in $(running_nodes); do
		for f; do
			import "$n" "$f" &
			pids+=($!)
		done
	done
	for n in "${pids[@]}"; do wait "$n" || failed=1; done
	[ $failed = 0 ] || die "not all images were imported"
}

# import NODE FILE, which is quiet unless it fails
import() {
	local out
	out=$(in_node "$1" ctr -n k8s.io images import - <"$2" 2>&1) || {
		log "$1: $2: $out"
		return 1
	}
}

# logs [NAME]: component, node, or node/daemon
logs() {
	local f
	case ${1:-} in
	'')
		find "$R/log" "$R"/n[0-9]*/var/log -maxdepth 1 -name '*.log' 2>/dev/null | LC_ALL=C sort || true
		return
		;;
	*/*) f=$R/${1%%/*}/var/log/${1#*/}.log ;;
	*) f=$R/log/$1.log ;;
	esac
	[ -e "$f" ] || die "no log $1; \"cluster.sh logs\" lists them"
	echo "$f"
}

# signal NAME NODE DAEMON
signal() {
	[ $# = 3 ] || die "NODE and DAEMON: n1 containerd, for example"
	case $3 in containerd | kubelet | kube-proxy) ;; *) die "DAEMON is containerd, kubelet or kube-proxy" ;; esac
	# shellcheck disable=SC2016 # the node's shell is to expand it
	(in_node "$2" sh -c 'kill -s "$1" "$(cat "/run/$2.pid")"' sh "$1" "$3") || die "$3 does not run on $2"
}

crash() {
	[ $# = 1 ] || die "crash NODE"
	alive "$1" || die "node $1 does not run"
	stop "$1"
	node_net_down "$1"
	# A machine's reboot leaves no cgroups. With them the kubelet would try for 12 s to
	# read the containers that were in them.
	cgroups_down "$NAME/$1"
}
