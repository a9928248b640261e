# shellcheck shell=bash
# Everything that has to be fetched and built. Each part leaves a stamp that says
# what it was built from, and is left alone as long as that is the same.

CONTAINERD=v2.2.9
CNI_PLUGINS=v1.9.1
HELM=v3.22.0
# Unpacked into the nodes, never installed. runc is Debian's, for one that is built
# without libseccomp refuses the kubelet's default seccomp profile.
DEBS=(runc containerd iptables libip4tc2 libip6tc2 libxtables12 libnftnl11 libmnl0 libnfnetlink0
	libnetfilter-conntrack3 conntrack nftables libnftables1 libjansson4 libedit2 libseccomp2 busybox-static)
# What containerd can do without on a test's node costs build time and C libraries.
CTRD_TAGS=no_btrfs,no_devmapper,no_zfs,no_aufs
# What the netutil image's busybox answers to.
APPLETS=(sh ls cat echo sleep tar ip ping ping6 nc wget head tail grep sed ps kill hostname id mkdir rm touch
	sha256sum date dd seq env true false)

# CGO_ENABLED is part of the key of Go's build cache: another value builds all anew.
export GOFLAGS=-buildvcs=false GOTOOLCHAIN=local CGO_ENABLED=0

build() {
	tools
	mkdir -p "$W/bin/cni" "$W/img"
	build_debs
	build_tools
	build_containerd
	local plugins=github.com/containernetworking/plugins/plugins
	go_install cni "$W/bin/cni" $plugins/main/{bridge,loopback,macvlan,ptp}@$CNI_PLUGINS $plugins/ipam/host-local@$CNI_PLUGINS \
		$plugins/meta/{portmap,bandwidth,tuning,firewall}@$CNI_PLUGINS
	rm -f "$W/bin/cni/logcni" # of an older version of this script
	go_build crisb "$SRC/cri" "$W/bin/crisb" .
	local multus=gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd
	[[ " $* " != *" multus "* ]] || go_build multus-thin "$SRC/multus" "$W/bin/" $multus/{multus,passthru-cni,thin_entrypoint}
	[[ " $* " != *" helm "* ]] || go_install helm "$W/bin" helm.sh/helm/v3/cmd/helm@$HELM
	[ "$KUBE" = 0 ] || build_kube
}

# fresh STAMP WANT, mark STAMP WANT: by rename, for half a stamp is worse than none.
fresh() { [ -f "$1" ] && [ "$(<"$1")" = "$2" ]; }
mark() {
	echo "$2" >"$1.new"
	mv "$1.new" "$1"
}

sources() { find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum; }

# go_build STAMP MODULE-DIRECTORY OUTPUT PACKAGE...: from a module beside this script
go_build() {
	local stamp=$W/bin/.$1 dir=$2 out=$3 want
	shift 3
	want="$(sources "$dir") $(go env GOVERSION)"
	! fresh "$stamp" "$want" || return 0
	log "go build ${stamp##*/.}"
	(cd "$dir" && go build -trimpath -tags "$CTRD_TAGS" -ldflags "-s -w ${LDFLAGS_X:-}" -o "$out" "$@")
	mark "$stamp" "$want"
}

# go_install STAMP DIRECTORY PACKAGE@VERSION...: straight from the module proxy
go_install() {
	local stamp=$W/bin/.$1 out=$2
	shift 2
	! fresh "$stamp" "$*" || return 0
	log "go install ${stamp##*/.}"
	mkdir -p "$out"
	(cd / && GOBIN=$out go install -trimpath -tags "$CTRD_TAGS" -ldflags '-s -w' "$@")
	mark "$stamp" "$*"
}

build_debs() {
	local want="${DEBS[*]}, in /usr" d=$W/deb p c
	! fresh "$d/.stamp" "$want" || return 0
	log "Debian packages (unpacked, not installed)"
	rm -rf "$d"
	mkdir -p "$d/root" "$d/dl"
	(cd "$d/dl" && { apt-get download "${DEBS[@]}" >/dev/null 2>&1 || {
		apt-get update -qq
		apt-get download "${DEBS[@]}" >/dev/null
	}; })
	for p in "$d"/dl/*.deb; do dpkg -x "$p" "$d/root"; done
	# Some packages still unpack to /bin or /lib, which on the host is a link into /usr.
	for p in bin sbin lib; do
		[ ! -d "$d/root/$p" ] || cp -a "$d/root/$p" "$d/root/usr/"
	done
	# What the packages' maintainer scripts would have made.
	for c in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
		ln -sf xtables-nft-multi "$d/root/usr/sbin/$c"
	done
	mark "$d/.stamp" "$want"
}

build_tools() {
	local links=() a busybox=$W/deb/root/usr/bin/busybox want
	go_build tools "$SRC/tools" "$W/bin/" ./...
	want="$(sources "$W/bin/pause" "$W/bin/netutil" "$W/bin/mkimage") ${APPLETS[*]}"
	! fresh "$W/img/.stamp" "$want" || return 0
	log "images"
	for a in "${APPLETS[@]}"; do links+=(-link "/bin/$a=/bin/busybox"); done
	"$W/bin/mkimage" -o "$W/img/pause.tar" -tag lab.local/pause:1 -entrypoint /pause "$W/bin/pause=/pause"
	"$W/bin/mkimage" -o "$W/img/netutil.tar" -tag lab.local/netutil:1 -entrypoint /bin/netutil "${links[@]}" \
		"$W/bin/netutil=/bin/netutil" "$busybox=/bin/busybox"
	mark "$W/img/.stamp" "$want"
}

build_containerd() {
	local p=github.com/containerd/containerd
	case $CTRD in
	2.2) go_install containerd-2.2 "$W/bin/containerd-2.2" $p/v2/cmd/{containerd,ctr,containerd-shim-runc-v2}@$CONTAINERD ;;
	1.7) # has exclude lines in its go.mod, which `go install` refuses: a module of ours repeats them
		mkdir -p "$W/bin/containerd-1.7"
		go_build containerd-1.7 "$SRC/ctrd17" "$W/bin/containerd-1.7/" $p/cmd/{containerd,ctr,containerd-shim-runc-v2} ;;
	deb) ;; # is among the packages
	esac
}

# build_kube: Kubernetes of the version in src/kube/go.mod
build_kube() {
	local v c x=k8s.io/component-base/version
	v=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3} $1 == "k8s.io/kubernetes" {print $2}' "$SRC/kube/go.mod")
	# What a release's build writes into it; the kubelet and the API server compare it.
	LDFLAGS_X="-X $x.gitVersion=$v -X $x.gitMajor=1 -X $x.gitMinor=$(cut -d. -f2 <<<"$v") -X $x.gitTreeState=clean" \
		go_build kubeall "$SRC/kube" "$W/bin/kubeall" .
	for c in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
		ln -sfn kubeall "$W/bin/$c"
	done
}
