#!/usr/bin/env bash
# Runs the tests that make network namespaces on a stock Debian kernel, in a machine that
# qemu emulates, so that they need neither that kernel here nor /dev/kvm:
#
#   scripts/kernel/test.sh [PACKAGE...]
#
# PACKAGE is a folder, such as pkg/mirror; without, it is all that have such tests. The
# tests are built here; the machine has no Go. It has of this one what the tests ask for:
# ip, tc, nft, tcpdump and tshark where they are installed.
#
#   FULL=1      all tests, also those that -short leaves out; takes much longer, and fifty
#               pods at once can be too many for an emulated machine's half a minute
#   RUN=REGEXP  only these tests; each package has to have one
#   KERNEL=...  another package than the one that linux-image-amd64 stands for
#   DEADLINE=S  for the whole machine, in seconds
#   DIST=...    another folder than dist, which the machine's files are put together in
#
# The kernel and busybox are Debian's, and are unpacked without being installed; they stay in
# ${XDG_CACHE_HOME:-~/.cache}/podtap-kernel. Remove that for newer ones.
set -euo pipefail
cd "$(dirname "$0")/../.."
GO=${GO:-go}
FULL=${FULL:-}
DEADLINE=${DEADLINE:-$([ "$FULL" ] && echo 7200 || echo 2400)}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/podtap-kernel
work=$(realpath -m "${DIST:-dist}")/kernel
root=$work/root
log=$work/console.log
export CGO_ENABLED=0 PATH=$PATH:/usr/sbin:/sbin

fail() {
	echo "test-kernel: $*" >&2
	exit 1
}

# need installs packages whose programs are missing, where it may.
need() {
	local missing=()
	while [ $# -gt 0 ]; do
		command -v "$1" >/dev/null || missing+=("$2")
		shift 2
	done
	[ ${#missing[@]} != 0 ] || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then fail "install ${missing[*]}"; fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# download unpacks the kernel and busybox into the cache.
download() {
	local package=${KERNEL:-} stamp=$cache/stamp
	if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "${package:-any}" ]; then return; fi
	if [ -z "$(apt-cache pkgnames busybox-static)" ] && [ "$(id -u)" = 0 ]; then apt-get update -qq; fi
	package=${package:-$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' || true)}
	[ "$package" ] || fail "apt knows no linux-image-amd64; say which kernel with KERNEL=linux-image-..., or try apt-get update"
	echo "== downloading $package"
	rm -rf "$cache"
	mkdir -p "$cache/unpacked"
	# As root apt reads the folder as another user, and complains where it cannot.
	(cd "$cache" && apt-get -qq -o APT::Sandbox::User=root download "$package" busybox-static)
	for deb in "$cache"/*.deb; do dpkg -x "$deb" "$cache/unpacked"; done
	rm "$cache"/*.deb
	echo "${KERNEL:-any}" >"$stamp"
}

# tool copies a program of this machine, and the libraries that it is linked with.
tool() {
	local path
	path=$(command -v "$1") || return 0
	install -D "$path" "$root/tools/bin/$1"
	{ ldd "$path" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
		install -D "$library" "$root$library"
	done
}

# build makes the machine's files in $root.
build() {
	local release=$1 modules=/lib/modules/$1 net=lib/modules/$1/kernel/drivers/net package
	shift
	rm -rf "$work"
	mkdir -p "$root"/{bin,sbin,dev,proc,sys,tmp,run,root,etc,var/lib,tools/bin,plugins,"lib/modules/$release/kernel"/{net,lib,crypto,drivers/net}}
	cp scripts/kernel/init "$root/init"
	cp "$busybox" "$root/bin/busybox"
	"$busybox" --list | grep -vx busybox | while read -r name; do ln -sf busybox "$root/bin/$name"; done
	ln -s ../bin/busybox "$root/sbin/modprobe" # where the kernel looks for it
	printf '%s\n' root:x:0:0::/root:/bin/sh tcpdump:x:100:100::/:/bin/sh nobody:x:65534:65534::/:/bin/sh >"$root/etc/passwd"
	printf '%s\n' root:x:0: tcpdump:x:100: nogroup:x:65534: >"$root/etc/group"

	cp -r "$cache/unpacked$modules/kernel/"{net,lib} "$root$modules/kernel/"
	cp "$cache/unpacked$modules/kernel/crypto/"crc32c_generic.ko* "$root$modules/kernel/crypto/" # for nf_tables
	cp "$cache/unpacked/$net/"*.ko* "$root/$net/"
	cp -r "$cache/unpacked/$net/"{vxlan,ipvlan} "$root/$net/"
	cp "$cache/unpacked$modules/"modules.builtin* "$cache/unpacked$modules/modules.order" "$root$modules/"
	"$busybox" depmod -b "$root" "$release"
	printf '%s\n' veth bridge macvlan ifb tun vxlan 8021q dummy sch_ingress cls_u32 cls_bpf act_mirred act_gact act_skbedit >"$root/modules"

	# A shell of busybox's would take its own ip and tc for those that the tests call.
	for program in sh ip tc bridge nft tcpdump tshark sleep timeout; do tool "$program"; done
	if [ -e "$root/tools/bin/sh" ]; then ln -sf ../tools/bin/sh "$root/bin/sh"; fi

	$GO build -o "$root/plugins/" tool
	$GO build -o "$root/plugins/podtap" ./plugins/tap
	for package in "$@"; do
		(
			cd "$package" # which may be a module of its own, with plugins of its own
			[ ! -e go.mod ] || $GO build -o "$root/plugins/" tool
			$GO test -c -ldflags '-s -w' -o "$root/podtap/$package/tests" .
		)
		[ ! -d "$package/testdata" ] || cp -r "$package/testdata" "$root/podtap/$package/"
	done
	cp README.md "$root/podtap/"
	printf '%s\n' "$@" >"$root/packages"
	printf '%s\n' "SHORT=$([ "$FULL" ] || echo 1)" "RUN='${RUN:-}'" PODTAP_LAB_PLUGINS=/plugins >"$root/settings"
	(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$work/initrd"
	rm -rf "$root"
}

need qemu-system-x86_64 qemu-system-x86 dpkg dpkg
download
busybox=$cache/unpacked/bin/busybox
kernel=$(ls "$cache"/unpacked/boot/vmlinuz-*)
if [ $# = 0 ]; then
	# Their TestMain is, or calls, the lab's Main.
	mapfile -t packages < <(grep -rlE --include='*_test.go' '\bMain\((m\.Run|func\(\) int)' api cmd internal pkg plugins | xargs -n 1 dirname | sort -u)
	set -- "${packages[@]}"
fi
echo "== building the tests of $*"
build "${kernel##*/vmlinuz-}" "$@"

echo "== starting ${kernel##*/}"
begin=$SECONDS
# What ends the machine early, the summary tells by what is missing.
timeout --kill-after=10 "$DEADLINE" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -smp 2 -cpu max -m 3072 \
	-display none -vga none -serial stdio -monitor none -no-reboot -nic none -kernel "$kernel" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet panic=-1 rdinit=/init" </dev/null | sed -u 's/\r$//' | tee "$log" || true
awk -v packages="$*" -v seconds=$((SECONDS - begin)) -f scripts/kernel/summary.awk "$log"
