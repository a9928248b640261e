#!/usr/bin/env bash
# Proves podtap in a real cluster on this machine: see internal/e2e. `make e2e` builds
# what it needs. With the argument `containerd` it is the quick lane, without Kubernetes.
# Further arguments go to the test, such as -failfast. A cluster that runs already is
# used, and left alone; one that was started here is stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=scripts/cluster/cluster.sh
go=${GO:-go}

lane=cluster test=TestPodtapInACluster
if [ "${1:-}" = containerd ]; then
	lane=containerd test=TestPodtapWithContainerdAlone
	shift
fi
running=$($cluster status 2>/dev/null || true)
if [[ $running != *" runs, "* ]]; then
	trap '$cluster down' EXIT
	if [ $lane = containerd ]; then KUBE=0 $cluster up 1; else $cluster up 2; fi
fi
if [ $lane = cluster ]; then
	# Another podtap to upgrade to: another version is another plugin.
	DIST=dist/next VERSION=0.0.0-next scripts/image/build.sh
	$cluster load dist/podtap-image.tar
	export NEXT_IMAGE=podtap:0.0.0-next
fi
export PODTAP_E2E=$lane
$go run gotest.tools/gotestsum@v1.13.0 --format standard-verbose -- -tags e2e -count=1 -timeout 40m -run "^$test\$" ./internal/e2e "$@"
