# shellcheck shell=bash
# What can be chosen, and that a running cluster keeps what it was started with.

SETTINGS=(NAME NET NET6 PODNET PODNET6 SVCNET SVCNET6 ETCDPORT CTRD KUBE KUBEPROXY POD_MTU CNI_CHAIN KUBELET_FLAGS)

# settings VERB: from the running cluster, else from the environment, else the
# defaults. `crash n1` must find the links of NAME=x `up` without being told again.
settings() {
	local k v
	if [ -f "$R/settings" ]; then
		while IFS='=' read -r k v; do
			[ "$1" != up ] || [ -z "${!k:-}" ] || [ "${!k}" = "$v" ] ||
				die "the cluster was started with $k=$v, not ${!k}: down first"
			printf -v "$k" %s "$v"
		done <"$R/settings"
	fi
	NAME=${NAME:-lab}
	# 198.18.0.0/15 is kept for tests of networks (RFC 2544), fd00::/8 for sites (RFC 4193).
	NET=${NET:-198.18.0}
	NET6=${NET6:-fd00:198:18}
	PODNET=${PODNET:-198.19}
	PODNET6=${PODNET6:-fd00:198:19}
	SVCNET=${SVCNET:-198.18.96.0/20}
	SVCNET6=${SVCNET6:-fd00:198:20::/112}
	ETCDPORT=${ETCDPORT:-32379}
	CTRD=${CTRD:-2.2}
	KUBE=${KUBE:-1}
	KUBEPROXY=${KUBEPROXY:-1}
	POD_MTU=${POD_MTU:-1500}
	CNI_CHAIN=${CNI_CHAIN:-}
	CNI_CHAIN=${CNI_CHAIN//$'\n'/ } # a setting is a line
	KUBELET_FLAGS=${KUBELET_FLAGS:-}
	# shellcheck disable=SC2034 # the other files use them
	BR=${NAME}br0 CP=$NET.1 # the host, on the nodes' network
	case $CTRD in 2.2 | 1.7 | deb) ;; *) die "CTRD is 2.2, 1.7 or deb, not $CTRD" ;; esac
	# The kernel takes 15 bytes; the longest name of ours is NAME, "br0" or "v99".
	[ ${#NAME} -le 12 ] || die "NAME=$NAME is too long: a link's name has 15 bytes at most"
	case $W in /run/* | /var/run/*) die "W=$W: nodes have a /run of their own and would not see it" ;; esac
}

settings_save() {
	local k
	for k in "${SETTINGS[@]}"; do echo "$k=${!k}"; done >"$R/settings"
}

# Where node I, or its pods, are.
node_ip() { echo "$NET.$((10 + $1))"; }
node_ip6() { echo "$NET6::$((10 + $1))"; }
pod_net() { echo "$PODNET.$1.0/24"; }
pod_net6() { echo "$PODNET6:$1::/64"; }
