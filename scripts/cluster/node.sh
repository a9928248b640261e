# shellcheck shell=bash
# A node: its namespaces, made from the host, and what process 1 does inside them.

# Where a node has a disk of its own in place of the host's directory.
NODE_DIRS=(var/lib/kubelet var/lib/containerd var/lib/cni var/log etc/cni etc/kubernetes etc/containerd opt/cni)

# node_up I
node_up() {
	local n=n$1
	node_net "$1"
	node_cgroups "$n"
	node_files "$1"
	rm -f "$R/$n/ready"
	W=$W daemon "$n" nsenter --net="/run/netns/$NAME-$n" \
		unshare --mount --pid --uts --ipc --fork --kill-child "$HERE/cluster.sh" __node "$1"
}

running_nodes() {
	local n
	for n in $(node_names); do ! alive "$n" || echo "$n"; done
}
node_names() { (cd "$R/pids" 2>/dev/null && ls -d n[0-9]* 2>/dev/null) || true; }

# hierarchies: each cgroup v1 hierarchy, and the v2 one, that the host has mounted
hierarchies() {
	awk '($3 == "cgroup" || $3 == "cgroup2") && $2 ~ "^/sys/fs/cgroup" {print $2}' /proc/mounts
}

# node_cgroups NAME: /NAME/nI in each hierarchy; the kubelet makes the pods' below it
node_cgroups() {
	local h d c
	for h in $(hierarchies); do
		mkdir -p "$h/$NAME/$1"
		for d in "$h" "$h/$NAME" "$h/$NAME/$1"; do
			# v2: a controller is there for the children only if the parent hands it on.
			[ ! -e "$d/cgroup.subtree_control" ] || for c in $(<"$d/cgroup.controllers"); do
				grep -qw "$c" "$d/cgroup.subtree_control" || {
					[ "$d" != "$h" ] || echo "$d/cgroup.subtree_control -$c" >>"$R/controllers"
					echo "+$c" >"$d/cgroup.subtree_control" 2>/dev/null || true
				}
			done
			# v1: a cpuset is born empty, and nothing can join it so.
			if [ -e "$d/cpuset.cpus" ] && [ -z "$(<"$d/cpuset.cpus")" ]; then
				cat "$d/../cpuset.cpus" >"$d/cpuset.cpus"
				cat "$d/../cpuset.mems" >"$d/cpuset.mems"
			fi
		done
	done
}

# cgroups_down PATH, in each hierarchy. A cgroup empties some time after its last
# process is gone.
cgroups_down() {
	local h
	for h in $(hierarchies); do
		[ ! -d "$h/$1" ] || (until_ok 10 "$h/$1 to empty" find "$h/$1" -depth -type d -exec rmdir {} +) || true
	done
}

# node_main I: process 1 of a node
node_main() {
	local i=$1 n=n$1 c
	hostname "$n"
	node_mounts "$n"
	# What the daemons use is counted apart from the pods (v1; in v2 they stay in the
	# cgroup that `up` ran in).
	for c in memory pids cpu cpuacct; do
		[ -d "/sys/fs/cgroup/$c" ] || continue
		mkdir -p "/sys/fs/cgroup/$c/$NAME/$n/system"
		echo $$ >"/sys/fs/cgroup/$c/$NAME/$n/system/cgroup.procs" || true
	done
	node_path
	supervise containerd containerd --config /etc/containerd/config.toml &
	until ctr version >/dev/null 2>&1; do sleep 0.1; done
	for c in "$W"/img/*.tar; do ctr -n k8s.io images import "$c"; done
	: >"$R/$n/ready"
	if [ "$KUBE" = 1 ]; then
		# shellcheck disable=SC2086 # flags are words
		supervise kubelet "$W/bin/kubelet" --config=/etc/kubernetes/kubelet.yaml --kubeconfig="$R/$n.kubeconfig" \
			--hostname-override="$n" --node-ip="$(node_ip "$i"),$(node_ip6 "$i")" --cert-dir=/var/lib/kubelet/pki $KUBELET_FLAGS &
		# conntrack 0: those are the whole machine's, not ours to set.
		[ "$KUBEPROXY" = 0 ] || supervise kube-proxy "$W/bin/kube-proxy" --kubeconfig="$R/kube-proxy.kubeconfig" \
			--hostname-override="$n" --proxy-mode=nftables --cluster-cidr="$PODNET.0.0/16,$PODNET6::/48" \
			--conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 --oom-score-adj=0 &
	fi
	while :; do # process 1 also reaps what its children leave behind
		wait || true
		sleep 1
	done
}

# node_mounts NAME: the host's tree, with the node's own parts over it
node_mounts() {
	local d=$R/$1 p
	mount -t proc proc /proc
	# A sysfs of this network namespace; the host's cgroups go back to their place in it.
	mount --rbind /sys/fs/cgroup "$d/cg"
	mount -t sysfs sysfs /sys
	mount --rbind "$d/cg" /sys/fs/cgroup
	umount -l "$d/cg"
	mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true
	mount -t overlay overlay -o "lowerdir=$W/deb/root/usr:/usr" /usr
	for p in "${NODE_DIRS[@]}"; do mount --bind "$d/$p" "/$p"; done
	mount --bind /etc/kubernetes/hosts /etc/hosts
	[ ! -e /etc/resolv.conf ] || mount --bind /etc/kubernetes/resolv.conf /etc/resolv.conf
	mount -t tmpfs tmpfs /run
	mkdir -p /run/containerd /run/netns /run/lock
	mount --make-rshared / # or mountPropagation: Bidirectional would reach nobody
}

# node_path: where a node looks for programs; its containerd before Debian's
node_path() {
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$W/bin
	[ "$CTRD" = deb ] || PATH=$W/bin/containerd-$CTRD:$PATH
}

# supervise NAME COMMAND...: again and again, as an init system would
supervise() {
	local what=$1
	shift
	while :; do
		"$@" >>"/var/log/$what.log" 2>&1 &
		echo $! >"/run/$what.pid"
		wait $! || true
		sleep 0.5
	done
}

# node_pid NAME: the host's pid of the node's process 1
node_pid() {
	alive "$1" || die "node $1 does not run"
	pgrep -P "$(pid_of "$1")"
}

# in_node NAME COMMAND...
in_node() {
	[ $# -ge 2 ] || die "sh NODE COMMAND..."
	local n=$1 pid
	shift
	pid=$(node_pid "$n") || exit 1
	node_path
	export CGROUP_PARENT=/$NAME/$n # for crisb, so that `down` finds its sandboxes' cgroups
	exec nsenter -t "$pid" -m -n -p -u -i "$@"
}
