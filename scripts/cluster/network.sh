# shellcheck shell=bash
# The nodes' network: a bridge on the host, a veth pair to each node, and routes to
# the pods of each node over both families.

# name_is_free: a cluster of another $W may have our names, and we must not share them
name_is_free() {
	local owner
	owner=$(cat "/sys/class/net/$BR/ifalias" 2>/dev/null) || return 0
	[ "$owner" = "$W" ] ||
		die "$BR belongs to the cluster of W=${owner:-(unknown)}: end that, or choose another NAME, all the networks and ETCDPORT"
}

# mac ADDRESS: always the same one. A bridge that was given none takes the lowest of
# its ports', and a node that boots again a new one; the neighbours would talk to the
# old one for half a minute.
mac() {
	local a b c d
	IFS=. read -r a b c d <<<"$1"
	printf '02:00:%02x:%02x:%02x:%02x\n' "$a" "$b" "$c" "$d"
}

# host_net: the bridge, and the host's own addresses on it
host_net() {
	local s
	if [ ! -e "/sys/class/net/$BR" ]; then
		# No snooping: without a querier it forgets who wants neighbour solicitations.
		ip link add "$BR" address "$(mac "$CP")" type bridge mcast_snooping 0
		ip link set "$BR" alias "$W"
		for s in accept_dad accept_ra; do echo 0 >"/proc/sys/net/ipv6/conf/$BR/$s"; done
		ip addr add "$CP/24" dev "$BR"
		ip addr add "$NET6::1/64" dev "$BR"
		ip link set "$BR" up
	fi
	# What no node answers for must not leave this machine by its default route.
	for s in $(stray_nets); do ip route replace unreachable "$s" metric 9999; done
}

stray_nets() { echo 198.18.0.0/15 "$NET6::/48" "$PODNET6::/48" "$SVCNET6"; }

host_net_down() {
	local s
	ip link del "$BR" 2>/dev/null || true # with the routes to pods through it
	for s in $(stray_nets); do ip route del unreachable "$s" metric 9999 2>/dev/null || true; done
}

# node_net I: the node's network namespace and its eth0
node_net() {
	local i=$1 ns=$NAME-n$1
	node_net_down "n$i"
	ip netns add "$ns"
	# No duplicate address detection, which holds an address back for a second, and no
	# router advertisements. br_netfilter is on in clusters: kube-proxy needs it for
	# Services whose backend is on the same node.
	# shellcheck disable=SC2016 # the inner shell is to expand it
	nsenter --net="/run/netns/$ns" sh -c '
		cd /proc/sys/net
		for c in all default; do
			echo 0 >ipv6/conf/$c/accept_dad
			echo 0 >ipv6/conf/$c/accept_ra
		done
		echo 1 >ipv4/ip_forward
		echo 1 >ipv6/conf/all/forwarding
		for f in bridge/bridge-nf-call-iptables bridge/bridge-nf-call-ip6tables; do
			[ ! -e $f ] || echo 1 >$f
		done'
	ip link add "${NAME}v$i" type veth peer name eth0 address "$(mac "$(node_ip "$i")")" netns "$ns"
	ip link set "${NAME}v$i" master "$BR" addrgenmode none up
	ip -n "$ns" -batch - <<-B
	link set lo up
	addr add $(node_ip "$i")/24 dev eth0
	addr add $(node_ip6 "$i")/64 dev eth0
	link set eth0 up
	route add default via $CP
	route add default via $NET6::1
	B
}

# pod_routes N: from the host and from each running node to the pods of the others.
# All of them at each `up`, for a node that was there before learns of new ones so.
pod_routes() {
	local i j
	for i in $(seq "$1"); do
		printf 'route replace %s via %s\n' "$(pod_net "$i")" "$(node_ip "$i")" "$(pod_net6 "$i")" "$(node_ip6 "$i")"
	done | ip -batch -
	for j in $(running_nodes); do
		for i in $(seq "$1"); do
			[ "n$i" = "$j" ] ||
				printf 'route replace %s via %s\n' "$(pod_net "$i")" "$(node_ip "$i")" "$(pod_net6 "$i")" "$(node_ip6 "$i")"
		done | ip -n "$NAME-$j" -batch -
	done
}

# node_net_down NAME: the veth by its name first, for the kernel ends a namespace only
# some time after `ip netns del`, and its devices with it
node_net_down() {
	ip link del "${NAME}v${1#n}" 2>/dev/null || true
	[ ! -e "/run/netns/$NAME-$1" ] || ip netns del "$NAME-$1"
}
