#!/usr/bin/env bash
# Proves podtap in a real cluster on this machine: see internal/e2e. `make e2e` builds
# what it needs.
#
#   scripts/e2e.sh [LANE...] [-FLAG...]
#
# A lane is a story of its own, which installs podtap and takes it off again:
#
#   cluster      what podtap promises on a good day, upgrades, conflicts; the default
#   containerd   the quick one, without Kubernetes
#   multus       podtap behind and under Multus
#   networks     other network plugins, address families and MTUs
#   faults       the bad days of a node
#   scale        a hundred pods at once
#   helm         podtap by its chart
#
# Flags, such as -failfast, go to the test. CTRD=1.7 or deb takes another containerd. A
# cluster that runs already is used, and left alone, but not one with another containerd than
# CTRD names; one that was started here is stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help)
	sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' scripts/e2e.sh
	exit
	;;
esac
cluster=scripts/cluster/cluster.sh
go=${GO:-go}

declare -A tests=([cluster]=InACluster [containerd]=WithContainerdAlone [multus]=WithMultus
	[networks]=BehindOtherNetworks [faults]=OnBadDays [scale]=AtScale [helm]=ByHelm)
lanes=()
while [ $# -gt 0 ] && [[ $1 != -* ]]; do
	[ -n "${tests[$1]:-}" ] || {
		echo "e2e.sh: there is no lane \"$1\", only: ${!tests[*]}" >&2
		exit 1
	}
	lanes+=("$1")
	shift
done
[ ${#lanes[@]} != 0 ] || lanes=(cluster)
# A kubelet would remove its sandboxes.
[[ ${#lanes[@]} = 1 || " ${lanes[*]} " != *" containerd "* ]] || {
	echo "e2e.sh: the lane containerd goes alone" >&2
	exit 1
}

running=$($cluster status 2>/dev/null || true)
if [[ $running != *" runs, "* ]]; then
	# The second is the tests' own, who leave it behind where they are killed.
	trap '$cluster down; ip netns del "${NAME:-lab}-collector" 2>/dev/null || true' EXIT
fi
for lane in multus helm; do
	[[ " ${lanes[*]} " != *" $lane "* ]] || $cluster build $lane
done
if [ "${lanes[*]}" = containerd ]; then KUBE=0 $cluster up 1; else KUBE=1 $cluster up 2; fi
for lane in "${lanes[@]}"; do
	if [ "$lane" != containerd ]; then $cluster load dist/podtap-image.tar; fi
	if [ "$lane" = cluster ]; then
		# Another podtap to upgrade to: another version is another plugin.
		DIST=dist/next VERSION=0.0.0-next scripts/image/build.sh
		export NEXT_IMAGE=podtap:0.0.0-next
	fi
	PODTAP_E2E=$lane $go run gotest.tools/gotestsum@v1.13.0 --format standard-verbose -- \
		-tags e2e -count=1 -timeout 40m -run "^TestPodtap${tests[$lane]}\$" ./internal/e2e "$@"
done
