#!/bin/sh
# Builds podtap's image for this machine into dist/podtap-image.tar, and for each further
# architecture that is named into dist/podtap-image-ARCH.tar:
#
#   scripts/image/build.sh [ARCH...]
#
# DIST is another folder than dist, VERSION another version than the chart's. The same
# commit and Go version give the same bytes. On a node:
#
#   ctr -n k8s.io images import podtap-image.tar
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go}
# The chart's version is the tag that its DaemonSet asks for.
VERSION=${VERSION:-$(sed -n 's/^appVersion: *//p' deploy/helm/podtap/Chart.yaml)}
REVISION=${REVISION:-$(git rev-parse HEAD)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
native=$($GO env GOHOSTARCH)

# What somebody has set for their own builds would get into the bytes.
unset GOFLAGS GOAMD64 GOARM64 GOEXPERIMENT
export CGO_ENABLED=0 GOWORK=off
dist=${DIST:-dist}

mkdir -p "$dist"
(cd scripts/image && GOOS= GOARCH= $GO build -o "../../$dist/image" .)

for arch in "$native" "$@"; do
	out=$dist/podtap-image.tar
	[ "$arch" = "$native" ] || out=$dist/podtap-image-$arch.tar
	programs=$dist/linux-$arch
	mkdir -p "$programs"
	for program in podtapd=./cmd/podtapd podtap=./plugins/tap kubectl-podtap=./cmd/kubectl-podtap; do
		GOOS=linux GOARCH=$arch $GO build -trimpath -buildvcs=false \
			-ldflags "-s -w -buildid= -X github.com/podtap/podtap/internal/version.version=$VERSION" \
			-o "$programs/${program%%=*}" "${program#*=}"
	done
	"$dist/image" -arch "$arch" -version "$VERSION" -revision "$REVISION" -created "$SOURCE_DATE_EPOCH" \
		-license LICENSE -o "$out" "$programs/podtapd" "$programs/podtap" "$programs/kubectl-podtap"
	echo "$out: podtap:$VERSION, linux/$arch"
done
